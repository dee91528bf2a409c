"""Training steps of the full 450 M model: smolpilot without cache, with cached vision and prefix, beside LeRobot.

    uv run --group test python benchmarks/training.py [--device cpu] [--batch 8] [--cameras 2] [--repeats 3]
        [--curve 0] [--precisions float32] [--caches none vision prefix] [--json]

Each side runs in a process of its own (peak memory is that process's), one after the other, on the same random weights,
batches, noise and times. A step is loss, gradients and AdamW. What a cache keeps is computed once per frame and
reported beside the steps, not in them. `--curve N` also compares the losses of N steps. LeRobot is measured in float32
and, with `--precisions float32 built`, in the mixed precision that it is built with; ratios are to its faster one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from plain_model import inputs_of, lerobot_policy, make_batch, our_model
from startup import machine

from smolpilot.policy.byte_tokenizer import byte_level_folder
from smolpilot.policy.config import VLMConfig
from smolpilot.policy.inputs import PolicyInputs

OURS = {"none": "no cache", "vision": "vision cache", "prefix": "prefix cache"}
THEIRS = {"float32": "LeRobot, float32", "built": "LeRobot, as built"}


def batch_of(number: int, batch: int, cameras: int, device: str) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """Batch `number` with its noise and times, the same in every process. Three different batches take turns."""
    data = make_batch(batch, cameras, "cpu")
    g = torch.Generator().manual_seed(100 + number % 3)
    for i in range(cameras):
        data[f"observation.images.camera{i + 1}"] = torch.rand(batch, 3, 512, 512, generator=g)
    data["observation.state"] = torch.randn(batch, 6, generator=g)
    data["action"] = torch.randn(batch, 50, 6, generator=g)
    draw = torch.Generator().manual_seed(1000 + number)
    noise = torch.randn(batch, 50, 32, generator=draw)
    moment = torch.rand(batch, generator=draw) * 0.999 + 0.001
    return {key: value.to(device) for key, value in data.items()}, noise.to(device), moment.to(device)


def run_side(side: str, device: str, batch: int, cameras: int, repeats: int, curve: int) -> dict[str, Any]:
    """Measure one side in this process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "vlm"
        byte_level_folder(VLMConfig()).write(folder)
        theirs = lerobot_policy(folder, cameras, built=side == "built")
        ours = our_model(theirs, VLMConfig(), Path(temporary)) if side in OURS else None
    once = 0.0
    steps = max(repeats + 1, curve)
    if ours is not None:
        ours.to(device).train()
        kept = []
        for number in range(min(3, steps)):
            inputs = inputs_of(theirs, batch_of(number, batch, cameras, device)[0])
            begin = time.perf_counter()
            kept.append(with_cache(ours, inputs, side))
            synchronise(device)
            once = (time.perf_counter() - begin) / batch
        del theirs
        model: Any = ours
        step = lambda number, noise, moment: ours.loss(kept[number % 3], noise, moment)  # noqa: E731
    else:
        model = theirs.to(device).train()
        step = lambda number, noise, moment: theirs.forward(  # noqa: E731
            batch_of(number, batch, cameras, device)[0], noise, moment
        )[0]
    return {"once_per_frame_s": once, **time_steps(model, step, device, batch, cameras, steps)}


def with_cache(ours: Any, inputs: PolicyInputs, side: str) -> PolicyInputs:
    """The inputs as a cache of this kind gives them."""
    if side == "none":
        return inputs
    with torch.no_grad():
        if side == "vision":
            tokens = ours.embed_images(inputs.images.flatten(0, 1))
            inputs.image_tokens = tokens.reshape(len(inputs), -1, *tokens.shape[1:])
        else:
            context = ours.encode_context(inputs)
            inputs.context, inputs.context_mask = context.pack(), context.mask
    return inputs


def time_steps(
    model: Any, loss_of: Callable[..., torch.Tensor], device: str, batch: int, cameras: int, steps: int
) -> dict[str, Any]:
    """Losses of all steps and the median seconds of all but the first."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-10)
    seconds, losses = [], []
    for number in range(steps):
        _, noise, moment = batch_of(number, batch, cameras, device)
        synchronise(device)
        begin = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(number, noise, moment)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimiser.step()
        losses.append(loss.item())
        synchronise(device)
        seconds.append(time.perf_counter() - begin)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if device.startswith("cuda"):
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {"step_s": statistics.median(seconds[1:]), "losses": losses, "peak_gb": memory}


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--curve", type=int, default=0)
    parser.add_argument("--precisions", nargs="+", choices=list(THEIRS), default=["float32"])
    parser.add_argument("--caches", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.side:
        result = run_side(given.side, given.device, given.batch, given.cameras, given.repeats, given.curve)
        print(json.dumps(result))
        return 0
    sides: dict[str, dict[str, Any]] = {}
    for side in [*given.precisions, *given.caches]:
        # LeRobot's losses are needed for the curve in float32 only.
        curve = 0 if side == "built" else given.curve
        command = [sys.executable, __file__, "--side", side, "--device", given.device, "--batch", str(given.batch)]
        command += ["--cameras", str(given.cameras), "--repeats", str(given.repeats), "--curve", str(curve)]
        print(f"measuring {THEIRS.get(side) or OURS[side]} ...", file=sys.stderr, flush=True)
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        sides[side] = json.loads(ended.stdout.splitlines()[-1])
    return report(given, sides)


def report(given: argparse.Namespace, sides: dict[str, dict[str, Any]]) -> int:
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else machine()
    peer = min(sides[side]["step_s"] for side in given.precisions)
    reference = sides[given.precisions[0]]["losses"]
    for side in given.caches:
        pairs = zip(sides[side]["losses"], reference, strict=False)
        sides[side]["ratio"] = peer / sides[side]["step_s"]
        sides[side]["loss_difference"] = max(abs(a - b) / abs(b) for a, b in pairs)
    if given.json:
        print(json.dumps({"machine": name, "batch": given.batch, "cameras": given.cameras, **sides}, indent=2))
        return 0
    print(f"{name}; 450 M model, batch {given.batch}, {given.cameras} cameras, median of {given.repeats} steps\n")
    print(f"{'':<20}{'step (s)':>10}{'ratio':>8}{'peak (GB)':>11}{'once/frame (s)':>16}{'loss apart':>12}")
    for side, values in sides.items():
        title = THEIRS.get(side) or OURS[side]
        ratio = f"{values['ratio']:.1f}" if "ratio" in values else ""
        apart = f"{values['loss_difference']:.1e}" if "loss_difference" in values else ""
        kept = f"{values['once_per_frame_s']:.2f}" if side in ("vision", "prefix") else ""
        print(f"{title:<20}{values['step_s']:>10.2f}{ratio:>8}{values['peak_gb']:>11.1f}{kept:>16}{apart:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
