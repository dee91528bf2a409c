"""The sound inputs that are changed: tiny recordings, policies, runs, plans, caches and exports, in one folder."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

JOINTS = ["pan", "lift", "gripper"]
TASKS = ["touch the red block", "touch the blue block"]
SIZE = (32, 48)
SECRET = "the secret of another folder"

PROFILE = """\
name: my_arm
description: an arm of one's own
robot_types: [my_arm_v1]
rate: 10
joints:
  - {name: pan, unit: rad, position_limits: [-3.2, 3.2], velocity_limit: 4.0, aliases: [base]}
  - {name: lift, unit: rad, position_limits: [-2.0, 2.0], velocity_limit: unknown}
  - {name: gripper, unit: fraction, position_limits: [0, 1], velocity_limit: 5.0}
gripper: [gripper]
cameras:
  - {name: front, width: 48, height: 32, role: front}
default_instruction: touch the red block
"""
CONFIG = """\
dataset: v3
preset: tiny
from_scratch: true
steps: 1
batch_size: 2
chunk_size: 4
n_action_steps: 4
lr: 0.001
warmup_steps: 0
held_out: 0
episodes: 0-1
camera_map: {front: main}
augment: {crop: 0.5}
seed: 3
device: cpu
"""
PLAN = """\
defaults: {preset: tiny, from_scratch: true, n_action_steps: 4, chunk_size: 4, batch_size: 2, device: cpu}
evaluation: {frames: 12, resamples: 50}
stages:
  - {name: red, dataset: v3, episodes: '0,2', steps: 4, lr: 1e-3, options: {augment: {crop: 0.5}}}
  - name: blue
    dataset: v3
    episodes: 1-1
    instruction: touch the blue block
    init: previous
    epochs: 1.5
    freeze: vision
    replay: [0.25, 0.75]
    gate: {new: 0.1, old: 0.2, retries: 2, otherwise: continue}
    simulation: {target: blue, episodes: 7}
"""
SETUP = """\
profile: so101
driver: {type: emulated, gravity: {shoulder_lift: 0.1}, faults: {drop: 0.01, seed: 3}}
cameras:
  front: {type: file, device: front.mp4, width: 64, height: 48, fps: 10, freeze_after: 2.5}
operating_limits:
  shoulder_pan: {position: [-90, 90], velocity: 60.5, acceleration: 200, tracking_error: 15}
  gripper: {torque: 0.4}
start_pose: {shoulder_lift: -90, elbow_flex: 85.5}
governor: {max_state_age: 0.1, max_rejected: 4}
"""


def build(world: Path) -> None:
    """Fill the folder `world`; a minute on a busy machine, seconds otherwise."""
    from smolpilot.cli.main import main

    def run(*args: object) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([*map(str, args)])
        assert code == 0, f"{args}: {code}\n{said.getvalue()}"

    world.mkdir(parents=True)
    here = Path.cwd()
    os.chdir(world)
    try:
        (world / "secret.txt").write_text(SECRET)
        _recordings(world, run)
        _policies(world)
        _runs(world)
        _kept(world, run)
        (world / "yaml").mkdir()
        texts = {"robot.yaml": PROFILE, "config.yaml": CONFIG, "plan.yaml": PLAN, "setup.yaml": SETUP}
        for name, text in texts.items():
            (world / "yaml" / name).write_text(text)
        _arm(world)
    finally:
        os.chdir(here)


def _arm(world: Path) -> None:
    """What belongs to an arm: LeRobot's calibration, and the limits that demonstrations gave a bundle."""
    from smolpilot.robots import RobotProfile
    from smolpilot.robots.demonstrated import FILE, Demonstrated, Origin
    from smolpilot.runtime.calibration import default_calibration, write_calibration

    write_calibration(world / "yaml" / "calibration.json", default_calibration(RobotProfile.load("so101")))
    profile = RobotProfile.from_yaml(PROFILE)
    rows = np.sin(np.arange(40)[:, None] / 5 + np.arange(3))
    origin = Origin(dataset="v3", fingerprint=None, rate=10.0, frames=40, episodes=(0,))
    found = Demonstrated.from_episodes([(rows, rows)], profile, origin)
    (world / "limits").mkdir()
    (world / "limits" / FILE).write_text(json.dumps(found.to_json(), indent=2))


def _recordings(world: Path, run: Any) -> None:
    from smolpilot.datasets import DatasetWriter

    with DatasetWriter(
        world / "v3", fps=10, state_names=JOINTS, action_names=JOINTS, cameras={"front": SIZE}, robot_type="toy_arm"
    ) as writer:
        for episode in range(3):
            for i in range(9 + episode):
                phase = i / 10 + 0.3 * episode
                state = np.array([np.sin(phase), np.cos(phase), 0.5 + 0.4 * np.sin(2 * phase)], np.float32)
                picture = np.full((*SIZE, 3), 60, np.uint8)
                picture[8:20, 2 * i : 2 * i + 10] = (220, 40, 40) if episode % 2 == 0 else (40, 40, 220)
                writer.add_frame(
                    {
                        "observation.state": state, "action": state + 0.05, "observation.images.front": picture,
                        "task": TASKS[episode % 2],
                    }
                )  # fmt: skip
            writer.end_episode()
    run("dataset", "convert", "v3", "v21_proven", "--to", "v2.1")
    run("dataset", "convert", "v21_proven", "v3_proven", "--to", "v3.0")
    shutil.copytree("v21_proven", "v21")
    (world / "v21" / "meta" / "smolpilot_manifest.json").unlink()
    _pictures_in_tables(world / "v21", world / "pictures")
    run("dataset", "convert", "pictures", "pictures_v3", "--to", "v3.0")


