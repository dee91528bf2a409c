"""A run: set up, trained, checkpointed, resumed, watched."""
