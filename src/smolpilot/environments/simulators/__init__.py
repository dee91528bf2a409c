"""Simulators by name, each a file that imports the standard library, numpy and its simulation only.

They run here or in an interpreter of their own, started by `worker.py`; so nothing in this folder imports smolpilot.
A file has PINS and NEEDS (its packages) and SIMULATION (its class). EXTRA: False where those packages do not suit
smolpilot's. EACH: how many are made in a worker by default. EXPERT: the simulation has an `expert`. RECORDED:
so many episodes that people played, which its `begin_recorded` and `replay` know.
"""
