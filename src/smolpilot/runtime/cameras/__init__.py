"""Cameras of a robot setup."""
