"""Whether an environment can be trusted with these packages and settings: demonstrations are replayed in it first."""
