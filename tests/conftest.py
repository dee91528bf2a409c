"""Fixtures for all rooms: a tiny recording with real encoded video, and the real one where it is present."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

# Two workers on two cores: one thread each, also in the processes they start, or they fight for the cores.
# Here and not in `pytest_configure`: a folder's own conftest may load torch before that, and a worker with two
# threads adds up in another order than the processes it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

JOINTS = ["pan", "lift", "gripper"]
CAMERAS = {"front": (48, 64), "wrist": (48, 64)}
TASKS = ["touch the red block", "touch the blue block"]
FPS = 10


def scene(camera: int, task: int, state: np.ndarray) -> np.ndarray:
    """A picture [48, 64, 3] uint8 in which a coloured block stands where the state says."""
    picture = np.full((48, 64, 3), 60 + 60 * camera, dtype=np.uint8)
    x, y = int(24 + 20 * state[0]), int(18 + 14 * state[1])
    picture[y : y + 8, x : x + 8] = (220, 40, 40) if task == 0 else (40, 40, 220)
    return picture


def pytest_configure(config: pytest.Config) -> None:
    # Frame caches of the tests are not the user's.
    folder = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="smolpilot-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 joints, two cameras 48x64, 2 tasks, 6 episodes of 18 to 23 frames of smooth motion, 10 fps, h264."""
    from smolpilot.datasets import DatasetWriter

    path = tmp_path_factory.mktemp("data") / "tiny"
    with DatasetWriter(
        path, fps=FPS, state_names=JOINTS, action_names=JOINTS, cameras=CAMERAS, robot_type="toy_arm"
    ) as writer:
        for episode in range(6):
            task = episode % 2
            length = 18 + episode
            for frame in range(length):
                phase = (frame + np.array([0, 1])[:, None]) / length * np.pi + 0.3 * episode
                state, following = (
                    np.array([np.sin(p), np.cos(p) * (1 - 2 * task), 0.5 + 0.4 * np.sin(2 * p)], dtype=np.float32)
                    for p in phase[:, 0]
                )
                writer.add_frame(
                    {
                        "observation.state": state,
                        "action": following,
                        "observation.images.front": scene(0, task, state),
                        "observation.images.wrist": scene(1, task, state),
                        "task": TASKS[task],
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real recordings, beside the repository or named by SMOLPILOT_REAL_DATA; skips without it."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    path = Path(os.environ.get("SMOLPILOT_REAL_DATA", default))
    if not path.is_dir():
        pytest.skip("no real recordings here (SMOLPILOT_REAL_DATA)")
    return path
