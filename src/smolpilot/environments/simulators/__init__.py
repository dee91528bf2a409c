"""Simulators by name, each a file that imports the standard library, numpy and its simulation only.

They run here or in an interpreter of their own, started by `worker.py`; so nothing in this folder imports smolpilot.
"""
