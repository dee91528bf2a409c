"""The exception tree: every error says what was found, what was expected and what to do.

Exit codes: 2 for misuse (a wrong option, config key, path or profile; a path that may not be read or written), 1 for
input that fails a check (a damaged dataset, a checkpoint without weights) or a run that cannot go on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SmolpilotError(Exception):
    """Base of all errors meant for a person; the command line prints it without a traceback.

    `found` is one sentence on what is wrong; `expected` and `fix` are optional sentences.
    """

    exit_code = 1

    def __init__(self, found: str, *, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        parts = [found]
        if expected:
            parts.append(f"Expected: {expected}")
        if fix:
            parts.append(f"Fix: {fix}")
        super().__init__("\n".join(parts))


class UsageError(SmolpilotError):
    """The command, an option, a config key or a path given by the user is wrong."""

    exit_code = 2


class ProfileError(UsageError):
    """A robot profile is invalid, or does not fit the data or policy it is used with."""


class DatasetError(SmolpilotError):
    """A dataset on disk is missing, torn, inconsistent or of an unsupported version."""


class TransformError(SmolpilotError):
    """A frame cannot be transformed: a statistic, camera, joint or instruction does not fit."""


class CheckpointError(SmolpilotError):
    """A checkpoint or bundle is incomplete, damaged or of another policy."""


class NotFiniteError(CheckpointError):
    """A policy computes NaN or infinity: there is no action to give."""


class HubError(SmolpilotError):
    """A hub id was named but cannot be fetched (offline, unknown, no permission)."""


class TrainingError(SmolpilotError):
    """A training run cannot start or go on."""


class DeviceError(SmolpilotError):
    """A robot, camera or teleoperator does not answer, was used before it was connected, or breaks its contract."""


class RunLogError(SmolpilotError):
    """A run log is damaged, of a newer format, or would hold what it may not."""


def check_seed(seed: int) -> None:
    """Refuse a seed that torch's generators do not take (with room to add a frame's or an episode's number)."""
    if not 0 <= seed < 2**62:
        raise UsageError(f"--seed is {seed}.", expected=f"0 to {2**62 - 1}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """One sentence that proposes the nearest of `choices`, or lists them when none is near."""
    options = sorted(choices)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(options)}." if options else "There are none."
