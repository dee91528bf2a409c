"""Limits and start poses of demonstrations as text, for `bundle` and `preflight`."""

from __future__ import annotations

from collections.abc import Sequence

from smolpilot.common.text import plain, pluralize

from .demonstrated import Demonstrated, JointLimits, Origin, StartPose

_HEADER = ("joint", "velocity", "acceleration", "RMS jerk", "starts at", "1 to 99 % of starts")
_UNKNOWN = "not known"


def origin_text(demonstrated: Demonstrated) -> str:
    """How the limits were computed, and from which demonstrations."""
    listed = "; ".join(_origin(origin) for origin in demonstrated.origins)
    highest = ", the highest of all" if len(demonstrated.origins) > 1 else ""
    return (
        f"{demonstrated.factor:g} times the {demonstrated.quantile:g} % quantile of the commanded motion in {listed}"
        f"{highest}"
    )


def table_lines(demonstrated: Demonstrated) -> list[str]:
    """A line for each joint under a header; joints that are only read, or only commanded, have `-` in the rest."""
    commanded, read = [joint.name for joint in demonstrated.joints], [pose.name for pose in demonstrated.start_poses]
    names = dict.fromkeys([*commanded, *read])
    rows = [_HEADER, *(_row(name, demonstrated.limits_of(name), demonstrated.start_of(name)) for name in names)]
    return _aligned(rows)


def _row(name: str, limits: JointLimits | None, start: StartPose | None) -> tuple[str, ...]:
    fast = (
        (
            _value(limits.velocity, f"{limits.unit}/s"),
            _value(limits.acceleration, f"{limits.unit}/s²"),
            _value(limits.rms_jerk, f"{limits.unit}/s³"),
        )
        if limits
        else "---"
    )
    where = (f"{start.q50:.4g} {start.unit}", f"{start.q01:.4g} to {start.q99:.4g}") if start else "--"
    return (plain(name, 60), *fast, *where)


def _value(limit: float | None, unit: str) -> str:
    return _UNKNOWN if limit is None else f"{limit:.4g} {unit}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _origin(origin: Origin) -> str:
    count = pluralize(len(origin.episodes), "episode")
    return f"{count} of {plain(origin.dataset, 80)} ({pluralize(origin.frames, 'frame')}, {origin.rate:g} per second)"
