"""Writing a dataset."""
