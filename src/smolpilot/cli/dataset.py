"""`smolpilot dataset VERB`: finds the verb and loads only its file."""

from __future__ import annotations

import importlib
import sys

from smolpilot.common.errors import UsageError, did_you_mean

VERBS: dict[str, str] = {
    "info": "version, robot, episodes, frames, hours, features, cameras, instructions and statistics of a recording",
    "convert": "LeRobot v2.0, v2.1 and v3.0 into one another; videos copied, not encoded again; the result is proven",
    "compare": "two recordings: every value, every video packet, boundary frames, statistics",
    "check": "find what is wrong with a recording, by episode and frame, and the command that fixes it",
    "repair": "a repaired copy of a recording: time stamps, missing columns, statistics, names, damaged metadata",
    "stats": "statistics per joint and camera; computed anew with --recompute",
    "tasks": "list, rename or set the instructions, undoable",
    "rename": "other names for features: state, action, cameras",
    "split": "one recording into several, by episodes",
    "merge": "several recordings into one",
    "exclude": "a copy without some episodes",
    "view": "a page with synchronized videos, curves and findings",
}


def usage() -> str:
    """The text of `smolpilot dataset --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {text}" for name, text in VERBS.items()]
    head = "usage: smolpilot dataset VERB [options]      smolpilot dataset VERB --help"
    return "\n".join([head, "", *lines, "", "  Recordings are never changed in place: results are new folders."])


def main(args: list[str]) -> int:
    """Run `smolpilot dataset …`."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args[0] not in VERBS:
        raise UsageError(f"Unknown verb 'dataset {args[0]}'.", fix=did_you_mean(args[0], VERBS))
    if sys.argv[1:] == ["dataset", *args]:
        _spare_pandas()
    module = importlib.import_module(f"smolpilot.cli.dataset_{args[0]}")
    return int(module.main(args[1:]) or 0)


def _spare_pandas() -> None:
    """Keep pyarrow from importing pandas, which it does at the first array: a second that no dataset verb needs.

    It looks once in a process, so this is for the command only, where nothing else uses pandas.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow

        pyarrow.array([0])
    finally:
        sys.meta_path.remove(finder)


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
