"""A chunk of the 450 M model on a CPU, in every mode, beside LeRobot 0.6.1 with the same weights and inputs.

    uv run --group test python benchmarks/inference_cpu.py [--cameras 2] [--empty 0] [--repeats 3] [--runners ...]
    uv run --group test python benchmarks/inference_cpu.py --start     memory, cold and warm start of fast and int8

All get images already letterboxed, normalized states and tokens. Weights are random: time does not depend on their
values, but the error of int8 does, so what is printed of it says nothing about a trained policy (docs/log.md has the
error on trained ones). The runners take turns: one chunk each, `--repeats` times after one to warm up; medians.
`--empty 2` adds two empty slots (`empty_cameras`), which LeRobot computes in full. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from smolpilot.common.statistics import Statistics

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from plain_model import inputs_of, lerobot_policy, make_batch, our_model
from startup import machine

from smolpilot.inference.backends import load_backend
from smolpilot.inference.backends.backend import Backend, EngineSpec
from smolpilot.inference.onnx_graphs import open_network
from smolpilot.smolvla import Policy, Transforms, TransformsConfig
from smolpilot.smolvla.config import PolicyConfig, VLMConfig
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder, byte_level_tokenizer

LEROBOT = ("lerobot float32", "lerobot as built")
RUNNERS = (*LEROBOT, "fast openvino", "int8 openvino", "fast torch", "fast onnxruntime", "int8 onnxruntime", "plain")
DEFAULT = ("lerobot float32", "lerobot as built", "fast openvino", "int8 openvino")


def other_pictures(data: dict[str, Any], seed: int) -> dict[str, Any]:
    """The batch with pictures of this seed, for calibration."""
    g = torch.Generator().manual_seed(seed)
    return {key: torch.rand(value.shape, generator=g) if "images" in key else value for key, value in data.items()}


def make_backend(name: str, model: SmolVLA, folder: Path, calibration: list[PolicyInputs]) -> Backend:
    mode: Any
    runtime: Any
    mode, runtime = name.split()
    spec = EngineSpec(
        config=model.config,
        mode=mode,
        device=torch.device("cpu"),
        precision="int8" if mode == "int8" else "float32",
        cameras=tuple(range(len(model.config.real_cameras))),
        max_tokens=48,
        steps=10,
        folder=folder / name.replace(" ", "_"),
        calibration=calibration,
    )
    if runtime == "torch":
        return load_backend("torch")(spec, lambda: model)
    return open_network(spec, lambda: model, runtime)


def run_backend(backend: Backend, inputs: PolicyInputs, noise: torch.Tensor) -> torch.Tensor:
    """One chunk; masked cameras are not encoded."""
    seen = inputs.image_masks[0]
    encoded = backend.vision(inputs.images[0, seen])
    tokens = torch.zeros(1, len(seen), *encoded.shape[1:], dtype=encoded.dtype)
    tokens[0, seen] = encoded
    context = backend.context(tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)
    return backend.denoise(context, inputs.state, noise, 10, None)


def measure(cameras: int, empty: int, repeats: int, runners: list[str]) -> dict[str, Any]:
    """Seconds per chunk of every runner, and how far its chunk is from LeRobot's in float32."""
    vlm = VLMConfig()
    data = make_batch(1, cameras, "cpu")
    noise = torch.randn(1, 50, 32, generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "vlm"
        byte_level_folder(vlm).write(folder)
        theirs = lerobot_policy(folder, cameras, empty=empty).eval()
        ours = our_model(theirs, vlm, Path(temporary))
        calls: dict[str, Callable[[], torch.Tensor]] = {}
        calibration = [inputs_of(theirs, given) for given in (data, other_pictures(data, 1))]
        for name in runners:
            print(f"preparing {name}", file=sys.stderr)
            if name in LEROBOT:
                built = name == LEROBOT[1]
                peer = lerobot_policy(folder, cameras, empty=empty, built=True).eval() if built else theirs
                calls[name] = lambda peer=peer: peer.predict_action_chunk(dict(data), noise)  # type: ignore[misc]
            elif name == "plain":
                calls[name] = lambda: ours.sample(calibration[0], noise)
            else:
                backend = make_backend(name, ours, Path(temporary), calibration)
                calls[name] = partial(run_backend, backend, calibration[0], noise)
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        chunks = {}
        with torch.no_grad():
            for turn in range(repeats + 1):
                for name, call in calls.items():
                    begin = time.perf_counter()
                    chunks[name] = call()[..., :6].float()
                    seconds[name].append(time.perf_counter() - begin)
                    print(f"turn {turn}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    peers = [medians[name] for name in LEROBOT if name in medians]
    reference = chunks.get(LEROBOT[0])
    return {
        "seconds": medians,
        "all_seconds": {name: times[1:] for name, times in seconds.items()},
        "ratio": {name: min(peers) / value for name, value in medians.items()} if peers else {},
        # Built in bfloat16, LeRobot draws other random weights.
        "largest_difference": {}
        if reference is None
        else {name: (c - reference).abs().max().item() for name, c in chunks.items() if name != LEROBOT[1]},
    }


_CHILD = """
import sys, time, json
begin = time.perf_counter()
import torch
from pathlib import Path
from smolpilot.inference import prepare
from smolpilot.inference.example_frame import example_frame
from smolpilot.smolvla import load_policy
bundle, cache, mode = sys.argv[1:4]
options = {}
if sys.argv[4] == "cold" and mode == "int8":
    policy = load_policy(bundle, device="cpu", need_weights=False)
    options["calibration"] = [example_frame(policy.transforms_config, seed) for seed in range(2)]
def memory():
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return {name: int(lines[name].split()[0]) / 1e3 for name in ("VmRSS", "RssAnon", "VmHWM")}
before = memory()
engine = prepare(bundle, engine=mode, device="cpu", cache_dir=cache, check=False, warm_up=False, **options)
ready = time.perf_counter() - begin
engine.predict_chunk(example_frame(engine.transforms.config), seed=0)
first = time.perf_counter() - begin
for seed in range(3):
    begin = time.perf_counter()
    engine.predict_chunk(example_frame(engine.transforms.config), seed=seed)
print(json.dumps({"ready_s": ready, "first_chunk_s": first, "same_pictures_chunk_s": time.perf_counter() - begin,
    "engine_mb": engine.report.memory_bytes / 1e6, "before_mb": before, "after_mb": memory()}))
"""


def full_policy() -> Policy:
    """A policy of the public architecture with random weights for two cameras and six joints."""
    config = PolicyConfig(image_shapes={"front": (3, 480, 640), "wrist": (3, 480, 640)})
    model = SmolVLA(config)
    model.initialize(torch.Generator().manual_seed(0))
    statistics: Statistics = {key: {"mean": np.zeros(6), "std": np.ones(6)} for key in ("observation.state", "action")}
    return Policy(
        model,
        Transforms(
            TransformsConfig(
                config, statistics, byte_level_tokenizer(config.vlm), {slot: slot for slot in config.real_cameras}
            )
        ),
    )


def starts(modes: list[str]) -> dict[str, Any]:
    """Seconds from the first line of a fresh process to its first chunk, and memory, with an empty and a full cache."""
    from smolpilot.smolvla import save_bundle

    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "bundle"
        save_bundle(full_policy(), bundle)
        for mode in modes:
            for start in ("cold", "warm"):
                command = [sys.executable, "-c", _CHILD, str(bundle), f"{temporary}/cache", mode, start]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                out[f"{mode} {start}"] = json.loads(done.stdout.splitlines()[-1])
                print(f"{mode} {start}: {done.stdout.splitlines()[-1]}", file=sys.stderr)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--empty", type=int, default=0, help="empty camera slots beside them")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runners", default=",".join(DEFAULT), help=f"of {', '.join(RUNNERS)}")
    parser.add_argument("--start", action="store_true", help="measure starts and memory instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    facts: dict[str, Any] = {"machine": machine(), "threads": torch.get_num_threads()}
    if arguments.start:
        facts["starts"] = starts(["int8", "fast"])
        print(json.dumps(facts, indent=2))
        return 0
    runners = arguments.runners.split(",")
    unknown = [name for name in runners if name not in RUNNERS]
    if unknown:
        parser.error(f"unknown runner {unknown[0]!r}; there are {', '.join(RUNNERS)}")
    result = measure(arguments.cameras, arguments.empty, arguments.repeats, runners)
    facts |= {"cameras": arguments.cameras, "empty": arguments.empty, "repeats": arguments.repeats, **result}
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    slots = f"{arguments.cameras} cameras in {arguments.cameras + arguments.empty} slots"
    print(f"{facts['machine']}; 450 M model, {slots}, 10 steps, median of {arguments.repeats} in turn\n")
    print(f"{'':<20}{'s per chunk':>12}{'ratio':>8}{'largest difference':>20}")
    for name, value in result["seconds"].items():
        ratio = f"{result['ratio'][name]:.2f}" if result["ratio"] else ""
        print(f"{name:<20}{value:>12.2f}{ratio:>8}{result['largest_difference'].get(name, float('nan')):>20.1e}")
    print("\nratio: to the faster of LeRobot's precisions in this run; differences are in normalized units")
    return 0


if __name__ == "__main__":
    sys.exit(main())
