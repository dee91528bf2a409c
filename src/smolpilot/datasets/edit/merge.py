"""merge(): several datasets of one robot as one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.datasets.copy import CopyReport, EpisodePlan, Progress, copy_episodes
from smolpilot.datasets.copy.options import EditSettings
from smolpilot.datasets.copy.source import require_same_kind, unlike
from smolpilot.datasets.format.files import read_json
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.simulation_record import SimulationRecord, drawn_otherwise, otherwise_text

from .history import left_out, of_union


def merge(
    sources: Sequence[DatasetMeta],
    dst: str | Path,
    settings: EditSettings | None = None,
    *,
    robot_type: str | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Write the episodes of all sources, in order, as the new folder `dst`; equal instructions become one task.

    The sources may be of different versions; a single one is numbered anew. `robot_type` is for robots whose names
    differ though they are the same: it becomes the result's. Raises UsageError for no source or one given twice,
    DatasetError naming the first difference in rate, robot, features or joint names, and for recordings of simulations
    that draw or compute otherwise.
    """
    if not sources:
        raise UsageError("There is nothing to merge.", expected="DST SRC1 SRC2 …")
    roots = [meta.root for meta in sources]
    twice = next((root for root, count in Counter(roots).items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice.", expected="each dataset once: its episodes would be doubled")
    require_same_kind(sources)  # before the robot's name, which --robot-type can settle
    named = robot_type or sources[0].robot_type or None
    for other in sources[1:]:
        # Who is silent about the robot takes the name of those who are not.
        named = named or other.robot_type or None
        if robot_type is None and sources[0].robot_type and other.robot_type not in (None, "", named):
            fix = "If it is the same robot under two names, say its name: --robot-type NAME."
            raise unlike(sources[0], other, "robot", named, other.robot_type, fix=fix)
    info = {**read_json(sources[0].root / "meta" / "info.json", "dataset description"), "robot_type": named}
    # Numbers of the first source alone say nothing about the union.
    info.pop("splits", None)
    plans = [EpisodePlan(meta, episode.index) for meta in sources for episode in meta.episodes]
    options = (settings or EditSettings()).copying(sources)
    files = of_union(list(sources), robot_type=named, **left_out(*sources)) | _simulation(sources)
    return copy_episodes(plans, dst, options, info=info, renumber=True, files=files, progress=progress)


def _simulation(sources: Sequence[DatasetMeta]) -> dict[str, str]:
    """What the result says of the simulation that it was recorded in, as a file; nothing where no source says it.

    The first source's would otherwise be taken for all. DatasetError where they were drawn or computed otherwise: a
    policy is not to learn from both.
    """
    records = [SimulationRecord.of(meta.root) for meta in sources]
    known = [(meta, record) for meta, record in zip(sources, records, strict=True) if record is not None]
    for other, record in known[1:]:
        first, before = known[0]
        if different := drawn_otherwise(before.simulation, record.simulation):
            one, two = otherwise_text(different)
            raise DatasetError(
                f"{first.root.name} was recorded with {one}, {other.root.name} with {two}.",
                expected="one rendering and one physics in a dataset",
                fix="record them with the same --env-settings, in the same interpreter",
            )
    union = SimulationRecord.of_union(records)
    return {} if union is None else {f"meta/{union.FILE}": json.dumps(union.document(), indent=4)}
