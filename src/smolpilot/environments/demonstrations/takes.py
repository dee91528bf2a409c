"""Demonstrations written one after the other, until there are enough: what every recording of an expert shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import TASK

from .summary import RecordSummary

if TYPE_CHECKING:
    from smolpilot.datasets import DatasetWriter

type Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Take:
    """One demonstration: its frames, none where it is not to be kept, and whether it succeeded."""

    frames: Sequence[Mapping[str, Any]]
    success: bool
    number: int = 0  # its seed, or its number among recorded episodes


@dataclass
class Tally:
    """What came of all that were played, and of those that were kept: numbers, successes, lengths, instructions."""

    tried: int = 0
    succeeded: int = 0
    numbers: list[int] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)

    def summary(self, path: str | Path, env: str, robot_type: str, rate: float, **more: Any) -> RecordSummary:
        """The same as a command prints it."""
        frames, episodes = sum(self.lengths), len(self.lengths)
        return RecordSummary(
            path=str(path), env=env, robot_type=robot_type, episodes=episodes, frames=frames, rate=rate,
            seconds=frames / rate, shortest=min(self.lengths), longest=max(self.lengths), tried=self.tried,
            succeeded=self.succeeded, discarded=self.tried - episodes, instructions=dict(sorted(self.texts.items())),
            **more,
        )  # fmt: skip


def write_takes(
    writer: DatasetWriter, takes: Iterable[Take], episodes: int, *, patience: int,
    give_up: Callable[[], DatasetError], progress: Progress | None = None,
) -> Tally:  # fmt: skip
    """Write takes until there are `episodes`; raises `give_up()` where more than `patience` in a row are not kept."""
    tally, last = Tally(), 0
    for take in takes:
        tally.tried, tally.succeeded = tally.tried + 1, tally.succeeded + take.success
        if not take.frames:
            if tally.tried - last > patience:
                raise give_up()
            continue
        last = tally.tried
        for frame in take.frames:
            writer.add_frame(frame)
        writer.end_episode()
        tally.numbers.append(take.number)
        tally.successes.append(take.success)
        tally.lengths.append(len(take.frames))
        tally.texts[take.frames[0][TASK]] += 1
        if progress is not None:
            progress("recording", len(tally.lengths), episodes)
        if len(tally.lengths) == episodes:
            break
    return tally
