"""Record what a simulation's expert does as a LeRobot v3.0 dataset.

An episode is played twice: first without images, which takes a fraction of the time, then, where it is to be kept, with
the same actions and an image at each step.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError, SimulationError, UsageError, did_you_mean
from smolpilot.common.keys import ACTION
from smolpilot.common.text import plain
from smolpilot.contracts import EnvironmentSpec, make_observation
from smolpilot.datasets.simulation_record import SimulationRecord, simulation_facts
from smolpilot.environments.installing import SIMULATORS, simulator
from smolpilot.environments.making import environment_maker
from smolpilot.environments.simulation import SimulatedEnvironment
from smolpilot.environments.where import Where
from smolpilot.environments.worker_process import WorkerProcess, state_and_images
from smolpilot.robots import RobotProfile, list_profiles

from .summary import RecordSummary
from .takes import Progress, Take, write_takes

if TYPE_CHECKING:
    from smolpilot.datasets.media.encode import Codec

type Floats = npt.NDArray[np.float32]

PROFILE_FILE = "smolpilot_profile.yaml"
_AT_ONCE = 50  # steps in one answer of a worker: 46 MB of images at 640x480
_PATIENCE = 40  # demonstrations in a row that may fail before recording gives up


@dataclass(frozen=True)
class Demonstration:
    """One episode of the expert: what it wanted at each step [T, A], what was executed [T, A], and how it ended."""

    number: int  # its seed, or its number among the recorded episodes
    actions: Floats
    executed: Floats
    outcome: Mapping[str, Any]

    @property
    def success(self) -> bool:
        return bool(self.outcome["success"])


@dataclass(frozen=True)
class Expert:
    """How the expert plays. noise: of the executed joint targets, per step, in the robot's units; vary: of its pace."""

    noise: float = 0.0
    vary: float = 0.0


