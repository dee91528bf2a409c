"""Feetech STS3215 servos: SO-100 and SO-101."""
