"""Which data a policy and its ancestors were trained on, by the lineage that it states (`spec.facts.lineage`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from smolpilot.common.errors import UsageError
from smolpilot.robots import JointLayout, RobotProfile
from smolpilot.robots.layout import FrameLayout, Named, frame_layout
from smolpilot.robots.units import SPELLINGS

if TYPE_CHECKING:
    from .policy import PolicySpec

type Lineage = Mapping[str, Any]


class Numbered(Protocol):
    """What has a number, such as an episode."""

    @property
    def index(self) -> int: ...


class TrainedDataset(Named, Protocol):
    """What is read of a dataset here; its metadata has it."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def episodes(self) -> Sequence[Numbered]: ...


SAME_RATE = 0.05  # relative; 29.97 and 30 frames per second are one rate


def trained_fingerprint(lineage: Lineage) -> str | None:
    """The fingerprint of the dataset that the policy was last trained on."""
    dataset = lineage.get("dataset") or {}
    found = lineage.get("dataset_fingerprint") or dataset.get("fingerprint")
    return str(found) if found else None


def trained_rate(lineage: Lineage, rate: float | None) -> float | None:
    """Frames per second of the datasets that the policy was trained on; `rate`: its profile's, for older bundles."""
    found = lineage.get("fps")
    return float(found) if isinstance(found, int | float) and found > 0 else rate


def rate_of(spec: PolicySpec) -> float | None:
    """Frames per second that a policy was trained at: as it says, else by its lineage, else its robot's."""
    return spec.rate or trained_rate(spec.facts.lineage, spec.profile.rate if spec.profile is not None else None)


def trainings_on(fingerprint: str, lineage: Lineage) -> list[Lineage]:
    """The trainings on one dataset of the policy and its ancestors, the newest first, as far as they are known."""
    return [entry for entry in _generations(lineage) if trained_fingerprint(entry) == fingerprint]


def seen_episodes(meta: TrainedDataset, trainings: Sequence[Lineage]) -> set[int] | None:
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


def layout_for(
    profile: RobotProfile | None, lineage: Lineage, meta: TrainedDataset, units: Mapping[str, str] | None = None
) -> FrameLayout:
    """Names and units of a dataset's dimensions beside a trained policy: given ones, else what its training was told.

    The latter holds for the very dataset that it was trained on. UsageError for units without a robot profile.
    """
    if units and profile is None:
        raise UsageError(
            "--units is given, but the policy has no robot profile: its own units are unknown.",
            fix="train with --robot PROFILE, or leave --units out",
        )
    if units:
        return frame_layout(meta, profile, units)
    trainings = trainings_on(meta.fingerprint, lineage)
    told = (trainings[0].get("dataset_units") if trainings else None) or {}
    pairs = (("state", meta.state_names), ("action", meta.action_names))
    units_of = {what: tuple(SPELLINGS.get(unit, unit) for unit in told.get(what) or ()) or None for what, _ in pairs}
    return FrameLayout(*(JointLayout(tuple(names), units_of[what]) for what, names in pairs))


def differs(rate: float, other: float) -> bool:
    """Whether two rates are not one."""
    return abs(rate - other) > SAME_RATE * min(rate, other)


def other_rate(trained: float | None, own: float, who: str = "the policy") -> str | None:
    """What a dataset of `own` frames per second means for who was trained at another rate; None where they agree."""
    if trained is None or not differs(own, trained):
        return None
    times = own / trained
    slower = f"{times:.2f} times as many frames a second, so each motion is that much slower per frame"
    faster = f"{1 / times:.2f} times as few frames a second, so each motion is that much faster per frame"
    return f"{who} was trained at {trained:g} per second, this dataset has {own:g}: {slower if times > 1 else faster}"


def same_speed(trained: float) -> str:
    """What to do about it where errors are to be measured."""
    return f"score on datasets of {trained:g} per second: these errors compare two speeds"


def _generations(lineage: Lineage) -> Iterator[Lineage]:
    entry: Any = lineage
    while isinstance(entry, Mapping):
        yield entry
        # The first dataset of a mixture is the entry's own.
        yield from (entry.get("mixture") or [])[1:]
        entry = entry.get("parent")
