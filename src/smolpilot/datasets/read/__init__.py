"""Frames and action chunks of a dataset, in any order, decoded ahead."""