class Stage:
    """One environment in a worker of its own, in which an expert plays, or people's recorded episodes are replayed."""

    def __init__(self, name: str, settings: Mapping[str, Any], python: Path | None) -> None:
        self._recorded = bool(recorded_episodes(name))
        self._worker = WorkerProcess.of(name, python)
        try:
            made = environment_maker(name, settings)(Where(self._worker, 0))
        except BaseException:
            self._worker.close()
            raise
        assert isinstance(made, SimulatedEnvironment)
        self.environment: SimulatedEnvironment = made

    def demonstrate(self, number: int, expert: Expert) -> Demonstration:
        """The episode of a seed, or the recorded one of that number, without images."""
        if self._recorded:
            _, arrays = self._worker.ask("replay", slot=0, number=number, images="never")
            actions = arrays["actions"].astype(np.float32)
            found = self._worker.ask("compare", {"actions": actions}, slot=0, number=number)[0]["found"]
            return Demonstration(number, actions, actions, found)
        header, arrays = self._worker.ask(
            "perform", slot=0, seed=number, noise=expert.noise, expert={"seed": number, "vary": expert.vary}
        )
        return Demonstration(number, arrays["actions"], arrays["executed"], header["outcome"])

    def frames(self, shown: Demonstration) -> list[dict[str, Any]]:
        """The same episode again, with its images: what each action was chosen on, and the action.

        SimulationError where it does not end as it did before.
        """
        if self._recorded:
            header, _ = self._worker.ask("replay", slot=0, number=shown.number, images="never")
        else:
            header, _ = self._worker.ask("reset", slot=0, seed=shown.number, images="never")
        instruction = header["info"].get("instruction") or self.environment.spec.instructions[0]
        frames: list[dict[str, Any]] = []
        outcome: Mapping[str, Any] | None = None
        for begin in range(0, len(shown.actions), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            header, arrays = self._worker.ask("show", {"actions": shown.executed[part]}, slot=0)
            outcome = header["outcome"]
            # Up to the end of the episode: whoever recorded people may have gone on after it.
            for wanted, *seen in zip(shown.actions[part], *arrays.values(), strict=False):
                state, images = state_and_images(dict(zip(arrays, seen, strict=True)))
                frames.append({**make_observation(state, images, instruction), ACTION: wanted})
            if outcome is not None:
                break
        # A recording of people ends where they stopped, perhaps before the episode does.
        success = outcome["success"] if outcome is not None else False
        if success != shown.success or (outcome is None and not self._recorded):
            raise SimulationError(
                f"The simulation does not repeat itself: the episode of seed {shown.number} ended otherwise."
            )
        return frames

    def close(self) -> None:
        self._worker.close()


def recorded_episodes(name: str) -> int:
    """How many episodes of people an environment brings along, for one that has no expert."""
    module = simulator(name)
    return 0 if getattr(module, "EXPERT", False) else int(getattr(module, "RECORDED", 0))


def record_expert(
    name: str, settings: Mapping[str, Any], path: Path, episodes: int, seed: int = 0, *, expert: Expert | None = None,
    keep_failures: bool = False, jobs: int = 1, python: Path | None = None, codec: Codec = "h264",
    progress: Progress | None = None,
) -> RecordSummary:  # fmt: skip
    """Write `episodes` demonstrations of the environment's expert to the new folder `path`, from the seed on.

    Only successes are kept, unless `keep_failures`; of recorded episodes of people each one, of which the seed is the
    number. jobs: processes; the dataset is the same for any number of them.
    python: the interpreter that has the simulation. `progress(what, done, total)` is called per episode. UsageError for
    an environment without an expert, DatasetError where the expert keeps failing.
    """
    from smolpilot.datasets import DatasetWriter

    require_expert(name)
    recorded, expert = recorded_episodes(name), expert or Expert()
    _require_recorded(name, recorded, range(seed, seed + episodes), expert)
    keep_failures = keep_failures or bool(recorded)
    profile: str | None = None
    with ExitStack() as stack:
        stages = [stack.enter_context(closing(_Stages(name, settings, python))) for _ in range(min(jobs, episodes))]
        spec, facts = stages[0].environment.spec, dict(stages[0].environment.facts)
        simulation = simulation_facts(facts)
        writer = stack.enter_context(
            DatasetWriter(
                path,
                fps=spec.rate,
                state_names=[joint.name for joint in spec.profile.state_joints],
                action_names=[joint.name for joint in spec.profile.action_joints],
                cameras={camera.name: (camera.height, camera.width) for camera in spec.profile.cameras},
                robot_type=_robot_type(spec),
                codec=codec,
            )
        )

        def give_up() -> DatasetError:
            broke = next((stage.error for stage in stages if stage.error), "")
            return DatasetError(
                f"The expert of {name} failed in {_PATIENCE} episodes in a row. {broke}".rstrip(),
                fix=f"record with less --noise, or see `smolpilot env check {name}`",
            )

        # Closed before the stages: their threads have ended then.
        takes = stack.enter_context(closing(_episodes(stages, seed, expert, keep_failures)))
        tally = write_takes(writer, takes, episodes, patience=_PATIENCE, give_up=give_up, progress=progress)
        record = SimulationRecord(
            env=name, settings=dict(settings), simulation=simulation, noise=expert.noise, vary=expert.vary,
            seeds=[] if recorded else tally.numbers, recorded=tally.numbers if recorded else [],
            successes=tally.successes,
        )  # fmt: skip
        writer.add_note(record.FILE, json.dumps(record.document(), indent=4))
        if (
            spec.profile.name not in list_profiles()
            or RobotProfile.load(spec.profile.name).joints != spec.profile.joints
        ):
            # Joints that the shipped profile of this robot has not, such as PushT's keypoints: whoever trains names it.
            writer.add_note(PROFILE_FILE, spec.profile.to_yaml())
            profile = str(path / "meta" / PROFILE_FILE)
    return tally.summary(path, name, _robot_type(spec), spec.rate, simulation=simulation, profile=profile)


class _Stages:
    """One stage, which is replaced where its process has ended."""

    def __init__(self, name: str, settings: Mapping[str, Any], python: Path | None) -> None:
        self._made_of = name, settings, python
        self._stage = Stage(*self._made_of)
        self.error = ""  # what the simulation said when it last failed

    @property
    def environment(self) -> SimulatedEnvironment:
        return self._stage.environment

    def play(self, number: int, expert: Expert, keep_failures: bool) -> Take:
        """The demonstration of a seed; without frames where it is not to be kept, or the simulation fails."""
        try:
            shown = self._stage.demonstrate(number, expert)
            frames = self._stage.frames(shown) if shown.success or keep_failures else []
            return Take(frames, shown.success, number)
        except SimulationError as error:
            self.error = error.found
            self._stage.close()
            self._stage = Stage(*self._made_of)
            return Take([], False, number)

    def close(self) -> None:
        self._stage.close()


def _episodes(stages: list[_Stages], seed: int, expert: Expert, keep_failures: bool) -> Generator[Take]:
    """The demonstrations in the order of their seeds; each stage plays the next one that is free."""
    with ThreadPoolExecutor(len(stages)) as threads:
        running: deque[Future[Take]] = deque()
        try:
            for number in itertools.count():
                if len(running) == len(stages):
                    yield running.popleft().result()
                # In turn: a stage has one thread at a time, since its turn before has been waited for.
                stage = stages[number % len(stages)]
                running.append(threads.submit(stage.play, seed + number, expert, keep_failures))
        finally:
            threads.shutdown(cancel_futures=True)


def require_expert(name: str) -> None:
    """UsageError for an environment where nobody could demonstrate."""
    able = [one for one in SIMULATORS if getattr(simulator(one), "EXPERT", False) or recorded_episodes(one)]
    if name not in able:
        raise UsageError(
            f"The environment '{plain(name, 80)}' has no expert that could demonstrate.",
            expected=f"one of {', '.join(['tabletop', *able])}", fix=did_you_mean(name, ["tabletop", *able]),
        )  # fmt: skip


def _require_recorded(name: str, count: int, wanted: range, expert: Expert) -> None:
    """UsageError for what people's recorded episodes do not have."""
    if count and wanted.stop > count:
        raise UsageError(
            f"{name} has {count} recorded episodes; asked for are {len(wanted)} from {wanted.start} on.",
            fix="record fewer: --episodes, --seed",
        )
    if count and (expert.noise or expert.vary):
        raise UsageError(
            f"The demonstrations of {name} are people's, and take no noise and no other pace.",
            fix="leave --noise and --vary-timing out",
        )


def _robot_type(spec: EnvironmentSpec) -> str:
    types = spec.profile.robot_types
    return types[0] if types else spec.profile.name
