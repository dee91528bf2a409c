"""Whether two datasets hold the same: digests per episode, and where they begin to differ."""
