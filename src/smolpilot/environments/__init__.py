"""Environments behind one contract: the tabletop, PushT, anything from gymnasium."""
