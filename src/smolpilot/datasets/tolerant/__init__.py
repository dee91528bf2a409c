"""A dataset folder as it is, damaged or not: what can be read is read, the rest is a finding."""
