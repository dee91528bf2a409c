"""Verdicts of gates in the user's cache: each is found once for an environment as it is drawn and computed here."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import UsageError
from smolpilot.common.hashing import content_name, differences, file_digest, sealed
from smolpilot.common.json_input import read_json_object, to_plain
from smolpilot.common.machine import user_cache
from smolpilot.datasets.simulation_record import simulation_facts
from smolpilot.environments.installing import SIMULATORS, simulator
from smolpilot.environments.making import WORDS, checked_settings, named_factory
from smolpilot.version import __version__

from .gate import EPISODES, Gate, check_gate
from .gate_workers import Progress

VERSION = 1  # of what a gate asks: another number makes every verdict anew


def default_folder() -> Path:
    """Where verdicts are kept."""
    return user_cache("gates")


def kept_gate(
    name: str, settings: Mapping[str, Any], facts: Mapping[str, Any], *, jobs: int = 1, python: Path | None = None,
    progress: Progress | None = None,
) -> Gate:  # fmt: skip
    """The verdict of `check_gate` as it is kept, else a new one, which is kept then.

    facts: of the environment as it will be used (`render`, `physics`, `packages`), empty where it states none. Raises
    what `check_gate` raises; a cache that cannot be read or written is none.
    """
    key = gate_key(name, settings, facts, python)
    found = _read(_path(key))
    if found is None:
        found = check_gate(name, settings, jobs=jobs, python=python, progress=progress)
        _write(key, found)
    return found


def keep_gate(gate: Gate, name: str, settings: Mapping[str, Any], python: Path | None = None) -> None:
    """Keep a verdict of `check_gate` in place of the one that was kept before, which goes in any case."""
    key = gate_key(name, settings, gate.simulation, python)
    with contextlib.suppress(OSError):
        _path(key).unlink(missing_ok=True)
    _write(key, gate)


def gate_key(
    name: str, settings: Mapping[str, Any], facts: Mapping[str, Any], python: Path | None = None
) -> dict[str, Any]:
    """All that a verdict stands on: settings, render settings, physics, versions, the code that plays, the interpreter.

    UsageError for settings that cannot be.
    """
    checked = {key: value for key, value in checked_settings(name, settings).items() if key not in WORDS}
    key = {
        "gate": VERSION,
        "smolpilot": __version__,
        "env": name,
        "settings": checked,
        "episodes": EPISODES,
        "simulation": simulation_facts(facts),
        "code": _code(name),
        "python": str(python or sys.executable),
        "machine": [platform.system(), platform.machine()],
    }
    plain: dict[str, Any] = json.loads(json.dumps(to_plain(key), sort_keys=True, default=str))
    return plain


def _code(name: str) -> dict[str, str]:
    """What plays the demonstrations: digests of source files, versions of packages."""
    module = simulator(name) if name in SIMULATORS else _module_of(named_factory(name))
    found = {"numpy": importlib.metadata.version("numpy")}
    if (file := getattr(module, "__file__", None)) is not None:
        path, own = Path(file), module.__name__.startswith("smolpilot.")
        with contextlib.suppress(OSError):
            found["files"] = content_name(*map(file_digest, sorted(path.parent.glob("*.py")) if own else [path]))
        package = module.__name__.partition(".")[0]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _module_of(factory: Any) -> Any:
    return sys.modules.get(str(getattr(factory, "__module__", "")))


def _path(key: Mapping[str, Any]) -> Path:
    return default_folder() / f"{content_name(json.dumps(key, sort_keys=True))}.json"


def _read(path: Path) -> Gate | None:
    """The verdict in a file; None where there is none, or where it is damaged."""
    try:
        stored = read_json_object(path)
        return None if differences(stored, path.name, path.parent, []) else Gate(**stored["verdict"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(key: Mapping[str, Any], gate: Gate) -> None:
    # What is not gated is found at once; a process that was killed may live next time.
    if gate.verdict == "not gated" or gate.errors:
        return
    path = _path(key)
    document = {"key": key, "verdict": to_plain(dataclasses.asdict(gate))}
    with contextlib.suppress(OSError, UsageError):  # a cache that cannot be written makes nothing wrong
        write_text_atomic(path, json.dumps(sealed(document, path.name, {}), indent=2) + "\n")
