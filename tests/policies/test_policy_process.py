"""SmolVLA in the policy process, as an arm's control process starts it: the same chunks as in this process."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import SmolpilotError
from smolpilot.contracts import Embodiment, Leftover, PolicyOptions, make_observation
from smolpilot.contracts.policy import EngineMode
from smolpilot.policies import open_policy
from smolpilot.policies.policy_process import onward
from smolpilot.robots import RobotProfile
from smolpilot.runtime.cameras.shared_frames import SharedFrameWriter, frames_file
from smolpilot.runtime.robot_run.policy_link import PolicyLink
from smolpilot.runtime.robot_run.protocol import OpenPolicy
from smolpilot.runtime.scheduling import Ask, PlannedChunk
from smolpilot.smolvla import new_policy, save_bundle

TABLETOP = RobotProfile.load("tabletop")
INSTRUCTION = "touch the red block"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SmolVLA for the tabletop's arm, with random weights."""
    from smolpilot.cli.main import main
    from smolpilot.datasets import open_dataset

    folder = tmp_path_factory.mktemp("made")
    data = folder / "data"
    assert main(["record", "--out", str(data), "--episodes", "2", "--seed", "0"]) == 0
    return save_bundle(new_policy("tiny", meta=open_dataset(data).meta, profile=TABLETOP, device="cpu"), folder / "b")


def test_left_over_rows_later_lie_between_those_of_before() -> None:
    rows = np.arange(8.0).reshape(4, 2)
    assert onward(rows, 0.0).tolist() == rows.tolist()
    assert onward(rows, 2.0).tolist() == [[4, 5], [6, 7]]
    assert onward(rows, 1.25).tolist() == [[2.5, 3.5], [4.5, 5.5]]
    assert len(onward(rows, 4.0)) == 0
    assert len(onward(rows, 9.5)) == 0


@pytest.mark.parametrize("engine", ["plain", "exact"])
def test_the_same_chunks_as_in_this_process(bundle: Path, tmp_path: Path, engine: EngineMode) -> None:
    images = {
        "top": np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8),
        "side": np.random.default_rng(2).integers(0, 255, (64, 64, 3), dtype=np.uint8),
    }
    state = np.array([0.1, 1.2, -1.5])
    left = np.asarray(np.linspace(0, 0.3, 18).reshape(6, 3), dtype=np.float64)
    guided = engine == "exact"
    link = PolicyLink(tmp_path / "policy.log")
    writers = {name: SharedFrameWriter(frames_file(tmp_path, name), 64, 64) for name in images}
    try:
        for name, writer in writers.items():
            writer.write(images[name], 10.0)
        about = link.open(
            OpenPolicy(
                folder=str(tmp_path), source=str(bundle), owner="the arm", profile=TABLETOP.to_yaml(), nice=0,
                cameras=tuple(images), device="cpu", engine=engine, instruction=INSTRUCTION,
            ),
            patience=120.0,
        )  # fmt: skip
        link.publish(11.0, 0.0, state)
        link.ask(Ask(1, 0.0, left if guided else None, 2), INSTRUCTION, seed=5)
        chunk = answer(link)
    finally:
        link.close()
        for writer in writers.values():
            writer.close()
    assert about.action_names == ("shoulder_pan", "shoulder_lift", "elbow_flex")
    assert about.digest is not None
    assert about.instruction_tokens is not None
    assert about.instruction_tokens[0] <= about.instruction_tokens[1]
    body = Embodiment("the arm", tuple(images), profile=TABLETOP, rate=TABLETOP.rate)
    policy = open_policy(str(bundle), PolicyOptions(device="cpu", engine=engine), body)
    expected = policy.predict(
        [make_observation(state, images, INSTRUCTION)], seeds=[5],
        previous=Leftover(left.astype(np.float32), 2) if guided else None,
    )[0]  # fmt: skip
    policy.close()
    assert (chunk.state_at, chunk.captured_at) == (11.0, 10.0)
    np.testing.assert_allclose(chunk.actions, expected, atol=1e-5)


def test_a_folder_without_a_policy_is_refused_as_everywhere(tmp_path: Path) -> None:
    link = PolicyLink(tmp_path / "policy.log")
    request = OpenPolicy(
        folder=str(tmp_path), source=str(tmp_path), owner="the arm", profile=TABLETOP.to_yaml(), cameras=()
    )
    try:
        with pytest.raises(SmolpilotError, match="holds no checkpoint"):
            link.open(request, patience=120.0)
    finally:
        link.close()


def answer(link: PolicyLink) -> PlannedChunk:
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        for one in link.poll():
            assert isinstance(one, PlannedChunk), one
            return one
        link.wait(0.2)
    raise AssertionError("no answer")
