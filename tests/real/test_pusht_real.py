"""PushT beside the people's demonstrations that `lerobot/pusht` was made from: the environment shows what they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smolpilot.environments.quiet import quiet
from smolpilot.environments.simulators.pusht import PushtSimulation

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def recording(real_data: Path) -> Path:
    path = real_data / "pusht_human"
    if not path.is_dir():
        pytest.skip("this recording is not here")
    return path


def test_a_recorded_pose_looks_as_it_was_recorded(recording: Path) -> None:
    states = np.load(recording / "states_actions.npz")["state"]
    shown = np.load(recording / "images_60.npz")
    with quiet():  # what pygame says of its own imports
        simulation = PushtSimulation()
    differences = []
    for image, index in zip(shown["image"], shown["index"], strict=True):
        simulation.reset_to(states[index])
        state, images = simulation.observe()
        np.testing.assert_allclose(state, states[index, :2], rtol=1e-6)
        differences.append(np.abs(images["image"].astype(float) - image).mean())
    assert len(differences) == 60
    assert np.max(differences) < 0.3  # of 255: another version of OpenCV scales the drawing down


def test_the_demonstrations_replay(recording: Path) -> None:
    """Twenty of them, from their first states: the block goes where it went, nearly always to the last step."""
    data = np.load(recording / "states_actions.npz")
    begins = np.concatenate([[0], data["episode_ends"][:-1]])
    with quiet():
        simulation = PushtSimulation(end_on_success=False, max_steps=10_000)
    deviations, coverages = [], []
    for begin, end in zip(begins[:20], data["episode_ends"][:20], strict=True):
        simulation.reset_to(data["state"][begin])
        largest, outcome = 0.0, None
        for state, action in zip(data["state"][begin:end], data["action"][begin:end], strict=True):
            largest = max(largest, float(np.abs(simulation.where()[2:4] - state[2:4]).max()))
            outcome = simulation.act(action)
        assert outcome is None
        deviations.append(largest)
        coverages.append(simulation.best_coverage)
    assert np.median(deviations) < 1e-3
    assert np.mean(np.array(deviations) < 0.1) >= 0.8
    assert np.mean(coverages) == pytest.approx(0.9, abs=0.03)
