"""Ten thousand chunks of a small policy: does the engine's memory grow?

    uv run python benchmarks/engine_soak.py [--chunks 10000] [--mode fast] [--backend torch]

Frames, seeds, left-overs and late states change all the time. Prints resident memory along the way and how much it grew
after the first tenth.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from smolpilot.contracts import Leftover
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.inference import prepare
from smolpilot.inference.example_frame import example_frame
from smolpilot.smolvla import new_policy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--mode", default="fast")
    parser.add_argument("--backend", default="torch")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        with DatasetWriter(data, fps=10, state_names=["a"], action_names=["a"], cameras={"top": (32, 32)}) as writer:
            image = np.zeros((32, 32, 3), dtype=np.uint8)
            for value in (0.0, 1.0):
                row = np.array([value], dtype=np.float32)
                frame = {"observation.state": row, "action": row, "observation.images.top": image, "task": "go"}
                writer.add_frame(frame)
            writer.end_episode()
        policy = new_policy("tiny", meta=open_dataset(data).meta, overrides={"num_vlm_layers": 1, "num_steps": 1})
        engine = prepare(policy, engine=arguments.mode, backend=arguments.backend, cache_dir=temporary)
        frames = [example_frame(policy.transforms_config, seed) for seed in range(50)]
        process = psutil.Process()
        sizes: list[float] = []
        last: Any = None
        begin = time.perf_counter()
        for i in range(arguments.chunks):
            frame = frames[i % len(frames)]
            if i % 10 == 9:
                engine.begin(frame)
                state: Any = frame["observation.state"]
                last = engine.finish(state, seed=i, previous=Leftover(last[4:].numpy(), delay=1))
            else:
                last = engine.predict_chunk(frame, seed=i)
            if i % (arguments.chunks // 10) == arguments.chunks // 10 - 1:
                gc.collect()
                sizes.append(process.memory_info().rss / 1e6)
        seconds = time.perf_counter() - begin
    print(f"{arguments.chunks} chunks in {seconds:.0f} s; resident MB: {', '.join(f'{size:.0f}' for size in sizes)}")
    grown = sizes[-1] - sizes[0]
    print(f"grown after the first tenth: {grown:+.1f} MB ({grown / arguments.chunks * 1e6:+.0f} bytes a chunk)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
