"""The episodes of a robot run as a LeRobot v3.0 dataset, from its log and the images that were kept."""

from __future__ import annotations

import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError
from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.contracts import RunLog, Tick
from smolpilot.contracts.run_folder import (
    DATASET,
    FRAMES,
    LOG,
    ROBOT,
    EpisodeEnd,
    RunFacts,
    frames_folder,
    read_episodes,
    read_facts,
)
from smolpilot.contracts.run_log import read_run_log
from smolpilot.datasets.write.writer import DatasetWriter
from smolpilot.robots import RobotProfile

type _Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recorded:
    """What became of the episodes. path: of the dataset, None where there was nothing to write; notes: what was left
    out, a sentence each."""

    path: Path | None
    episodes: int
    frames: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Span:
    """The ticks of an episode, by their numbers."""

    episode: int
    instruction: str
    first: int
    last: int


@dataclass(frozen=True)
class _Kept:
    """The images of one camera that were kept: when each was captured, in microseconds, rising."""

    folder: Path
    stamps: list[int]

    @classmethod
    def of(cls, folder: Path) -> _Kept:
        found = sorted(int(path.stem) for path in folder.glob("*.jpg") if path.stem.lstrip("-").isdigit())
        return cls(folder, found)

    def at(self, captured_at: float) -> Path | None:
        """The newest one that there was at that time; None before the first."""
        place = bisect_right(self.stamps, round(captured_at * 1e6)) - 1
        return None if place < 0 else self.folder / f"{self.stamps[place]}.jpg"

    def size(self) -> tuple[int, int] | None:
        """Height and width, of the first one that can be read."""
        images = (_image(self.folder / f"{stamp}.jpg") for stamp in self.stamps)
        return next(((image.shape[0], image.shape[1]) for image in images if image is not None), None)


def write_run_dataset(folder: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Recorded:
    """Write `dataset` into the folder of a run, from the steps that were played; the kept images are removed then.

    A frame for each step of the policy's rate: the state that was measured, the action that was commanded (what the arm
    was told, after the governor), and the newest image of each camera at that time. An episode whose end nobody has
    noted, as the run was cut off, goes to the last tick in the log. A dry run has none, as nothing was executed. Raises
    RunLogError for a log that cannot be read, DatasetError, OSError.
    """
    facts, ends = read_facts(folder), read_episodes(folder)
    if facts.dry_run:
        return Recorded(None, 0, 0, ("A dry run has no dataset: nothing was executed.",))
    log, profile = read_run_log(folder / LOG), profile_of_run(folder)
    cameras = {name: _Kept.of(frames_folder(folder / FRAMES, name)) for name in facts.cameras}
    notes: list[str] = []
    spans = [_Span(end.episode, end.instruction, end.first_tick, end.last_tick) for end in ends
             if end.first_tick is not None and end.last_tick is not None]  # fmt: skip
    if (more := _cut_off(log, ends, facts)) is not None:
        spans.append(more)
        notes.append(f"Episode {more.episode} was cut off: it is kept up to its last tick in the log.")
    steps = {span.episode: _steps(log, span, facts) for span in spans}
    if missing := [name for name, kept in cameras.items() if not kept.stamps]:
        return Recorded(None, 0, 0, (f"No dataset: no image of camera '{missing[0]}' was kept.",))
    total = sum(len(found) for found in steps.values())
    if not total:
        if facts.ended is not None:  # nothing will ever be made of them
            shutil.rmtree(folder / FRAMES, ignore_errors=True)
        return Recorded(None, 0, 0, ("No dataset: no action was played.",))
    sizes = {name: kept.size() for name, kept in cameras.items()}
    if unreadable := [name for name, size in sizes.items() if size is None]:
        return Recorded(None, 0, 0, (*notes, f"No dataset: no image of camera '{unreadable[0]}' can be read."))
    writer = DatasetWriter(
        folder / DATASET,
        fps=facts.policy_rate,
        state_names=[joint.name for joint in profile.state_joints],
        action_names=[joint.name for joint in profile.action_joints],
        cameras={name: size for name, size in sizes.items() if size is not None},
        robot_type=profile.name,
    )
    done = written = 0
    with writer:
        for span in spans:
            played = steps[span.episode]
            if missed := max(played, default=-1) + 1 - len(played):
                notes.append(f"Episode {span.episode}: {missed} steps have no frame: the control loop came too late.")
            lost = 0
            for frame in _frames([*played.values()], profile, cameras, span.instruction or "none"):
                done += 1
                progress(done, total)
                if frame is None:
                    lost += 1
                else:
                    written += 1
                    writer.add_frame(frame)
            if lost:
                notes.append(f"Episode {span.episode}: {lost} steps are left out: an image or a joint was missing.")
            writer.end_episode()
        episodes = writer.episodes
        if not episodes:
            raise DatasetError("No step of the run has all of its images and joints.", expected="at least one")
    shutil.rmtree(folder / FRAMES, ignore_errors=True)
    return Recorded(folder / DATASET, episodes, written, tuple(notes))


def profile_of_run(folder: Path) -> RobotProfile:
    """The profile that the run kept. ProfileError where it cannot be read."""
    return RobotProfile.load(folder / ROBOT)


def _cut_off(log: RunLog, ends: Sequence[EpisodeEnd], facts: RunFacts) -> _Span | None:
    """The episode that was played when the run was cut off; None where each of them has ended."""
    known = max((end.episode for end in ends), default=-1)
    ticks = [tick.number for tick in log.ticks if tick.episode > known and tick.source in ("policy", "hold")]
    return _Span(known + 1, facts.instruction, ticks[0], ticks[-1]) if ticks else None


def _steps(log: RunLog, span: _Span, facts: RunFacts) -> dict[int, Tick]:
    """The ticks of an episode in which a step of the policy's rate was due, by the number of the step; waiting, too:
    time goes on then."""
    ticks = [tick for tick in log.ticks if span.first <= tick.number <= span.last]
    first = next((i for i, tick in enumerate(ticks) if tick.chunk is not None), len(ticks))
    found: dict[int, Tick] = {}
    for tick in ticks[first:]:
        # The k-th step is the first tick that is not before its time; ticks that were missed may leave steps without.
        step = int((tick.number - ticks[first].number) * facts.policy_rate / facts.rate + 1e-9)
        found.setdefault(step, tick)
    return found


def _frames(
    ticks: Sequence[Tick], profile: RobotProfile, cameras: dict[str, _Kept], instruction: str
) -> Iterator[dict[str, object] | None]:
    """A frame for each tick, None where something of it is missing."""
    names = [joint.name for joint in profile.action_joints]
    state = np.array([names.index(joint.name) for joint in profile.state_joints])
    for tick in ticks:
        frame: dict[str, object] = {ACTION: tick.sent.commanded, TASK: instruction}
        whole = tick.sent.measured is not None and bool(np.isfinite(tick.sent.measured[state]).all())
        if tick.sent.measured is not None:
            frame[STATE] = tick.sent.measured[state]
        for name, kept in cameras.items():
            at = tick.captured_at.get(image_key(name))
            path = None if at is None else kept.at(at)
            image = None if path is None else _image(path)
            whole = whole and image is not None
            frame[image_key(name)] = image
        yield frame if whole else None


def _image(path: Path) -> _Image | None:
    """None where it cannot be read: a machine that lost its power leaves such files."""
    from PIL import Image

    try:
        with Image.open(path, formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))
    except OSError:
        return None
