"""Robot setups: a profile and how to reach this arm."""
