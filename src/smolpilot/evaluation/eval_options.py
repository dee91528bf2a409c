"""Options of `smolpilot eval` and `smolpilot rollout`; the field docs are the help text. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import Amount, AtLeastOne, Batch, Few, Flag, Pairs, Seed, Steps, Tokens

Source = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="POLICY")]
EngineName = Literal["plain", "exact", "fast", "int8"]


@dataclass(frozen=True)
class EvalOptions:
    """Score a policy on a dataset's episodes: a new chunk at every scored frame, errors per joint in robot units."""

    policy: Source
    """Bundle, checkpoint of LeRobot (SmolVLA, ACT ...) or export folder, hub id, or a name that `smolpilot plugins`
    lists, such as `hold-state`."""
    dataset: Path
    """LeRobot dataset folder (v2.0, v2.1 or v3.0) to score on."""
    out: Path
    """New folder for metrics.json, panels.png, report.html and the CSV files behind its charts (plots)."""
    episodes: str = "held-out"
    """`held-out` (those that training kept back), `all`, or a list such as `0,3,7-9`."""
    every: Steps = 1
    """Score every N-th frame of each episode."""
    max_frames: Steps | None = None
    """Score at most this many frames, spread evenly over the episodes. Default: all."""
    seed: Seed = 0
    """Seed of what a policy draws at random for each chunk; the same for any batch size."""
    batch_size: Batch = 16
    """Frames per forward pass. Latency is measured apart, on single frames."""
    num_steps: AtLeastOne | None = None
    """Denoising steps. Default: the policy's own."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the dataset fills which camera slot, as `top=camera1`; `side=none` leaves one out.
    Default: the policy's own map and equal names; where these leave a choice, the map is required."""
    robot: str | None = None
    """Robot profile (name or YAML file) for a policy without one; `none`: no profile. Default: the policy's own, else
    by the dataset's robot_type or joint names."""
    units: Pairs = field(default_factory=dict)
    """Units of the dataset's joints where they differ from the robot profile's, as `elbow=deg`, or `all=deg` for every
    rotary joint. Default: those of the training, on the dataset it was trained on."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own, for a checkpoint without usable ones."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, for a checkpoint that names one by hub id."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps`."""
    engine: EngineName = "plain"
    """What computes SmolVLA's chunks: the plain network, or an engine, which is checked on the first scored frame."""
    calibrate_on: Path | None = None
    """Dataset on which `--engine int8` is calibrated. Default: the episodes of --dataset that are not scored."""
    preflight: bool = True
    """Stop where dataset and policy do not go together: units, statistics far apart, no instruction."""
    json: Flag = False
    """Print metrics.json to standard output, and nothing else there."""

    def __post_init__(self) -> None:
        _only_for_int8(self.engine, self.calibrate_on)


@dataclass(frozen=True)
class RolloutOptions:
    """Run a policy in closed loop in an environment: success rate with its 95 % interval, and a video."""

    policy: Source
    """Bundle, checkpoint of LeRobot (SmolVLA, ACT ...) or export folder, hub id, or a name that `smolpilot plugins`
    lists, such as `hold-state`. The folder of a training with several seeds: the best checkpoint of each, in turn."""
    out: Path
    """New folder for results.json, episodes.jsonl, report.html with the CSV files behind its charts (plots), video.mp4
    and videos, one for each episode that it shows."""
    env: str | None = None
    """Environment, by a name that `smolpilot plugins` lists, NAME/TASK for one of its tasks, or a YAML file that
    describes one of gymnasium (docs/own-environment.md). Default: that of `smolpilot record`."""
    env_settings: Pairs = field(default_factory=dict)
    """Settings of the environment, as `max_steps=100 NAME=a,b,c`."""
    episodes: Amount = 100
    """Number of episodes, each from its own fresh start."""
    seed: Seed = 1_000_000
    """Seed of the first episode; episode i starts from seed + i. Recording uses small seeds: keep away from them."""
    swap_instruction: Flag = False
    """Give each scene another of its instructions than the usual one; success is that one's goal."""
    language: Flag = False
    """Does the policy listen? Play each scene under its other texts, too, up to three of them, and report success
    under the right text, the other task, and how often the text made no difference."""
    n_action_steps: Tokens | None = None
    """Execution horizon: actions run before planning again. Default: the policy's own."""
    num_steps: AtLeastOne | None = None
    """Denoising steps. Default: the policy's own."""
    untrained: Flag = False
    """Replace all weights by random ones, drawn from --seed: the baseline of an untrained policy."""
    jobs: AtLeastOne | None = None
    """Processes that the environments run in; an episode whose simulation fails there counts as failed, and the
    others go on. Default: none of their own, where the environment runs in smolpilot's interpreter."""
    parallel: Amount | None = None
    """Episodes side by side: one forward pass plans for all of them. Default: 50; 8 in each process of its own."""
    env_python: Path | None = None
    """Interpreter that has the simulation, where smolpilot's has not: the folder of a virtual environment, as
    `smolpilot env install` makes it, or a python."""
    ungated: Flag = False
    """Score all the same where the environment's gate fails, that is where its own demonstrations do not succeed with
    these settings and packages; the report says so."""
    floors: bool = True
    """Play no-op, random, hold-state and the environment's own expert on the same seeds, and compare the policy with
    each. Their episodes are kept: the next rollout on these seeds pays nothing."""
    against: Path | None = None
    """Compare with another rollout's folder, or with LeRobot's eval_info.json: paired where both met the same seeds."""
    video_episodes: Few = 6
    """Episodes shown in the video."""
    mixed_rendering: Flag = False
    """Score the policy although it learned from images of this simulation that were drawn otherwise (shadows, size,
    MuJoCo's version ...)."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the environment fills which camera slot, as `top=camera1`; `side=none` leaves one out.
    Default: the policy's own map and equal names."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own, for a checkpoint without usable ones."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, for a checkpoint that names one by hub id."""
    engine: EngineName = "plain"
    """What computes SmolVLA's chunks: the plain network, or an engine, which is checked on the first frame."""
    calibrate_on: Path | None = None
    """Dataset on which `--engine int8` is calibrated: the one that the policy was trained on, or another of its
    robot."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `mps`."""
    json: Flag = False
    """Print results.json to standard output, and nothing else there."""

    def __post_init__(self) -> None:
        _only_for_int8(self.engine, self.calibrate_on)
        if self.engine == "int8" and self.calibrate_on is None:
            raise UsageError(
                "--engine int8 is calibrated on recorded frames.",
                fix="name the dataset that the policy was trained on: --calibrate-on DIR",
            )
        if self.untrained and self.engine != "plain":
            raise UsageError("--untrained replaces the plain network's weights.", fix="leave --engine out")
        if self.language and self.swap_instruction:
            raise UsageError(
                "--language plays every scene under its own text and under others.", fix="leave --swap-instruction out"
            )


def _only_for_int8(engine: EngineName, calibrate_on: Path | None) -> None:
    if calibrate_on is not None and engine != "int8":
        raise UsageError(f"--calibrate-on does nothing with --engine {engine}.", fix="leave it out, or take int8")
