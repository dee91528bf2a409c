"""Which data a policy and its ancestors were trained on, by the lineage its bundle keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from smolpilot.datasets.splits import episode_ranges

from .form import Form, real

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetMeta

Lineage = Mapping[str, Any]


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


def trained_fingerprint(lineage: Lineage) -> str | None:
    """The fingerprint of the dataset that the policy was last trained on."""
    dataset = lineage.get("dataset") or {}
    found = lineage.get("dataset_fingerprint") or dataset.get("fingerprint")
    return str(found) if found else None


def trained_rate(lineage: Lineage, rate: float | None) -> float | None:
    """Frames per second of the recordings that the policy was trained on; `rate`: its profile's, for older bundles."""
    found = lineage.get("fps")
    return float(found) if isinstance(found, int | float) and found > 0 else rate


def trainings_on(fingerprint: str, lineage: Lineage) -> list[Lineage]:
    """The trainings on one dataset of the policy and its ancestors, the newest first, as far as they are known."""
    return [entry for entry in _generations(lineage) if trained_fingerprint(entry) == fingerprint]


def seen_episodes(meta: DatasetMeta, trainings: Sequence[Lineage]) -> set[int] | None:
    """The episodes that these trainings on the dataset saw; None without any, and when one does not say."""
    seen: set[int] = set()
    for entry in trainings:
        trained, held_out = entry.get("trained_episodes"), entry.get("held_out_episodes")
        if trained is not None:
            seen |= {int(index) for index in trained}
        elif held_out is not None:
            seen |= {episode.index for episode in meta.episodes} - {int(index) for index in held_out}
        else:
            return None
    return seen if trainings else None


def fact_text(value: Any) -> str:
    """A fact of a lineage on one line; lists of episodes as ranges."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {fact_text(inner)}" for key, inner in value.items())
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return episode_ranges(value) or "none"
    return str(value)


def _generations(lineage: Lineage) -> Iterator[Lineage]:
    entry: Any = lineage
    while isinstance(entry, Mapping):
        yield entry
        # The first dataset of a mixture is the entry's own.
        yield from (entry.get("mixture") or [])[1:]
        entry = entry.get("parent")
