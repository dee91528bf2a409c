"""A recording's joints in a simulation: the simulated arm goes through what a real one did, beside its own images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import ProfileError, UsageError
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import Image
from smolpilot.datasets import Dataset, open_dataset
from smolpilot.datasets.media.encode import VideoEncoder
from smolpilot.datasets.read.joint_units import check_joints, doubt_units
from smolpilot.robots import RobotProfile
from smolpilot.robots.layout import frame_layout, map_layout

from .installing import SIMULATORS, simulator
from .making import environment_maker
from .simulation import SimulatedEnvironment
from .where import Where
from .worker_process import WorkerProcess

_AT_ONCE = 20  # poses in one answer of a worker: 18 MB of images


@dataclass(frozen=True)
class Replay:
    """What was shown."""

    frames: int
    instruction: str
    cameras: tuple[str, ...]  # of the recording, beside the simulation
    notes: tuple[str, ...] = ()


def replay_joints(
    dataset: Path, out: Path, *, name: str, settings: Mapping[str, Any], episode: int = 0,
    units: Mapping[str, str] | None = None, python: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Replay:  # fmt: skip
    """Write a video of an episode: the recording's images, and the simulated arm at the recorded states.

    The joints are set, not driven: what is seen is where the arm was, with nothing of the simulation's physics. units:
    of the dataset's joints where they are not the profile's. UsageError for a simulation without an arm to pose,
    another robot, units that do not convert, and an episode that is not there.
    """
    posable = [one for one in SIMULATORS if getattr(simulator(one), "POSES", False)]
    if name not in posable:
        raise UsageError(
            f"The environment '{plain(name, LIMIT)}' shows no recorded joints.", expected=f"one of {', '.join(posable)}"
        )
    refuse_existing(out)
    with ExitStack() as stack:
        recorded = stack.enter_context(closing(open_dataset(dataset)))
        rows = np.flatnonzero(recorded.episode_index == episode)
        if not len(rows):
            raise UsageError(
                f"{dataset} has no episode {episode}.", expected=f"0 to {int(recorded.episode_index.max())}"
            )
        worker = stack.enter_context(closing(WorkerProcess.of(name, python)))
        environment = environment_maker(name, settings)(Where(worker, 0))
        assert isinstance(environment, SimulatedEnvironment)
        states, notes = _states(recorded, rows, environment.spec.profile, units or {})
        cameras = tuple(recorded.meta.camera_names)
        images = _beside(recorded, rows, cameras, _poses(worker, states))
        _write(out, images, len(rows), recorded.meta.fps, progress)
        return Replay(len(rows), recorded.instruction(int(rows[0])), cameras, notes)


def _states(
    recorded: Dataset, rows: npt.NDArray[np.integer], profile: RobotProfile, units: Mapping[str, str]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """The states [T, S] in the profile's order and units, and what is to be said of them."""
    meta = recorded.meta
    try:
        check_joints(meta, profile)
    except ProfileError as error:
        fix = (
            f"use a recording of that arm, by its joints' names: {', '.join(one.name for one in profile.state_joints)}"
        )
        raise ProfileError(error.found, expected=error.expected, fix=fix) from None
    mapping, _ = map_layout(frame_layout(meta, profile, units), profile)
    states = np.asarray(mapping.forward(recorded.states[rows].astype(np.float64)))
    doubt = None if units else doubt_units(meta, profile)
    return states, () if doubt is None or doubt.severity == "ok" else (doubt.text,)


def _poses(worker: WorkerProcess, states: npt.NDArray[np.float64]) -> Iterator[Image]:
    for begin in range(0, len(states), _AT_ONCE):
        yield from worker.ask("pose", {"states": states[begin : begin + _AT_ONCE]}, slot=0)[1]["frames"]


def _beside(
    recorded: Dataset, rows: npt.NDArray[np.integer], cameras: tuple[str, ...], poses: Iterator[Image]
) -> Iterator[Image]:
    """Each pose with the recording's images to its left, all of one height."""
    for row, posed in zip(rows, poses, strict=True):
        seen = [np.moveaxis(recorded.pictures([int(row)], camera)[0], 0, -1) for camera in cameras]
        yield np.concatenate([*(_of_height(image, len(posed)) for image in seen), posed], axis=1)


def _of_height(image: Image, height: int) -> Image:
    from PIL import Image as Pillow

    width = max(2, 2 * round(image.shape[1] * height / image.shape[0] / 2))
    return np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR))


def _write(
    out: Path, images: Iterator[Image], count: int, fps: float, progress: Callable[[str, int, int], None] | None
) -> None:
    part = out.with_name(f".{out.name}.part.mp4")
    encoder = None
    try:
        for number, image in enumerate(images, 1):
            if encoder is None:
                encoder = VideoEncoder(part, width=image.shape[1], height=image.shape[0], fps=fps, codec="h264")
            encoder.add(image)
            if progress is not None:
                progress("frames", number, count)
        assert encoder is not None
        encoder.close()
        part.replace(out)
    except BaseException:
        if encoder is not None:
            encoder.discard()
        part.unlink(missing_ok=True)
        raise
