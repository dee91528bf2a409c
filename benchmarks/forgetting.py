"""Three instructions in sequence on the shipped tabletop, with replay and without: what is left of the first.

    python benchmarks/forgetting.py --out DIR

Records three data sets, trains `tiny` on them one after the other with `smolpilot train --stages`, and counts success
on fresh episodes after each stage: touch the red block, touch the blue block (the same scenes, which hold both), touch
the yellow block (in scenes with one of the others). The second sequence goes on from the same first stage, without
replay and with as many samples of each new task. Started again on the same folder, it skips what is finished.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from smolpilot.cli.main import main as smolpilot

# Each task with the colors of its scenes and the seed that draws them.
TASKS = {"red": (("red", "blue"), 0), "blue": (("red", "blue"), 0), "yellow": (("red", "blue", "yellow"), 1000)}
KEPT = 0.90  # of its success, that the first task has to keep with replay


def plan(data: Path, args: argparse.Namespace, *, replay: bool) -> dict[str, Any]:
    """The stages file; without replay a stage has the steps that give it as many samples of its own task."""
    shares = [[1.0], [0.5, 0.5], [0.3, 0.3, 0.4]]
    stages = []
    for color, own, steps, rate in zip(TASKS, shares, args.steps, args.rates, strict=True):
        stage: dict[str, Any] = {
            "name": color,
            "dataset": str(data / color),
            "lr": rate,
            "steps": steps if replay else round(steps * own[-1]),
            "simulation": {
                "env": "tabletop",
                "settings": {"colors": list(TASKS[color][0]), "target": color},
                "episodes": args.rollouts,
            },
        }
        stages.append(stage | ({"replay": own} if replay and len(own) > 1 else {}))
    defaults = {"robot": "tabletop", "preset": "tiny", "from_scratch": True, "batch_size": 64, "seed": args.seed}
    return {"defaults": defaults, "stages": stages}


def run(words: list[str]) -> None:
    """A command of smolpilot, as a user gives it."""
    print("$ smolpilot", *words, flush=True)
    code = smolpilot(words)
    if code:
        sys.exit(code)


def sequence(out: Path, values: dict[str, Any], after_first: Path | None = None) -> dict[str, Any]:
    """Train a sequence (or go on with it) and return its report; `after_first`: one whose first stage it shares."""
    if not out.exists() and after_first is not None:
        # Stages that have not begun may be edited: this one goes on from the same first stage in another way.
        later = shutil.ignore_patterns("2_*", "3_*", "report.*", "process.json")
        shutil.copytree(after_first, out, symlinks=True, ignore=later)
        (out / "stages.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    if out.exists():
        run(["train", "--resume", "--out", str(out)])
    else:
        file = out.with_suffix(".yaml")
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        run(["train", "--stages", str(file), "--out", str(out)])
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def row(name: str, report: dict[str, Any]) -> str:
    """A line of the table: success at each task after the last stage, and what is left of the first."""
    matrix = report["success"]["matrix"]
    own = [matrix[task][task]["value"] for task in range(3)]
    left = [one["value"] for one in matrix[-1]]
    lost = report["success"]["forgetting"][0]
    low, high = lost["interval"]
    cells = [name, *(f"{100 * one:.0f} %" for one in own), *(f"{100 * one:.0f} %" for one in left)]
    cells += [f"{100 * lost['value']:.0f} ({100 * low:.0f} to {100 * high:.0f})", f"{100 * left[0] / own[0]:.0f} %"]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table; 1 when replay does not keep what it should, or nothing was forgotten without it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--demonstrations", type=int, default=250, help="of each instruction")
    parser.add_argument("--steps", type=int, nargs=3, default=[500, 700, 500], help="with replay")
    parser.add_argument("--rates", type=float, nargs=3, default=[2e-3, 2e-3, 1.5e-3])
    parser.add_argument("--rollouts", type=int, default=100, help="fresh episodes of each task after each stage")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started, data = time.monotonic(), args.out / "data"
    for color, (scene, seed) in TASKS.items():
        if not (data / color).exists():
            run(["record", "--out", str(data / color), "--episodes", str(args.demonstrations), "--seed",
                 str(args.seed + seed), "--target", color, "--colors", *scene])  # fmt: skip
    kept = sequence(args.out / "replay", plan(data, args, replay=True))
    lost = sequence(args.out / "no_replay", plan(data, args, replay=False), args.out / "replay")
    print(f"\nSuccess on {args.rollouts} fresh episodes of each task ({time.monotonic() - started:.0f} s in all).\n")
    print("| | red, right after its stage | blue | yellow | red at the end | blue | yellow | "
          "red forgotten (points, 95 %) | red kept |")  # fmt: skip
    print("|" + " --- |" * 9)
    print(row("without replay", lost))
    print(row("with replay", kept))
    shares = [report["success"]["kept"][0] for report in (lost, kept)]
    reached = shares[1] >= KEPT and shares[0] < KEPT
    print(
        f"\nOf its success the first task keeps {shares[1]:.0%} with replay (goal {KEPT:.0%}), {shares[0]:.0%} without."
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
