"""A policy's chunks beside held-out episodes, in robot units."""
