"""Training steps of the full 450 M model: smolpilot without cache, with cached vision and prefix, beside LeRobot.

    uv run --group test python benchmarks/training.py [--device cpu] [--batch 8] [--cameras 2] [--repeats 3]
        [--size full] [--curve 0] [--plot FILE.png] [--precisions float32 built] [--caches none vision prefix]
        [--keep FOLDER] [--json]

Each side runs in a process of its own (peak memory is that process's), one after the other, on the same random weights,
batches, noise and times. A step is loss, gradients and AdamW; the median leaves the first out. What a cache keeps is
computed once per frame and reported beside the steps, not in them. LeRobot is measured in float32 and in the mixed
precision that it is built with (text and expert bfloat16); ratios are to its faster one. On a machine with other work
on it, the processor time of a step (all threads) says more than its seconds. `--curve N` takes N steps and
compares the losses with LeRobot's in float32, `--plot` draws them; `--size narrow` does so on a model of a thirtieth of
the arithmetic. With `--keep` a side that was measured with the same
settings before is not measured again: all sides of a slow machine need not be run in one go.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from startup import machine
from training_side import CACHES, SIZES, batch_paths, run_side

OURS = {"none": "no cache", "vision": "vision cache", "prefix": "prefix cache"}
TITLES = {"full": "450 M model", "narrow": "narrow model"}
THEIRS = {"float32": "LeRobot, float32", "built": "LeRobot, as built"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--curve", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--precisions", nargs="+", choices=list(THEIRS), default=list(THEIRS))
    parser.add_argument("--caches", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(run_side(given)))
        return 0
    if given.curve and given.precisions[0] != "float32":
        parser.error("--curve compares with LeRobot in float32: name it first in --precisions")
    if given.keep is not None:
        given.keep = given.keep / given.size
        return measure(given)
    with tempfile.TemporaryDirectory() as folder:
        given.keep = Path(folder)
        return measure(given)


def measure(given: argparse.Namespace) -> int:
    """Run what was not run before, side by side, and report."""
    given.keep.mkdir(parents=True, exist_ok=True)
    if not all(path.exists() for path in batch_paths(given, "inputs")):
        started("export", given)
    sides = {}
    for side in [*given.precisions, *given.caches]:
        once = started(f"keep-{side}", given) if side in CACHES else {}
        sides[side] = started(side, given) | once
    compare(sides, given)
    if given.plot:
        plot(sides, given.plot, f"{TITLES[given.size]}, batch {given.batch}, {given.cameras} cameras, {given.device}")
    return report(given, sides)


def started(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """What the process of one side prints, or printed before."""
    # LeRobot's losses are needed for the curve in float32 only.
    curve = 0 if side == "built" else given.curve
    words = ["--side", side, "--device", given.device, "--batch", str(given.batch), "--cameras", str(given.cameras)]
    words += ["--repeats", str(given.repeats), "--curve", str(curve), "--size", given.size]
    kept = given.keep / f"{'_'.join(words).replace('--', '')}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    print(f"{THEIRS.get(side) or OURS.get(side) or side} ...", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, *words, "--keep", str(given.keep)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = dict(json.loads(ended.stdout.splitlines()[-1]))
    kept.write_text(json.dumps(found))
    return found


def compare(sides: dict[str, dict[str, Any]], given: argparse.Namespace) -> None:
    """Add ratios to LeRobot's faster precision and, where batches agree, the largest relative difference of a loss."""
    peer = min(sides[side]["step_s"] for side in given.precisions)
    work = min(sides[side]["processor_s"] for side in given.precisions)
    reference = sides[given.precisions[0]]["losses"]
    for values in sides.values():
        values["samples_per_s"] = given.batch / values["step_s"]
        values["ratio"] = peer / values["step_s"]
        values["processor_ratio"] = work / values["processor_s"]
    for side in given.caches:
        # Without a curve a cached side has one batch, so only the first loss is of the same frames.
        count = None if given.curve or side == "none" else 1
        pairs = zip(sides[side]["losses"][:count], reference, strict=False)
        sides[side]["loss_difference"] = max(abs(a - b) / abs(b) for a, b in pairs)


def plot(sides: dict[str, dict[str, Any]], path: Path, title: str) -> None:
    """Losses of every side on the same batches, noise and times, and how far ours are from LeRobot's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 6), height_ratios=(2, 1))
    reference = sides["float32"]["losses"]
    steps = range(1, len(reference) + 1)
    above.plot(steps, reference, color="black", linewidth=4, alpha=0.3, label=THEIRS["float32"])
    for side, style in (("none", "-"), ("vision", "--"), ("prefix", ":")):
        if side in sides:
            losses = sides[side]["losses"][: len(reference)]
            above.plot(steps, losses, style, label=f"smolpilot, {OURS[side]}")
            apart = [max(abs(a - b) / abs(b), 1e-9) for a, b in zip(losses, reference, strict=True)]
            below.semilogy(steps, apart, style, label=f"smolpilot, {OURS[side]}")
    above.set(ylabel="loss (squared velocity error, normalised)", title=title)
    below.set(xlabel="optimiser step", ylabel="relative difference")
    above.legend()
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def report(given: argparse.Namespace, sides: dict[str, dict[str, Any]]) -> int:
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else machine()
    if given.json:
        print(json.dumps({"machine": name, "batch": given.batch, "cameras": given.cameras, **sides}, indent=2))
        return 0
    print(f"{name}; {TITLES[given.size]}, batch {given.batch}, {given.cameras} cameras, medians\n")
    titles = (
        "",
        "step (s)",
        "samples/s",
        "ratio",
        "processor (s)",
        "ratio",
        "peak (GB)",
        "once/frame (s)",
        "loss apart",
    )
    print("".join(f"{title:<20}" if not title else f"{title:>15}" for title in titles))
    for side, values in sides.items():
        apart = f"{values['loss_difference']:.1e}" if "loss_difference" in values else ""
        once = f"{values['once_per_frame_s']:.2f}" if side in CACHES else ""
        numbers = (f"{values['step_s']:.2f}", f"{values['samples_per_s']:.2f}", f"{values['ratio']:.2f}")
        work = (f"{values['processor_s']:.2f}", f"{values['processor_ratio']:.2f}")
        cells = (*numbers, *work, f"{values['peak_gb']:.1f}", once, apart)
        print(f"{THEIRS.get(side) or OURS[side]:<20}" + "".join(f"{cell:>15}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
