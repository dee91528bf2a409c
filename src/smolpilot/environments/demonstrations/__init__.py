"""Demonstrations of an environment's own expert, as datasets."""
