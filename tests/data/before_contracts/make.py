"""Makes the data beside this file anew; README.md says with which version. Not a test, and not imported by one.

python tests/data/before_contracts/make.py NEW_FOLDER
"""
# ruff: noqa: I001 - it imports what that version had

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from smolpilot.simulation.expert import ScriptedExpert

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.keys import ACTION
from smolpilot.policy import load_policy, new_policy, save_bundle
from smolpilot.policy.config import TextConfig, VisionConfig, VLMConfig
from smolpilot.robots import RobotProfile
from smolpilot.simulation import arm
from smolpilot.simulation.tabletop import CAMERAS, IMAGE_SIZE, RATE, TabletopEnv
from smolpilot.training.loop import Trainer

COLORS = ("red", "blue")
EPISODES, FRAMES = 4, 6
CONFIG: dict[str, Any] = {
    "vlm": VLMConfig(
        vision=VisionConfig(width=8, layers=1, heads=2, mlp_width=16, image_size=16, patch_size=8),
        text=TextConfig(width=8, layers=2, heads=2, kv_heads=1, head_dim=4, mlp_width=16, vocab_size=320),
        scale_factor=1,
    ),
    "num_vlm_layers": 2,
    "expert_width_multiplier": 0.5,
    "resize_imgs_with_padding": (16, 16),
    "chunk_size": 4,
    "n_action_steps": 2,
    "num_steps": 4,
    "freeze_vision_encoder": True,
    "train_expert_only": True,
}


STAGES = """\
stages:
  - name: red
    dataset: dataset
    episodes: 0,2
    steps: 2
    lr: 0.003
    simulation: {target: red, colours: [red, blue], episodes: 2}
  - name: blue
    dataset: dataset
    episodes: 1,3
    steps: 2
    lr: 0.001
    replay: [0.25, 0.75]
    simulation: {target: blue, colours: [red, blue], episodes: 2}
evaluation: {frames: 8, resamples: 20}
"""


def write_dataset(path: Path) -> Path:
    """The first frames of demonstrations on the tabletop, AV1."""
    env, expert = TabletopEnv(colours=COLORS), ScriptedExpert()
    cameras = dict.fromkeys(CAMERAS, (IMAGE_SIZE, IMAGE_SIZE))
    names = arm.JOINT_NAMES
    with DatasetWriter(
        path, fps=RATE, state_names=names, action_names=names, cameras=cameras, robot_type="tabletop", codec="av1"
    ) as writer:
        for episode in range(EPISODES):
            options = {"colours": list(COLORS), "target": COLORS[episode % 2]}
            frame, _ = env.reset(seed=episode, options=options)
            for _ in range(FRAMES):
                action = expert.action(env)
                writer.add_frame({**frame, ACTION: action})
                frame, *_ = env.step(action)
            writer.end_episode()
    return path


def smolpilot(*words: object, code: int = 0) -> None:
    """A command that must end with `code`."""
    sys.argv = ["smolpilot", *map(str, words)]  # environment.json keeps it
    ended = main(sys.argv[1:])
    assert ended == code, f"{words} ended with {ended}"


def train_until_stopped(steps: int, *words: object) -> None:
    """Train, and press Ctrl-C after so many steps: the run is left as its last checkpoint has it."""
    ordinary, done = Trainer._step, 0

    def with_interrupt(self: Trainer, inputs: Any) -> None:
        nonlocal done
        ordinary(self, inputs)
        done += 1
        if done == steps:
            os.kill(os.getpid(), signal.SIGINT)

    Trainer._step = with_interrupt  # type: ignore[method-assign]
    smolpilot("train", *words, code=130)
    Trainer._step = ordinary  # type: ignore[method-assign]


def as_text_files(folder: Path) -> None:
    """Links become the small files that stand for them where a disk has no links."""
    for path in [path for path in folder.rglob("*") if path.is_symlink()]:
        target = os.fspath(path.readlink())
        path.unlink()
        path.write_text(f"{target}\n", encoding="utf-8")


