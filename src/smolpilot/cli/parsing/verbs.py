"""The verbs: where each is, what it is for, and what a name that is no verb may have meant. Loads no verb."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from smolpilot.common.errors import UsageError, did_you_mean
from smolpilot.version import __version__


@dataclass(frozen=True)
class Verb:
    """A verb as its module defines it: its options, and the function that runs it.

    `read`: makes the options of the words where it is not plain `parse`. `config`: it takes --config FILE.
    """

    options: type
    run: Callable[[Any], int | None]
    config: bool = field(default=False, kw_only=True)
    read: Callable[[Sequence[str]], Any] | None = field(default=None, kw_only=True)


# Name, module (and the attribute in it, where that is not VERB), purpose. A group's line comes before its verbs.
_ROWS = (
    ("demo", "demo", "the whole way in seven minutes: record, train, evaluate, rollouts, report"),
    ("doctor", "doctor", "check Python, torch, devices, video codecs, disk and hub"),
    ("robot", "", "robot profiles and setups; find, check, move and emulate arms"),
    ("robot list", "robot.listing:LIST", "list the shipped robot profiles and setups"),
    ("robot show", "robot.listing:SHOW", "show a profile or a setup: joints, units, limits, cameras, driver"),
    ("robot profile check", "robot.listing:CHECK", "validate a profile of your own"),
    ("robot find", "robot.find", "list serial ports with the servos that answer on them"),
    ("robot new", "robot.new", "write a setup for an arm of your own: asks, or takes options"),
    ("robot check", "robot.check", "check an arm without moving it: servos, calibration, cameras, limits"),
    ("robot watch", "robot.watch", "show joints between their limits, temperatures, cameras' ages, live"),
    ("robot move", "robot.move:MOVE", "move joints to positions, through the governor"),
    ("robot park", "robot.move:PARK", "move to the setup's start pose; --release switches torque off there"),
    ("robot report", "robot.run_policy:REPORT", "write dataset and report of a run (again), from its log"),
    ("robot emulate", "robot.emulate", "run an emulated arm on a serial port, for smolpilot's and LeRobot's programs"),
    ("env", "", "simulated environments: which work here, and interpreters for others"),
    ("env list", "env:LIST", "list the environments, whether each works here, and how to install it"),
    ("env check", "env:CHECK", "let an environment's own expert play: does it succeed here?"),
    ("env replay", "env:REPLAY", "show a dataset's joints on a simulated arm, beside its own images, as a video"),
    ("env install", "env:INSTALL", "make an interpreter that has a simulation, for `rollout` to use"),
    ("plugins", "plugins", "list policies, environments and robots by name, also those of other packages"),
    ("dataset", "", "inspect, convert, check, repair, edit and view datasets"),
    ("dataset info", "dataset.info", "version, robot, episodes, hours, features, cameras, instructions, statistics"),
    ("dataset convert", "dataset.convert", "convert between LeRobot v2.0, v2.1 and v3.0; videos are copied; verified"),
    ("dataset compare", "dataset.compare", "compare two datasets: every value and video packet, statistics"),
    ("dataset check", "dataset.check", "find what is wrong, by episode and frame, and the command that fixes it"),
    ("dataset repair", "dataset.repair", "write a repaired copy: time stamps, columns, statistics, names, metadata"),
    ("dataset stats", "dataset.stats", "show statistics per joint and camera; --recompute compares them with the data"),
    ("dataset tasks", "dataset.tasks", "list, rename or set the instructions; can be undone"),
    ("dataset rename", "dataset.rename", "rename features: state, action, cameras"),
    ("dataset split", "dataset.split", "split one dataset into several, by episodes"),
    ("dataset merge", "dataset.merge", "merge several datasets into one"),
    ("dataset exclude", "dataset.exclude", "copy a dataset without some episodes"),
    ("dataset view", "dataset.view", "make a page with synchronized videos, curves and findings"),
    ("preflight", "preflight", "check dataset, robot, policy and instruction against each other"),
    ("train", "train", "fine-tune a policy on a dataset, or train one; --resume continues a run"),
    ("status", "status", "show a training run (step, time left, loss, warnings) or a robot run"),
    ("watch", "status:WATCH", "show the same, live in the terminal"),
    ("eval", "eval", "score a policy on held-out episodes: errors per joint in robot units, report"),
    ("rollout", "rollout", "run a policy in an environment: success rate with its interval, video"),
    ("bench", "bench", "measure milliseconds per chunk by engine, beside LeRobot's; memory"),
    ("record", "record", "record demonstrations of an environment's own expert as a dataset"),
    ("run", "robot.run_policy", "let a policy drive an arm, through the governor; a dry run unless --go"),
    ("export", "export", "write a policy as ONNX files that run without torch, with a parity report"),
    ("bundle", "bundle", "show a bundle; `bundle seal DIR` after a change, `bundle localize DIR` for LeRobot offline"),
    ("bundle seal", "bundle:SEAL", "renew the digests of a bundle after a change of your own"),
    ("bundle localize", "bundle:LOCALIZE", "write the absolute paths that LeRobot needs offline"),
    ("schema", "editors_and_shells:SCHEMA", "print the JSON schema of a YAML file: train, stages, profile, setup"),
    ("completion", "editors_and_shells:COMPLETION", "print the completion script of bash or zsh"),
)  # fmt: skip
PURPOSES = {name: purpose for name, _, purpose in _ROWS}
VERBS = {name: module for name, module, _ in _ROWS if module}
"""Name -> module below `smolpilot.cli`; names of several words are verbs of a group."""
GROUPS = tuple(name for name, module, _ in _ROWS if not module)


def load(name: str) -> Verb:
    """The verb of that name; imports its module, which loads no torch."""
    module, _, attribute = VERBS[name].partition(":")
    found: Verb = getattr(importlib.import_module(f"smolpilot.cli.{module}"), attribute or "VERB")
    return found


def find(words: Sequence[str]) -> tuple[str, list[str]]:
    """The name of the verb that the words begin with, and the words behind it.

    A group alone, or with --help, gives its own name. UsageError for a word that is no verb.
    """
    names = [name for name in (*VERBS, *GROUPS) if name.split() == list(words[: len(name.split())])]
    name = max(names, key=len, default="")
    rest = list(words[len(name.split()) :])
    if not name or (name in GROUPS and rest and rest[0] not in ("-h", "--help", "help")):
        raise _unknown(name, words[len(name.split())])
    return name, rest


def usage(group: str = "") -> str:
    """The text of `smolpilot --help`, or of a group's."""
    prefix = f"{group} " if group else ""
    shown = {name.removeprefix(prefix): text for name, text in PURPOSES.items() if name.startswith(prefix)}
    # A group of verbs is one line of the first page; `bundle` is a verb, too, and its line names its others.
    shown = {name: text for name, text in shown.items() if group or " " not in name}
    width = max(map(len, shown))
    lines = [f"  {name:<{width}}  {text}" for name, text in shown.items()]
    ends = {
        "": "  --help, --version; SMOLPILOT_TRACEBACK=1 shows where an error came from",
        "dataset": "  Datasets are never changed in place: results are new folders.",
    }
    head = [] if group else [f"smolpilot {__version__}: from a LeRobot dataset to a SmolVLA policy on the robot", ""]
    use = f"usage: smolpilot {prefix}VERB [options]      smolpilot {prefix}VERB --help"
    end = ["", ends[group]] if group in ends else []
    return "\n".join([*head, use, "", *lines, *end])


