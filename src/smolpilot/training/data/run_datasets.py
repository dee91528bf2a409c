"""The datasets of a run, opened: training and held-out frames of each, and what they have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, merge_statistics
from smolpilot.compatibility.datasets_together import check_cameras
from smolpilot.datasets import Dataset, DatasetMeta, open_dataset, parse_episodes, read_meta, split_episodes
from smolpilot.datasets.read.order import Rows
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import frame_layout, map_layout, to_policy_order
from smolpilot.smolvla import FrameLayout
from smolpilot.training.train_options import TrainOptions

from .sources import Source, titles


@dataclass
class Part:
    """One dataset of a run. `layout`: order and units of its joints.

    `whole`: training and held-out frames together; its `meta.statistics` of state and action are computed from them.
    `stored`: those that the files keep; nothing where only some episodes are used, whose statistics nobody stores.
    """

    source: Source
    title: str
    train: Dataset
    held_out: Dataset | None
    layout: FrameLayout
    recorded: list[str]  # its texts before `source.instruction` replaced them
    whole: Dataset
    stored: Statistics

    @property
    def meta(self) -> DatasetMeta:
        return self.train.meta

    @property
    def held_out_episodes(self) -> list[int]:
        return self.held_out.episodes if self.held_out is not None else []


def sources_of(options: TrainOptions) -> tuple[Source, ...]:
    """The datasets of a run; with --dataset a single one."""
    if options.mixture:
        return options.mixture
    assert options.dataset is not None
    return (Source(options.dataset, episodes=options.episodes),)


def open_parts(options: TrainOptions, notes: list[str]) -> list[Part]:
    """Open every dataset of a run and split it; the same dataset, share and seed always split the same way."""
    sources = sources_of(options)
    parts = []
    for source, title in zip(sources, titles(sources), strict=True):
        own: list[str] = []
        dataset, recorded, stored = open_source(source)
        train, held_out = split(dataset, options, own)
        notes += [f"{title}: {note}" if len(sources) > 1 else note for note in own]
        layout = FrameLayout.of_dataset(dataset.meta)
        parts.append(Part(source, title, train, held_out, layout, recorded, dataset, stored))
    _check_together(parts)
    return parts


def open_source(source: Source) -> tuple[Dataset, list[str], Statistics]:
    """The dataset, or its chosen episodes, with the instruction that the source gives it; its own texts; its stored
    statistics.

    Statistics to normalize with are computed from the frames: the stored ones may be of other episodes or numbers.
    """
    if source.episodes is None:
        dataset = open_dataset(source.dataset)
        stored = dataset.meta.statistics
    else:
        dataset = open_dataset(source.dataset, episodes=parse_episodes(source.episodes, read_meta(source.dataset)))
        stored = {}
    own = exact_statistics(dataset)
    dataset.meta = dataclasses.replace(dataset.meta, statistics=dataset.meta.statistics | own)
    recorded = list(dataset.instructions)
    replaced = dataset if source.instruction is None else dataset.with_instruction(source.instruction)
    return replaced, recorded, stored


def split(dataset: Dataset, options: TrainOptions, notes: list[str]) -> tuple[Dataset, Dataset | None]:
    """Training and held-out frames, the same for the same dataset, share and seed."""
    train, held = split_episodes(dataset.meta, held_out=options.held_out, seed=options.seed, episodes=dataset.episodes)
    if not held:
        notes.append("no episode is held out: `best` is the last checkpoint, and nothing says how good it is")
        return dataset.select(train), None
    return dataset.select(train), dataset.select(held)


def set_layouts(parts: Sequence[Part], profile: RobotProfile | None, units: Mapping[str, str]) -> None:
    """Give every part the names and units of its dimensions; ProfileError for joints that the robot does not have."""
    for part in parts:
        part.layout = frame_layout(part.meta, profile, units)


def own_statistics(parts: Sequence[Part], profile: RobotProfile) -> Statistics:
    """Of all frames together: one scale for every dataset, in the joint order of the first, in the profile's units.

    Counted by frames, not by weights: a scale has to cover what is seldom drawn as well.
    """
    if len(parts) == 1 and parts[0].layout.state.units is None:
        return parts[0].meta.statistics
    moved = [to_policy_order(part.meta.statistics, part.layout, profile) for part in parts]
    merged = merge_statistics(moved) if len(moved) > 1 else moved[0]
    back = map_layout(FrameLayout.of_dataset(parts[0].meta), profile)
    return {key: mapping.backward_statistics(merged[key]) for key, mapping in zip((STATE, ACTION), back, strict=True)}


def instructions_of(parts: Sequence[Part]) -> list[str]:
    """Every text of the training frames, once."""
    return list(dict.fromkeys(text for part in parts for text in part.train.instructions))


def lineage_of(parts: Sequence[Part], options: TrainOptions) -> dict[str, Any]:
    """What a bundle says of the data it was trained on: of a mixture's first dataset, and of each under `mixture`."""
    entries = [
        {
            "dataset_fingerprint": part.meta.fingerprint,
            "fps": part.meta.fps,
            "trained_episodes": part.train.episodes,
            "held_out_episodes": part.held_out_episodes,
            "dataset_units": {"state": part.layout.state.units, "action": part.layout.action.units}
            if options.units
            else None,
        }
        for part in parts
    ]
    if len(parts) == 1:
        return entries[0]
    shares = [weight_of(part, parts) for part in parts]
    mixture = [
        {"name": part.title, "share": round(share / sum(shares), 6), "instruction": part.source.instruction, **entry}
        for part, share, entry in zip(parts, shares, entries, strict=True)
    ]
    return entries[0] | {"mixture": mixture}


