"""Milliseconds per chunk of the 450 M model by mode of the engine, beside LeRobot in the same process.

    uv run --group test python benchmarks/inference.py [--device cpu] [--cameras 2] [--engine fast ...]
        [--repeats 5] [--no-peer] [--empty 0] [--json]

Weights are random (time does not depend on their values), frames are noise, instructions have the public tokenizer's
length. `--empty 2` is the public base's layout: one real camera and two empty slots, which LeRobot computes in full. On
CUDA the distance to the roofline is printed, too: bytes and floating-point operations counted from the shapes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.evaluation.timing.bench import bench
from smolpilot.evaluation.timing.bench_options import BenchOptions
from smolpilot.smolvla import new_policy, save_bundle
from smolpilot.smolvla.config import PolicyConfig, VLMConfig
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder

# Dense bfloat16 tensor throughput (FLOP/s) and memory bandwidth (bytes/s) from the makers' data sheets.
PEAKS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12), "4090": (165e12, 1.01e12)}


def make_bundle(folder: Path, cameras: int, empty: int) -> Path:
    """The public architecture with random weights for six joints and cameras of 480x640, as a bundle."""
    names = [f"camera{i + 1}" for i in range(cameras)]
    joints = [f"joint{i + 1}" for i in range(6)]
    rng = np.random.default_rng(0)
    sizes = dict.fromkeys(names, (480, 640))
    with DatasetWriter(
        folder / "data", fps=30, state_names=joints, action_names=joints, cameras=sizes, robot_type="six_joints"
    ) as writer:
        for _ in range(4):
            pictures = {f"observation.images.{n}": rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for n in names}
            row = {"observation.state": rng.normal(size=6).astype("f4"), "action": rng.normal(size=6).astype("f4")}
            writer.add_frame({**row, **pictures, "task": "put it there"})
        writer.end_episode()
    byte_level_folder(VLMConfig()).write(folder / "tokenizer")
    policy = new_policy(
        "smolvla",
        meta=open_dataset(folder / "data").meta,
        tokenizer_dir=folder / "tokenizer",
        overrides={"empty_cameras": empty},
        device="cpu",
    )
    save_bundle(policy, folder / "bundle")
    return folder / "bundle"


def roofline(config: PolicyConfig, cameras: int, words: int, steps: int, gpu: str) -> dict[str, float] | None:
    """Floating-point operations and bytes of weights that a chunk needs at least, and the time they take at best."""
    peak = next((values for name, values in PEAKS.items() if name in gpu), None)
    if peak is None:
        return None
    v, t = config.vlm.vision, config.vlm.text
    patches = v.patches_per_side**2
    vision_weights = v.layers * (4 * v.width**2 + 2 * v.width * v.mlp_width) + 3 * v.patch_size**2 * v.width
    connector = v.width * config.vlm.scale_factor**2 * t.width
    tokens = patches // config.vlm.scale_factor**2
    per_vision = 2 * patches * vision_weights + 4 * v.layers * patches**2 * v.width + 2 * tokens * connector
    kv = t.kv_heads * t.head_dim
    text_layer = 2 * t.width * t.heads * t.head_dim + 2 * t.width * kv + 3 * t.width * t.mlp_width
    prefix = cameras * tokens + words + 1
    attention = 4 * prefix**2 * t.heads * t.head_dim
    layers = config.text_layers
    text_flops = (layers - 1) * (2 * prefix * text_layer + attention) + 4 * prefix * t.width * kv
    w, m = config.expert_width, config.expert_mlp_width
    self_layers = sum(config.is_self_attention(i) for i in range(config.expert_layers))
    expert_weights = config.expert_layers * (2 * w * t.heads * t.head_dim + 3 * w * m) + self_layers * 2 * w * kv
    chunk = config.chunk_size
    seen = prefix + chunk // 2
    step_flops = 2 * chunk * expert_weights + 4 * config.expert_layers * chunk * seen * t.heads * t.head_dim
    once = cameras * per_vision + text_flops
    flops = once + steps * step_flops
    # The expert fits into no cache beside its keys and values: each step reads it again.
    content = 2 * (vision_weights + connector + (layers - 1) * text_layer + steps * expert_weights)
    return {
        "gflop": flops / 1e9,
        "gigabytes": content / 1e9,
        "compute_ms": flops / peak[0] * 1e3,
        "memory_ms": content / peak[1] * 1e3,
        # Vision and text are bound by arithmetic, the expert by reading its weights.
        "best_ms": once / peak[0] * 1e3 + steps * 2 * expert_weights / peak[1] * 1e3,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cameras", type=int, default=2, help="cameras that deliver pictures")
    parser.add_argument("--empty", type=int, default=0, help="declared empty slots beside them")
    parser.add_argument("--engine", nargs="+", default=["plain", "exact", "fast"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--num-steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bundle = make_bundle(Path(temporary), arguments.cameras, arguments.empty)
        options = BenchOptions(
            str(bundle),
            against=() if arguments.no_peer else ("lerobot",),
            engine=tuple(arguments.engine),
            num_steps=arguments.num_steps,
            repeats=arguments.repeats,
            precision=arguments.precision,
            backend=arguments.backend,
            device=arguments.device,
        )
        document: dict[str, Any] = bench(options)
    if arguments.device.startswith("cuda"):
        words = document["tokens"]["instruction"]
        name = torch.cuda.get_device_name()
        document["roofline"] = roofline(PolicyConfig(), arguments.cameras, words, arguments.num_steps, name)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    from smolpilot.cli.bench import print_table

    print_table(document)
    if document.get("roofline"):
        print("roofline: " + ", ".join(f"{key} {value:.3g}" for key, value in document["roofline"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
