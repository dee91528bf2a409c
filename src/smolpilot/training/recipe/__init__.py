"""One recipe trained with several seeds: what is the recipe's, and what is chance."""
