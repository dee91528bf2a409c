"""Seconds per episode of a closed loop in ALOHA, beside `lerobot-eval` with the same policy and seeds in the same run.

    uv run --group test python benchmarks/closed_loop.py [--episodes 4] [--steps 100] [--json]

The policy is a small ACT with random weights that LeRobot writes. Both run 4 episodes side by side by default, once as
shipped (a video of each episode), once without videos; smolpilot once more without shadows and MSAA, which are other
images. CPU time is that of all processes, start-up included. The highest reward of each episode has to be equal.
smolpilot's gate is asked before, as its verdict is kept; floors are left out, which lerobot-eval does not play.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smolpilot.common.machine import machine_facts

SEED, CHUNK, HORIZON = 1_000_000, 50, 25
# LeRobot's command always draws videos of ten episodes; its function takes none.
WITHOUT_VIDEOS = """
import sys, lerobot.scripts.lerobot_eval as script
whole = script.eval_policy_all
script.eval_policy_all = lambda *args, **named: whole(*args, **{**named, "max_episodes_rendered": 0})
script.main()
"""


def write_policy(folder: Path) -> None:
    """A small ACT for ALOHA, with random weights, as LeRobot saves it."""
    import torch
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    torch.manual_seed(0)
    config = ACTConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (14,)),
            "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 480, 640)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (14,))},
        chunk_size=CHUNK, n_action_steps=HORIZON, dim_model=64, n_heads=2, dim_feedforward=128, n_encoder_layers=1,
        pretrained_backbone_weights=None, use_vae=False, device="cpu", push_to_hub=False,
    )  # fmt: skip
    vector = {"mean": torch.zeros(14), "std": torch.full((14,), 0.3), "min": -torch.ones(14), "max": torch.ones(14)}
    image = {name: torch.full((3, 1, 1), value) for name, value in
             (("mean", 0.3), ("std", 0.3), ("min", 0.0), ("max", 1.0))}  # fmt: skip
    stats = {"observation.state": vector, "action": vector, "observation.images.top": image}
    ACTPolicy(config).save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)


def theirs(policy: Path, out: Path, options: argparse.Namespace, *, videos: bool) -> list[float]:
    """Run lerobot-eval; the highest reward of each episode."""
    start = ["-m", "lerobot.scripts.lerobot_eval"] if videos else ["-c", WITHOUT_VIDEOS]
    call([
        *start, f"--policy.path={policy}", "--policy.device=cpu", "--env.type=aloha",
        "--env.task=AlohaTransferCube-v0", f"--env.episode_length={options.steps}", f"--seed={SEED}",
        f"--eval.n_episodes={options.episodes}", f"--eval.batch_size={options.episodes}", f"--output_dir={out}",
        "--eval.use_async_envs=false",  # its other processes do not find gym_aloha
    ])  # fmt: skip
    found = json.loads((out / "eval_info.json").read_text(encoding="utf-8"))
    return [float(value) for value in found["per_task"][0]["metrics"]["max_rewards"]]


def ours(policy: Path, out: Path, options: argparse.Namespace, *, videos: bool, fast: bool = False) -> list[float]:
    """Run smolpilot rollout; the highest reward of each episode."""
    drawn = ["shadows=false", "msaa=0"] if fast else []
    call([
        "-m", "smolpilot", "rollout", str(policy), "--env", "aloha", "--env-settings", f"max_steps={options.steps}",
        *drawn, "--episodes", str(options.episodes), "--seed", str(SEED), "--jobs", str(options.jobs), "--parallel",
        str(options.episodes), "--video-episodes", str(options.episodes if videos else 0), "--no-floors", "--ungated",
        "--out", str(out),
    ])  # fmt: skip
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return [run["facts"]["max_reward"] for run in found["runs"]]


def call(words: Sequence[str], codes: Sequence[int] = (0,)) -> None:
    """Run this interpreter with these words, offline; it has to end with one of these codes."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "LP_NUM_THREADS": "0", "MUJOCO_GL": "egl"}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in codes:
        raise SystemExit(f"{words[:3]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def measured(work: Any) -> dict[str, Any]:
    """Wall time and CPU time of the processes that the work starts, and its result."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    rewards = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - begin, "cpu_s": cpu, "max_rewards": rewards}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100, help="of an episode; gym-aloha's are 400")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-videos", action="store_true", help="leave out the two runs that write videos")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_policy(root / "act")
        cases = {
            "lerobot-eval": lambda: theirs(root / "act", root / "a", options, videos=True),
            "smolpilot rollout, the same images and videos": lambda: ours(
                root / "act", root / "b", options, videos=True
            ),
            "lerobot-eval, videos left out": lambda: theirs(root / "act", root / "c", options, videos=False),
            "smolpilot rollout, the same images, no videos": lambda: ours(
                root / "act", root / "d", options, videos=False
            ),
            "smolpilot rollout, no shadows, no MSAA, no videos": lambda: ours(
                root / "act", root / "e", options, videos=False, fast=True
            ),
        }
        if options.no_videos:
            cases = {name: work for name, work in cases.items() if "no videos" in name or "left out" in name}
        for drawn in ([], ["shadows=false", "msaa=0"]):
            words = ["env", "check", "aloha", "--env-settings", f"max_steps={options.steps}", *drawn]
            call(["-m", "smolpilot", *words], codes=(0, 1))
        found = {name: measured(work) for name, work in cases.items()}
    same = [case["max_rewards"] for name, case in found.items() if "no shadows" not in name]
    if any(one != same[0] for one in same):
        raise SystemExit(f"The episodes differ: {same}")
    if options.json:
        print(json.dumps({"cases": found, "options": vars(options), "machine": machine_facts("cpu")}))
        return
    base: dict[str, Any] = {}
    for name, case in found.items():
        base = case if name.startswith("lerobot") else base
        times = f"{base['wall_s'] / case['wall_s']:.1f}x wall, {base['cpu_s'] / case['cpu_s']:.1f}x CPU"
        print(f"{name:<52} {case['wall_s'] / options.episodes:7.1f} s wall, "
              f"{case['cpu_s'] / options.episodes:7.1f} s CPU an episode; {times}")  # fmt: skip
    print(f"{options.episodes} episodes of {options.steps} steps; {machine_facts('cpu')}")


if __name__ == "__main__":
    main()
