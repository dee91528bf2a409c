"""Is it the machine, the data or the model? `doctor` and `train --overfit`."""
