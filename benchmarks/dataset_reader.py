"""Random and sequential frames per second: smolpilot's reader beside LeRobotDataset (PyAV backend), same recording.

Records 480x640 pictures as AV1, compares one frame for equality, then reads the same frames with both. Usage:
`python benchmarks/dataset_reader.py [FRAMES]` (needs the `test` dependency group for LeRobot).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
FPS, CHUNK, EPISODES, LENGTH = 30, 50, 4, 150


def record(path: Path) -> None:
    from smolpilot.datasets import DatasetWriter

    coarse = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    picture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    with DatasetWriter(
        path, fps=FPS, state_names=["a"] * 6, action_names=["a"] * 6, cameras={"front": (480, 640)}, codec="av1"
    ) as writer:
        for episode in range(EPISODES):
            for number in range(LENGTH):
                writer.add_frame(
                    {
                        "observation.state": np.full(6, number),
                        "action": np.full(6, number),
                        "observation.images.front": np.roll(picture, 4 * number + episode, axis=1),
                        "task": "push",
                    }
                )
            writer.end_episode()


def rate(read: Callable[[int], object], order: list[int]) -> float:
    start = time.perf_counter()
    for i in order:
        read(i)
    return len(order) / (time.perf_counter() - start)


def main() -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from smolpilot.datasets import open_dataset

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        record(path)
        deltas = {"action": [step / FPS for step in range(CHUNK)]}
        theirs = LeRobotDataset("benchmark/reader", root=path, video_backend="pyav", delta_timestamps=deltas)
        ours = open_dataset(path, chunk_size=CHUNK)
        assert torch.equal(theirs[77]["observation.images.front"], ours[77]["observation.images.front"])
        orders = {
            "random": np.random.default_rng(0).integers(0, len(ours), count).tolist(),
            "in order": list(range(min(count, len(ours)))),
        }
        print(f"AV1 480x640, one camera, whole frames (tensors, chunk of {CHUNK}), {os.cpu_count()} cores")
        for name, order in orders.items():
            a, b = rate(ours.__getitem__, order), rate(theirs.__getitem__, order)
            print(f"{name:<9} smolpilot {a:6.1f} frames/s   LeRobot {b:6.1f} frames/s   ratio {a / b:.1f}")


if __name__ == "__main__":
    main()