# What other programs call our verbs.
_ELSEWHERE = {
    **dict.fromkeys(("finetune", "fine_tune"), "train"),
    **dict.fromkeys(("evaluate", "test", "validate"), "eval"),
    **{word: f"dataset {word}" for word in ("info", "check", "convert", "merge", "split", "repair", "stats", "view")},
    **dict.fromkeys(("visualize", "dataset_viz"), "dataset view"),
    "edit_dataset": "dataset --help",
    "resume": "train --resume --out RUN",
    "benchmark": "bench",
    "sim": "rollout",
    "datasets": "dataset",
    "policy": "bundle",
}
_HARDWARE = ("calibrate", "teleoperate", "replay", "find_cameras", "find_port", "setup_motors", "find_joint_limits")


def _unknown(group: str, word: str) -> UsageError:
    name = f"{group} {word}".strip()
    key = word.lower().replace("-", "_").removeprefix("lerobot_")
    if group:
        verbs = [verb.removeprefix(f"{group} ") for verb in VERBS if verb.startswith(f"{group} ")]
        return UsageError(f"Unknown verb '{name}'.", fix=did_you_mean(word, verbs))
    if key in _HARDWARE:
        return UsageError(f"Unknown verb '{name}'.", fix=f"use LeRobot for the arm: lerobot-{key.replace('_', '-')}")
    first = {verb.split()[0] for verb in VERBS}
    ours = _ELSEWHERE.get(key) or (key if key in first else None)
    nearest = f"Here it is: smolpilot {ours}." if ours else did_you_mean(word, first)
    return UsageError(f"Unknown verb '{name}'.", fix=f"{nearest} See smolpilot --help.")