def describe_parts(parts: Sequence[Part]) -> list[str]:
    """A line for each dataset: how much of it is trained on, and how often it is drawn."""
    total = sum(weight_of(part, parts) for part in parts)
    lines = []
    for part in parts:
        held = part.held_out
        text = f"{len(part.train)} in {len(part.train.episodes)} episodes for training"
        if held is not None:
            text += f"; {len(held.episodes)} episodes, {len(held)} frames held out"
        if len(parts) > 1:
            text += f"; {weight_of(part, parts) / total:.0%} of the samples"
        lines.append(f"frames{f' of {part.title}' if len(parts) > 1 else ''}: {text}")
    return lines


def check_fingerprints(parts: Sequence[Part], lineage: Mapping[str, Any]) -> None:
    """DatasetError when a dataset is no longer what the run began with."""
    entries = lineage.get("mixture") or [lineage]
    for part, entry in zip(parts, entries, strict=False):
        expected, found = entry.get("dataset_fingerprint"), part.meta.fingerprint
        if expected != found:
            raise DatasetError(
                f"The dataset {part.source.dataset} is not the one the run began with (fingerprint {found}, was "
                f"{expected}).",
                fix="restore it, or start a new run from the checkpoint with --policy",
            )


def weight_of(part: Part, parts: Sequence[Part]) -> float:
    """How often a dataset is drawn: its weight, without one its frames."""
    return part.source.weight if part.source.weight is not None else float(len(part.train))


def groups_of(parts: Sequence[Part], balance: str) -> tuple[list[Rows], list[float]]:
    """Rows (counted through all parts) that are drawn alike, and how often each group is drawn.

    balance `frames`: the dataset's weight, shared by its frames. `tasks`: shared equally by its instructions; without
    weights every instruction of the mixture is drawn equally often.
    """
    groups: list[Rows] = []
    weights: list[float] = []
    first = 0
    texts = _frames_by_text(parts)
    for part in parts:
        rows = np.arange(len(part.train), dtype=np.int64)
        if balance == "frames":
            groups.append(first + rows)
            weights.append(weight_of(part, parts))
        else:
            own = np.array([part.meta.tasks[int(value)] for value in part.train.task_index])
            names = list(dict.fromkeys(own.tolist()))
            for name in names:
                mine = rows[own == name]
                groups.append(first + mine)
                weight = part.source.weight
                weights.append(weight / len(names) if weight is not None else len(mine) / texts[name])
        first += len(rows)
    return groups, weights


def _frames_by_text(parts: Sequence[Part]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        for text, frames in part.train.instructions.items():
            counts[text] = counts.get(text, 0) + frames
    return counts


def _check_together(parts: Sequence[Part]) -> None:
    """The datasets of a mixture need the same cameras, and no episode may be trained on here and held out there."""
    check_cameras([(str(part.source.dataset), part.meta) for part in parts])
    check_overlap(parts)


def check_overlap(parts: Sequence[Part]) -> None:
    """UsageError when an episode is held out of one source and trained on in another."""
    for part in parts:
        for other in parts:
            met = set(part.held_out_episodes) & set(other.train.episodes)
            if part.meta.fingerprint == other.meta.fingerprint and met:
                raise UsageError(
                    f"Episode {min(met)} of {part.source.dataset} is held out of “{part.title}” and trained on in "
                    f"“{other.title}”: its error would flatter.",
                    fix="give episode ranges that do not overlap, or the same range",
                )
