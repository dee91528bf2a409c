"""Optimizer, schedule, precision, LoRA, averaged weights, what fits into memory."""
