"""PushT beside the people's demonstrations that `lerobot/pusht` was made from: the environment shows what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.keys import STATE, image_key
from smolpilot.environments.pusht import make_pusht

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
    env: Any = make_pusht()
    env.reset(0)
    inner, differences = env._env.unwrapped, []
    for image, index in zip(shown["image"], shown["index"], strict=True):
        x, y, block_x, block_y, angle = states[index]
        inner.agent.position = (x, y)
        # The angle first: turning moves the block.
        inner.block.angle, inner.block.position = angle, (block_x, block_y)
        for body in (inner.agent, inner.block):
            inner.space.reindex_shapes_for_body(body)
        observation = env._observation(inner.get_obs())
        np.testing.assert_allclose(observation[STATE], [x, y], rtol=1e-6)
        differences.append(np.abs(observation[image_key("image")].astype(float) - image).mean())
    assert len(differences) == 60
    assert np.max(differences) < 0.3  # of 255: another version of OpenCV scales the drawing down