def _pictures_in_tables(source: Path, target: Path) -> None:
    """The recording with its pictures as PNG in the tables, as LeRobot writes it without videos."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    from smolpilot.datasets import open_dataset

    def png(picture: Any) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(picture).save(sink, format="PNG")
        return sink.getvalue()

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("videos"))
    dataset = open_dataset(source)
    for episode in dataset.episodes:
        path = target / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
        pictures = dataset.decode_episode("front", episode)
        cells = [{"bytes": png(picture), "path": f"frame_{i:06d}.png"} for i, picture in enumerate(pictures)]
        table = pq.read_table(path)
        column = pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        pq.write_table(table.append_column("observation.images.front", column), path)
    dataset.close()
    info = json.loads((target / "meta" / "info.json").read_text())
    info["features"]["observation.images.front"] = {
        "dtype": "image", "shape": [*SIZE, 3], "names": ["height", "width", "channel"],
    }  # fmt: skip
    info |= {"total_videos": 0, "video_path": None}
    (target / "meta" / "info.json").write_text(json.dumps(info, indent=4))


def _policies(world: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from smolpilot.datasets import open_dataset
    from smolpilot.smolvla import new_policy, save_bundle

    sizes = {"chunk_size": 4, "n_action_steps": 4, "num_steps": 2}
    policy = new_policy("tiny", meta=open_dataset(world / "v3").meta, seed=1, device="cpu", overrides=sizes)
    policy.lineage = {"dataset": {"name": "v3", "episodes": 3}}
    save_bundle(policy, world / "sealed")
    # As it comes from somewhere else: nothing in it that vouches for the rest.
    shutil.copytree("sealed", "bundle")
    facts = json.loads((world / "bundle" / "smolpilot.json").read_text())
    facts.pop("digests", None)
    (world / "bundle" / "smolpilot.json").write_text(json.dumps(facts, indent=2))
    shutil.copytree("bundle", "lerobot", ignore=shutil.ignore_patterns("smolpilot.json", "robot.yaml"))
    weights = load_file("bundle/model.safetensors")
    shutil.copytree("bundle", "shards", ignore=shutil.ignore_patterns("model.safetensors"))
    names = sorted(weights)
    listed: dict[str, str] = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, f"shards/{file}", metadata={"format": "pt"})
        listed |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(value.nbytes for value in weights.values())}, "weight_map": listed}
    (world / "shards" / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    module = "model.vlm_with_expert.lm_expert.layers.0.self_attn.q_proj"
    out, inp = weights[f"{module}.weight"].shape
    generator = torch.Generator().manual_seed(0)
    (world / "adapter").mkdir()
    save_file(
        {
            f"base_model.model.{module}.lora_A.weight": torch.randn(4, inp, generator=generator),
            f"base_model.model.{module}.lora_B.weight": torch.randn(out, 4, generator=generator),
            "base_model.model.model.action_out_proj.weight": weights["model.action_out_proj.weight"] * 2,
            "base_model.model.model.action_out_proj.bias": weights["model.action_out_proj.bias"] + 1,
        },
        "adapter/adapter_model.safetensors",
    )
    (world / "adapter" / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA", "base_model_name_or_path": str(world / "bundle"), "r": 4, "lora_alpha": 16,
                "rank_pattern": {}, "alpha_pattern": {"layers.0.self_attn.q_proj": 8}, 
                "modules_to_save": ["action_out_proj"],
                "target_modules": ["q_proj"], "use_rslora": False, "bias": "none", "lora_dropout": 0.0,
            },
            indent=2,
        )
    )  # fmt: skip
    for path in [world / "bundle" / "config.json", *sorted((world / "bundle").glob("policy_*"))]:
        shutil.copy(path, world / "adapter")


def _runs(world: Path) -> None:
    """A run that stopped after two of its four steps, with what it measured and one checkpoint."""
    from smolpilot.training import TrainOptions
    from smolpilot.training.options.train_options import resolve
    from smolpilot.training.run.run_folder import create

    out = world / "run"
    options = TrainOptions(dataset=Path("v3"), out=Path("run"), policy="bundle", steps=4, batch_size=2, device="cpu")
    create(out, resolve(options), {"device": "cpu", "versions": {"python": "3.12"}})
    (out / "checkpoints" / "step_000002").mkdir()
    (out / "checkpoints" / "last").symlink_to("step_000002")
    lines: list[dict[str, Any]] = [
        {
            "step": step, "kind": "train", "loss": 1 / step, "lr": 1e-4, "grad_norm": 1.0, "epoch": 0.5 * step,
            "samples_per_s": 64.0, "data_wait": 0.02, "memory_gb": 1.0,
        }
        for step in (1, 2)
    ]  # fmt: skip
    lines.append({"step": 2, "kind": "validation", "score": 0.5, "unit": "rad"})
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _kept(world: Path, run: Any) -> None:
    """What smolpilot keeps for itself: the graphs of an engine, a block of the frame cache; and an export."""
    import torch

    from smolpilot.inference import prepare
    from smolpilot.training.cache.block_store import BlockStore

    prepare(
        world / "bundle", engine="fast", backend="openvino", device="cpu", cache_dir=world / "engines", warm_up=False
    )
    run("export", "bundle", "--out", "export", "--frames", "1")
    numbers = torch.arange(6 * 8, dtype=torch.float32).reshape(6, 8)
    BlockStore(world / "blocks", (8,), torch.float32).write("abcdef", numbers)
