"""Milliseconds per chunk, policies side by side."""
