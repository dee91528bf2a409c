"""Closed loop in an environment: success counted over fresh episodes."""
