"""The datasets of a run: training and held-out frames of each, the robot that they share, what they have in common."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.statistics import Statistics
from smolpilot.compatibility.datasets_together import check_cameras, check_joints
from smolpilot.datasets import Dataset, DatasetMeta, open_dataset, parse_episodes, read_meta, split_episodes
from smolpilot.datasets.read.joint_units import check_joints as check_own_joints
from smolpilot.datasets.read.joint_units import derive_profile, find_profile, with_cameras
from smolpilot.datasets.read.order import Rows
from smolpilot.datasets.simulation_record import SimulationRecord, drawn_otherwise, otherwise_text
from smolpilot.datasets.statistics.operating_limits import demonstrated_by
from smolpilot.datasets.statistics.stored_statistics import exact_statistics
from smolpilot.robots import RobotProfile
from smolpilot.robots.demonstrated import Demonstrated, together
from smolpilot.robots.layout import frame_layout
from smolpilot.smolvla import FrameLayout
from smolpilot.training.options.sources import Source, titles


@dataclass
class RunDataset:
    """One dataset of a run. `layout`: order and units of its joints.

    `whole`: training and held-out frames together; its `meta.statistics` of state and action are computed from them.
    `stored`: those that the files keep; empty where only some episodes are used, whose statistics nobody stores.
    """

    source: Source
    title: str
    train: Dataset
    held_out: Dataset | None
    layout: FrameLayout
    recorded: list[str]  # its instructions before `source.instruction` replaced them
    whole: Dataset
    stored: Statistics

    @property
    def path(self) -> Path:
        return self.source.dataset

    @property
    def meta(self) -> DatasetMeta:
        return self.train.meta

    @property
    def weight(self) -> float:
        """How often it is drawn: its weight in the mixture, without one its frames."""
        return self.source.weight if self.source.weight is not None else float(len(self.train))

    @property
    def held_out_episodes(self) -> list[int]:
        return self.held_out.episodes if self.held_out is not None else []


def open_datasets(sources: Sequence[Source], *, held_out: float, seed: int, notes: list[str]) -> list[RunDataset]:
    """Open and split every dataset of a run; the same dataset, share and seed always split the same way."""
    opened = []
    for source, title in zip(sources, titles(sources), strict=True):
        whole, recorded, stored = open_source(source)
        train, held = split_episodes(whole.meta, held_out=held_out, seed=seed, episodes=whole.episodes)
        if not held:
            note = "no episode is held out: `best` is the last checkpoint, and nothing says how good it is"
            notes.append(f"{title}: {note}" if len(sources) > 1 else note)
        layout, kept = FrameLayout.of_dataset(whole.meta), whole.select(held) if held else None
        opened.append(RunDataset(source, title, whole.select(train), kept, layout, recorded, whole, stored))
    check_cameras(opened)
    check_overlap(opened)
    return opened


def open_source(source: Source) -> tuple[Dataset, list[str], Statistics]:
    """The dataset, or its chosen episodes, with the instruction that the source gives it; its own instructions; its
    stored statistics.

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


def shared_robot(
    datasets: Sequence[RunDataset],
    robot: str | None,
    units: Mapping[str, str],
    notes: list[str],
    step: Callable[[str], object] = lambda name: None,
) -> tuple[RobotProfile, bool]:
    """The robot of all datasets, whose joints get their order and units by it; whether it is known by more than them.

    robot, units: what `--robot` and `--units` say. Raises ProfileError for other joints, UsageError for datasets of
    several robots. step: told what is being looked at.
    """
    step("robot")
    meta, named = datasets[0].meta, robot is not None
    found = find_profile(meta, robot, notes)
    profile = found or derive_profile(meta)
    if units:
        check_own_joints(meta, profile)
    profile = with_cameras(profile, meta, notes, named=named)
    for dataset in datasets:
        dataset.layout = frame_layout(dataset.meta, profile, units)
    step("joints")
    check_joints(datasets, profile, named=named)
    return profile, named or found is not None


def demonstrated_in(datasets: Sequence[RunDataset], profile: RobotProfile) -> Demonstrated:
    """Limits and start poses of the training episodes of all datasets, in the profile's order and units."""
    return together([demonstrated_by(dataset.train, dataset.layout, profile) for dataset in datasets])


def instructions_of(datasets: Sequence[RunDataset]) -> list[str]:
    """Every instruction of the training frames, once."""
    return list(dict.fromkeys(text for dataset in datasets for text in dataset.train.instructions))


