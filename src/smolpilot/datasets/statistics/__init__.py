"""Statistics of a dataset: stored ones, computed ones, and how far honest writers may differ."""
