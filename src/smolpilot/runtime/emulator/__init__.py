"""A servo bus behind a pty that answers as an arm's does."""