def lines_after(run: Path, step: int) -> list[dict[str, Any]]:
    """What the lines of metrics.jsonl beyond a step say, without times and memory."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    untimed = {"samples_per_s", "data_wait", "memory_gb"}
    return [{k: v for k, v in line.items() if k not in untimed} for line in lines if line["step"] > step]


def make(out: Path) -> None:
    """All of it, in the new folder `out`."""
    out.mkdir(parents=True)
    os.chdir(out)
    data = write_dataset(Path("dataset"))
    parent = new_policy("tiny", meta=open_dataset(data).meta, profile=RobotProfile.load("tabletop"), seed=0,
                        overrides=CONFIG, device="cpu")  # fmt: skip
    save_bundle(parent, Path("parent"))
    ordinary = ["--policy", "parent", "--device", "cpu", "--batch-size", "4", "--n-action-steps", "2", "--eval-frames",
                "8", "--keep", "1", "--workers", "0", "--log-every", "1"]  # fmt: skip
    cached = ["--dataset", data, "--cache-dir", "cache", "--held-out", "0.25"]
    train_until_stopped(4, *cached, "--out", "run", "--steps", "6", *ordinary, "--lr", "0.003", "--eval-every", "2",
                        "--save-every", "2", "--cache", "prefix")  # fmt: skip
    # Image tokens of the same frames, beside the keys and values.
    smolpilot("train", *cached, "--out", "other", "--steps", "1", *ordinary, "--cache", "vision")
    best = "run/checkpoints/best"
    smolpilot("eval", best, "--dataset", data, "--out", "eval", "--episodes", "all", "--device", "cpu")
    smolpilot("rollout", best, "--out", "rollout", "--episodes", "4", "--video-episodes", "0", "--device", "cpu",
              "--colours", *COLORS)  # fmt: skip
    Path("stages.yaml").write_text(STAGES, encoding="utf-8")
    train_until_stopped(3, "--stages", "stages.yaml", "--out", "sequence", *ordinary, "--held-out", "0.5",
                        "--eval-every", "2", "--save-every", "2", "--cache", "none", "--augment",
                        "colour=0.5")  # fmt: skip
    expected = {"run": resumed("run", 4), "sequence": resumed("sequence", 1)}
    Path("expected.json").write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")
    write_expected_chunk(Path(best), data)
    tidy()


def resumed(name: str, step: int) -> dict[str, Any]:
    """What a stopped run, or the stopped stage of a sequence, measures when it goes on in a copy."""
    copy = Path(shutil.copytree(name, f"{name}_resumed", symlinks=True))
    smolpilot("train", "--resume", "--out", copy)
    run = copy / "stages" / "2_blue" if name == "sequence" else copy
    found: dict[str, Any] = {"lines": lines_after(run, step)}
    if run != copy:
        found["scores"] = json.loads((run / "stage.json").read_text(encoding="utf-8"))["tasks"]
    return found


def write_expected_chunk(bundle: Path, data: Path) -> None:
    """A frame, noise, and the chunk that the bundle predicts from them."""
    policy, frame = load_policy(bundle, device="cpu"), open_dataset(data)[3]
    noise = torch.randn((1, 4, 32), generator=torch.Generator().manual_seed(7))
    chunk = policy.predict_chunks([frame], noise=noise)[0].numpy()
    fields = {key: np.asarray(value) for key, value in frame.items() if key.startswith("observation.")}
    np.savez_compressed("expected.npz", **fields, task=frame["task"], noise=noise.numpy(), chunk=chunk)


def tidy() -> None:
    """Take out what is not read again, and what names the machine."""
    for name in ("run_resumed", "sequence_resumed", "other", "parent"):
        shutil.rmtree(name)
    for path in [*Path().rglob("tensorboard")]:
        shutil.rmtree(path)
    for path in [*Path().glob("*/report.html"), *Path().glob("*/*.png"), Path("stages.yaml")]:
        path.unlink()
    for path in [*Path().rglob("environment.json"), Path("eval/metrics.json"), Path("rollout/results.json")]:
        text = path.read_text(encoding="utf-8").replace(platform.platform(), "Linux")
        path.write_text(text, encoding="utf-8")
    as_text_files(Path())


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
