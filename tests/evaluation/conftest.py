"""A small recording with real video, and policies that know its future."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.keys import ACTION, STATE, TASK, image_key
from smolpilot.contracts import RANDOM, Leftover, Observation, Policy, PolicyFacts, PolicySpec
from smolpilot.datasets import Dataset, DatasetWriter, open_dataset
from smolpilot.robots import CameraProfile, Joint, RobotProfile

LENGTHS = (14, 9, 12, 11)
FPS = 10.0
JOINTS = ("pan", "lift", "grip")  # the robot's order
RECORDED_ORDER = ("lift", "grip", "pan")
H = 6


def action(episode: int, frame: int) -> npt.NDArray[Any]:
    """The recorded action in the robot's order."""
    return np.array([0.1 * frame + episode, np.sin(frame / 3) * 20, 0.5], dtype=np.float32)


def state(episode: int, frame: int) -> npt.NDArray[Any]:
    """The recorded state in the robot's order; tells which frame it is."""
    return action(episode, frame) + np.array([0.0, -3.0, 0.25], dtype=np.float32)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "small"
    order = [JOINTS.index(name) for name in RECORDED_ORDER]
    writer = DatasetWriter(
        path, fps=FPS, state_names=RECORDED_ORDER, action_names=RECORDED_ORDER, cameras={"top": (32, 32)}
    )
    with writer:
        for episode, length in enumerate(LENGTHS):
            for frame in range(length):
                picture = np.full((32, 32, 3), 20 * episode + frame, dtype=np.uint8)
                writer.add_frame(
                    {
                        STATE: state(episode, frame)[order],
                        ACTION: action(episode, frame)[order],
                        TASK: f"press the {'red' if episode % 2 else 'green'} button",
                        image_key("top"): picture,
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture
def dataset(recording: Path) -> Dataset:
    return open_dataset(recording)


@pytest.fixture
def profile() -> RobotProfile:
    limits = {"pan": (-10.0, 10.0), "lift": None, "grip": (0.0, 1.0)}
    units: dict[str, Any] = {"pan": "rad", "lift": "deg", "grip": "normalized"}
    return RobotProfile(
        name="press",
        description="a test",
        rate=FPS,
        joints=[Joint(name=n, unit=units[n], position_limits=limits[n], velocity_limit=None) for n in JOINTS],
        cameras=[CameraProfile(name="top", width=32, height=32, role="top")],
    )


class StubPolicy(Policy):
    """`plan(episode, frame)` gives its chunk [H, 3]; what it is may be changed from outside."""

    def __init__(
        self, plan: Callable[[int, int], npt.NDArray[Any]], profile: RobotProfile | None, lineage: dict[str, Any]
    ) -> None:
        self.plan, self.profile, self.lineage = plan, profile, lineage
        self.statistics: dict[str, Any] = {ACTION: {"mean": np.array([2.0, 1.0, 0.5])}}
        self.instructions = ["press the red button", "press the green button"]
        self.cameras, self.action_dim, self.warnings, self.n_obs_steps = ("top",), 3, (), 1
        self.seeds: list[int] = []
        self.frames: list[Observation] = []

    @property
    def spec(self) -> PolicySpec:
        facts = PolicyFacts(source="runs/stub", kind="stub", lineage=self.lineage, warnings=tuple(self.warnings))
        return PolicySpec(
            "stub", 3, self.action_dim, H, 2, cameras=self.cameras, profile=self.profile,
            instructions=tuple(self.instructions), statistics=self.statistics, capabilities=frozenset({RANDOM}),
            n_obs_steps=self.n_obs_steps, facts=facts,
        )  # fmt: skip

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> npt.NDArray[Any]:
        if seeds is not None:
            assert len(seeds) == len(observations)
            self.seeds += seeds
            self.frames += observations
        return np.stack([self.plan(*which_frame(frame)) for frame in observations]).astype(np.float32)


def which_frame(frame: Observation) -> tuple[int, int]:
    """Episode and frame number, read off the state (pan holds both, lift tells them apart)."""
    pan = float(frame[STATE][0])
    for episode, length in enumerate(LENGTHS):
        for number in range(length):
            if np.allclose(frame[STATE], state(episode, number), atol=1e-5):
                return episode, number
    raise AssertionError(f"no frame has pan {pan}")


def future(episode: int, frame: int) -> npt.NDArray[Any]:
    """What was recorded from this frame on; wild values behind the end, which must not count."""
    return np.stack([action(episode, frame + h) if frame + h < LENGTHS[episode] else np.full(3, 1e6) for h in range(H)])


@pytest.fixture
def make_policy(dataset: Dataset, profile: RobotProfile) -> Callable[..., StubPolicy]:
    lineage = {"dataset_fingerprint": dataset.meta.fingerprint, "held_out_episodes": [1, 3]}

    def make(plan: Callable[[int, int], npt.NDArray[Any]] = future, **changes: Any) -> StubPolicy:
        policy = StubPolicy(plan, profile, dict(lineage))
        for name, value in changes.items():
            setattr(policy, name, value)
        return policy

    return make


@pytest.fixture
def facts() -> SimpleNamespace:
    """The numbers of the recording, for tests."""
    return SimpleNamespace(lengths=LENGTHS, horizon=H, joints=JOINTS, action=action, state=state, future=future)
