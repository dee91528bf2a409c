"""Training steps of the full 450 M model: smolpilot without cache, with cached vision and prefix, beside LeRobot.

    uv run --group test python benchmarks/training.py [--device cpu] [--batch 8] [--cameras 2] [--repeats 3]
        [--size full] [--curve 0] [--plot FILE.png] [--precisions float32 built] [--caches none vision prefix]
        [--keep FOLDER] [--json]

Each side runs in a process of its own (peak memory is that process's) on the same random weights, batches, noise and
times. A step is loss, gradients, clipping and AdamW; the first is not counted. The machine's speed changes from minute
to minute, so that a side takes its steps in turns with LeRobot in float32: a round is one step of LeRobot and one of
the side (three where a cache serves), its ratio LeRobot's time over the median of the side's; the median of `--repeats`
rounds counts. What a cache keeps is computed once per frame and reported beside the steps, not in them. LeRobot is
measured in float32 and in the mixed precision that it is built with (text and expert bfloat16); ratios are to its
faster one. On a machine with other work on it, the processor time of a step (all threads) says more than its seconds.
GFLOP is the arithmetic of matrix products and attention in one step, counted by torch: what the ratio would be if
every operation took the same time. `--curve N` takes N steps first and compares the losses with LeRobot's in float32,
`--plot` draws them; `--size narrow` does so on a model of a thirtieth of the arithmetic. With `--keep` a side that was
measured with the same settings before is not measured again: all sides of a slow machine need not be run in one go.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
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
    if given.precisions[0] != "float32":
        parser.error("the other sides take turns with LeRobot in float32: name it first in --precisions")
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
        Side("export", given).end()
    wanted = [*given.precisions, *given.caches]
    kept = {side: json.loads(path.read_text()) for side in wanted if (path := kept_path(given, side)).exists()}
    if len(kept) < len(wanted):
        peer = Side("float32", given)
        lead = peer.lead()
        for side in [side for side in wanted[1:] if side not in kept]:
            once = Side(f"keep-{side}", given).end() if side in CACHES else {}
            kept[side] = beside(peer, side, given) | once
            kept_path(given, side).write_text(json.dumps(kept[side]))
        peer.rounds(given.repeats - len(peer.taken["seconds"]))
        kept["float32"] = peer.medians() | {"losses": lead, "to_float32": 1.0, "processor_to_float32": 1.0} | peer.end()
        kept_path(given, "float32").write_text(json.dumps(kept["float32"]))
    sides = {side: kept[side] for side in wanted}
    compare(sides, given)
    if given.plot:
        plot(sides, given.plot, f"{TITLES[given.size]}, batch {given.batch}, {given.cameras} cameras, {given.device}")
    return report(given, sides)


def beside(peer: Side, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One side, its steps in turns with the peer's: medians, losses, peak memory, and how much less it takes."""
    side = Side(name, given)
    losses = side.lead()
    ratios: dict[str, list[float]] = {"seconds": [], "processor": []}
    for _ in range(given.repeats):
        theirs = peer.rounds(1)
        ours = side.rounds(3 if name in CACHES else 1)
        for kind, found in ratios.items():
            found.append(theirs[kind][0] / statistics.median(ours[kind]))
    shares = {"to_float32": statistics.median(ratios["seconds"]), "rounds": ratios["seconds"]}
    shares["processor_to_float32"] = statistics.median(ratios["processor"])
    return side.medians() | shares | {"losses": losses} | side.end()


class Side:
    """The process of one side (training_side.py): it takes as many steps as it is told to and waits."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        print(f"{THEIRS.get(name) or OURS.get(name) or name} ...", file=sys.stderr, flush=True)
        # LeRobot's losses are needed for the curve in float32 only.
        self._lead = 1 if name == "built" else max(given.curve, 1)
        self._process = subprocess.Popen(
            [sys.executable, __file__, *words(name, given), "--keep", str(given.keep)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.taken: dict[str, list[float]] = {"seconds": [], "processor": []}

    def lead(self) -> list[float]:
        """The losses of the first steps, which are not counted: one, or the whole curve."""
        return self._ask(self._lead)["losses"]

    def rounds(self, count: int) -> dict[str, list[float]]:
        """Seconds and processor time of `count` more steps; none where that is not above 0."""
        found = self._ask(count)
        for kind, values in self.taken.items():
            values += found[kind]
        return found

    def medians(self) -> dict[str, Any]:
        taken = self.taken
        medians = {"step_s": statistics.median(taken["seconds"]), "processor_s": statistics.median(taken["processor"])}
        return {**medians, "steps_s": taken["seconds"]}

    def end(self) -> dict[str, Any]:
        """What the process prints when it is told nothing more."""
        last = self._process.communicate()[0]
        if self._process.returncode:
            raise SystemExit(f"a side ended with exit code {self._process.returncode}; what it said stands above")
        return dict(json.loads(last.splitlines()[-1]))

    def _ask(self, steps: int) -> dict[str, list[float]]:
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        try:
            print(steps, file=pipes.stdin, flush=True)
            return dict(json.loads(pipes.stdout.readline()))
        except (BrokenPipeError, ValueError):
            self.end()
            raise


def words(side: str, given: argparse.Namespace) -> list[str]:
    """The options of one side's process; its result is kept under them."""
    curve = 0 if side == "built" else given.curve
    options = ["--side", side, "--device", given.device, "--batch", str(given.batch), "--cameras", str(given.cameras)]
    return [*options, "--repeats", str(given.repeats), "--curve", str(curve), "--size", given.size]


def kept_path(given: argparse.Namespace, side: str) -> Path:
    return Path(given.keep / f"{'_'.join(words(side, given)).replace('--', '')}.json")


def compare(sides: dict[str, dict[str, Any]], given: argparse.Namespace) -> None:
    """Add ratios to LeRobot's faster precision and, where batches agree, the largest relative difference of a loss."""
    faster = max(sides[side]["to_float32"] for side in given.precisions)
    leaner = max(sides[side]["processor_to_float32"] for side in given.precisions)
    reference = sides["float32"]["losses"]
    for values in sides.values():
        values["samples_per_s"] = given.batch / values["step_s"]
        values["ratio"] = values["to_float32"] / faster
        values["gflop_ratio"] = sides["float32"]["gflop"] / values["gflop"]
        values["processor_ratio"] = values["processor_to_float32"] / leaner
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
    above.set(ylabel="loss (squared velocity error, normalized)", title=title)
    below.set(xlabel="optimizer step", ylabel="relative difference")
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
        "GFLOP",
        "ratio",
        "peak (GB)",
        "once/frame (s)",
        "loss apart",
    )
    print("".join(f"{title:<19}" if not title else f"{title:>15}" for title in titles))
    for side, values in sides.items():
        apart = f"{values['loss_difference']:.1e}" if "loss_difference" in values else ""
        once = f"{values['once_per_frame_s']:.2f}" if side in CACHES else ""
        numbers = (f"{values['step_s']:.2f}", f"{values['samples_per_s']:.2f}", f"{values['ratio']:.2f}")
        work = (f"{values['processor_s']:.2f}", f"{values['processor_ratio']:.2f}")
        flop = (f"{values['gflop']:.0f}", f"{values['gflop_ratio']:.2f}")
        cells = (*numbers, *work, *flop, f"{values['peak_gb']:.1f}", once, apart)
        print(f"{THEIRS.get(side) or OURS[side]:<19}" + "".join(f"{cell:>15}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
