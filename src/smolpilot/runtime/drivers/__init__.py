"""Drivers of arms."""
