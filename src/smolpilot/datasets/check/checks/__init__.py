"""The checks of `dataset check`, one subject per file. `check.run` lists them."""
