"""Checkpoints: bundles, LeRobot's folders, adapters; weights, digests, processors."""
