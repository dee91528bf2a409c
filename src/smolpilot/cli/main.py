"""The `smolpilot` command: finds the verb, loads only its file, turns errors into exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings

from smolpilot.common.errors import (
    Refusal,
    SmolpilotError,
    UsageError,
    did_you_mean,
    exit_code,
    explain,
    too_many_files,
)
from smolpilot.common.streams import guarded
from smolpilot.common.text import plain
from smolpilot.version import __version__

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("smolpilot.cli.demo", "the main job in seven minutes: record, train, evaluate, closed loop, report"),
    "doctor": ("smolpilot.cli.doctor", "check Python, torch, devices, video codecs, disk and hub; say how to fix"),
    "robots": ("smolpilot.cli.robots", "list and show robot profiles; `robots check FILE` validates your own"),
    "plugins": ("smolpilot.cli.plugins", "policies, environments, robots ... by name, also those of other packages"),
    "dataset": (
        "smolpilot.cli.dataset",
        "recordings: info, convert, compare, check, repair, edit and view; `dataset --help`",
    ),
    "preflight": ("smolpilot.cli.preflight", "dataset, robot, policy and instruction against each other, with the fix"),
    "train": ("smolpilot.cli.train", "fine-tune or train a policy on a dataset; `--resume` goes on"),
    "status": ("smolpilot.cli.status", "how a training run stands: alive, step, time left, loss, what to worry about"),
    "watch": ("smolpilot.cli.watch", "the same, live in the terminal"),
    "eval": ("smolpilot.cli.eval", "held-out episodes: errors per joint in robot units, pictures, report"),
    "rollout": ("smolpilot.cli.rollout", "closed loop in an environment: success rate with its interval, video"),
    "bench": (
        "smolpilot.cli.bench",
        "milliseconds per chunk by mode of the engine, beside LeRobot's; memory",
    ),
    "record": ("smolpilot.cli.record", "record demonstrations of the shipped tabletop as a dataset"),
    "export": ("smolpilot.cli.export", "a policy as ONNX files that run without torch, with a parity report"),
    "bundle": (
        "smolpilot.cli.bundle",
        "show a bundle; `bundle seal DIR` after a change of your own, `bundle localize DIR` for an offline LeRobot",
    ),
}


def usage() -> str:
    """The text of `smolpilot --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in VERBS.items()]
    return "\n".join(
        [
            f"smolpilot {__version__}: from recorded demonstrations to a SmolVLA policy on the robot",
            "",
            "usage: smolpilot VERB [options]      smolpilot VERB --help",
            "",
            *lines,
            "",
            "  --help, --version; SMOLPILOT_TRACEBACK=1 shows where an error came from",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 a check failed, 2 misuse, 130 interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args[0] in ("-V", "--version", "version"):
        print(f"smolpilot {__version__}")
        return 0
    # OpenMP threads that spin while they wait starve each other on a busy machine (measured: up to ten times slower).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not os.environ.get("SMOLPILOT_TRACEBACK"):
        warnings.formatwarning = lambda message, kind, *_, **__: f"{getattr(kind, 'label', 'warning')}: {message}\n"
    with guarded():
        return _run(args)


def _run(args: list[str]) -> int:
    try:
        _refuse_other_encodings(args)
        if args[0] not in VERBS:
            raise _unknown_verb(args[0])
        module = importlib.import_module(VERBS[args[0]][0])
        return int(module.main(args[1:]) or 0)
    except SmolpilotError as error:
        limit = too_many_files(error)
        return _report(str(error), error.exit_code) if limit is None else _report(_refusal(limit), 1)
    except KeyboardInterrupt:
        return _report("Interrupted.", 130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _report(_refusal(explain(error)), exit_code(error))
    except MemoryError:
        return _report("The memory does not suffice.\nFix: close other programs, or ask for less at once.", 1)
    except Exception as error:
        # Some libraries raise what they like.
        limit = too_many_files(error)
        if limit is None:
            raise
        return _report(_refusal(limit), 1)


def _refuse_other_encodings(args: list[str]) -> None:
    """A name from a disk in another encoding cannot be opened by all that reads here, nor written into a file."""
    for argument in args:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            from smolpilot.common.text import plain

            raise UsageError(
                f"The argument {plain(argument, 200)} is no UTF-8.",
                expected="paths and texts in UTF-8",
                fix="rename the file or folder; `ls -b` shows the bytes of a name",
            ) from error


# What other programs call our verbs.
_ELSEWHERE = {
    "finetune": "train",
    "evaluate": "eval",
    "test": "eval",
    "validate": "eval",
    "info": "dataset info",
    "check": "dataset check",
    "convert": "dataset convert",
    "merge": "dataset merge",
    "split": "dataset split",
    "repair": "dataset repair",
    "stats": "dataset stats",
    "view": "dataset view",
    "visualize": "dataset view",
    "dataset_viz": "dataset view",
    "edit_dataset": "dataset --help",
    "resume": "train --resume --out RUN",
    "benchmark": "bench",
    "sim": "rollout",
    "datasets": "dataset",
    "policy": "bundle",
}
_HARDWARE = ("calibrate", "teleoperate", "replay", "find_cameras", "find_port", "setup_motors", "find_joint_limits")


def _unknown_verb(name: str) -> UsageError:
    key = name.lower().replace("-", "_").removeprefix("lerobot_")
    key = key.replace("fine_tune", "finetune")
    if key in _HARDWARE:
        return UsageError(
            f"Unknown verb '{name}'.", fix=f"the arm itself is LeRobot's: lerobot-{key.replace('_', '-')}"
        )
    ours = _ELSEWHERE.get(key) or (key if key in VERBS else None)
    nearest = f"Here it is: smolpilot {ours}." if ours else did_you_mean(name, VERBS)
    return UsageError(f"Unknown verb '{name}'.", fix=f"{nearest} See smolpilot --help.")


def _refusal(refusal: Refusal) -> str:
    return f"{refusal.found}\nFix: {refusal.fix}." if refusal.fix else refusal.found


_LONGEST_LINE = 4000  # letters of a message: a name in it may have a million


def _report(message: str, code: int) -> int:
    if os.environ.get("SMOLPILOT_TRACEBACK"):
        traceback.print_exc()
    head, *rest = (plain(line, _LONGEST_LINE) for line in message.split("\n"))
    print("\n".join([f"error: {head}", *(f"  {line}" for line in rest)]), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
