"""The lineage that a bundle keeps: its form on disk. What it tells is in `contracts.trained_on`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from smolpilot.contracts.trained_on import Lineage, seen_episodes, trained_fingerprint, trained_rate, trainings_on
from smolpilot.datasets.splits import episode_ranges
from smolpilot.smolvla.config.settings_form import Form, real

__all__ = [
    "Lineage",
    "LineageForm",
    "fact_text",
    "seen_episodes",
    "trained_fingerprint",
    "trained_rate",
    "trainings_on",
]


class _Dataset(Form):
    name: str | None = None
    fingerprint: str | None = None


class _Training(Form):
    """What is read of one training; a bundle may say more."""

    dataset: _Dataset | None = None
    dataset_fingerprint: str | None = None
    fps: Annotated[float, real(0, 1e9)] | None = None
    trained_episodes: list[int] | None = None
    held_out_episodes: list[int] | None = None
    dataset_units: dict[str, list[str] | None] | None = None
    mixture: list[_Training] | None = None
    parent: _Training | str | None = None


class LineageForm(Form):
    """The lineage in `smolpilot.json`."""

    lineage: _Training | None = None


def fact_text(value: Any) -> str:
    """A fact of a lineage on one line; lists of episodes as ranges."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {fact_text(inner)}" for key, inner in value.items())
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return episode_ranges(value) or "none"
    return str(value)
