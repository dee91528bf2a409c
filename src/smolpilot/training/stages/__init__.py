"""Several tasks in sequence: a plan of stages, its runs, and what each stage left of the tasks before it."""

from __future__ import annotations

from .plan import Gate, Plan, Scoring, Simulation, Stage, load_plan

__all__ = ["Gate", "Plan", "Scoring", "Simulation", "Stage", "load_plan"]