def lineage_of(datasets: Sequence[RunDataset], *, units_given: bool) -> dict[str, Any]:
    """What a bundle says of the data it was trained on: of a mixture's first dataset, and of each under `mixture`."""
    entries = [
        {
            "dataset_fingerprint": dataset.meta.fingerprint,
            "fps": dataset.meta.fps,
            "simulation": _simulation(dataset),
            "trained_episodes": dataset.train.episodes,
            "held_out_episodes": dataset.held_out_episodes,
            "dataset_units": {"state": dataset.layout.state.units, "action": dataset.layout.action.units}
            if units_given
            else None,
        }
        for dataset in datasets
    ]
    if len(datasets) == 1:
        return entries[0]
    total = sum(dataset.weight for dataset in datasets)
    mixture = [
        {"name": own.title, "share": round(own.weight / total, 6), "instruction": own.source.instruction, **entry}
        for own, entry in zip(datasets, entries, strict=True)
    ]
    return entries[0] | {"mixture": mixture}


def check_simulations(datasets: Sequence[RunDataset]) -> None:
    """UsageError for datasets that were recorded in simulations which draw or compute otherwise."""
    known = [(own, record.simulation) for own in datasets if (record := SimulationRecord.of(own.path)) is not None]
    for other, simulation in known[1:]:
        first, recorded = known[0]
        if differences := drawn_otherwise(recorded, simulation):
            one, two = otherwise_text(differences)
            raise UsageError(
                f"{first.path} was recorded with {one}, {other.path} with {two}.",
                expected="one rendering and one physics for all datasets of a run",
                fix="record them with the same --env-settings, in the same interpreter",
            )


def _simulation(dataset: RunDataset) -> dict[str, Any] | None:
    """The simulation that a dataset was recorded in, if it says so."""
    record = SimulationRecord.of(dataset.path)
    return None if record is None else {"env": record.env, "settings": dict(record.settings), **record.simulation}


def describe_datasets(datasets: Sequence[RunDataset]) -> list[str]:
    """A line for each dataset: how much of it is trained on, and how often it is drawn."""
    total = sum(dataset.weight for dataset in datasets)
    lines = []
    for dataset in datasets:
        held = dataset.held_out
        text = f"{len(dataset.train)} in {len(dataset.train.episodes)} episodes for training"
        if held is not None:
            text += f"; {len(held.episodes)} episodes, {len(held)} frames held out"
        if len(datasets) > 1:
            text += f"; {dataset.weight / total:.0%} of the samples"
        lines.append(f"frames{f' of {dataset.title}' if len(datasets) > 1 else ''}: {text}")
    return lines


def check_fingerprints(datasets: Sequence[RunDataset], lineage: Mapping[str, Any]) -> None:
    """DatasetError when a dataset is no longer what the run began with."""
    entries = lineage.get("mixture") or [lineage]
    for dataset, entry in zip(datasets, entries, strict=False):
        expected, found = entry.get("dataset_fingerprint"), dataset.meta.fingerprint
        if expected != found:
            raise DatasetError(
                f"The dataset {dataset.path} is not the one the run began with (fingerprint {found}, was {expected}).",
                fix="restore it, or start a new run from the checkpoint with --policy",
            )


def groups_of(datasets: Sequence[RunDataset], balance: str) -> tuple[list[Rows], list[float]]:
    """Rows (counted through all datasets) that are drawn alike, and how often each group is drawn.

    balance `frames`: the dataset's weight, shared by its frames. `tasks`: shared equally by its instructions; without
    weights every instruction of the mixture is drawn equally often.
    """
    groups: list[Rows] = []
    weights: list[float] = []
    first = 0
    frames = Counter[str]()
    for dataset in datasets:
        frames.update(dataset.train.instructions)
    for dataset in datasets:
        rows = np.arange(len(dataset.train), dtype=np.int64)
        if balance == "frames":
            groups.append(first + rows)
            weights.append(dataset.weight)
        else:
            own = np.array([dataset.meta.tasks[int(value)] for value in dataset.train.task_index])
            names = list(dict.fromkeys(own.tolist()))
            for name in names:
                of_name, weight = rows[own == name], dataset.source.weight
                groups.append(first + of_name)
                weights.append(weight / len(names) if weight is not None else len(of_name) / frames[name])
        first += len(rows)
    return groups, weights


def check_overlap(datasets: Sequence[RunDataset]) -> None:
    """UsageError when an episode is held out of one source and trained on in another."""
    for dataset in datasets:
        for other in datasets:
            met = set(dataset.held_out_episodes) & set(other.train.episodes)
            if dataset.meta.fingerprint == other.meta.fingerprint and met:
                raise UsageError(
                    f"Episode {min(met)} of {dataset.path} is held out of “{dataset.title}” and trained on in "
                    f"“{other.title}”: its error would flatter.",
                    fix="give episode ranges that do not overlap, or the same range",
                )
