"""What a dataset says of the simulation that it was recorded in: a file of smolpilot's beside LeRobot's own.

A policy that learned from images without shadows is not scored on images with them: whoever trains or rolls out asks
this record, and refuses a mix by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from smolpilot.common.json_input import read_json_object


@dataclass(frozen=True)
class SimulationRecord:
    """meta/smolpilot_simulation.json. simulation: `render`, `physics` and `packages`, as the environment states them;
    noise, vary: of the expert, see `smolpilot record`; seeds: of each episode, or recorded: its number among people's;
    successes: how each ended."""

    FILE: ClassVar[str] = "smolpilot_simulation.json"

    env: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    simulation: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.0
    vary: float = 0.0
    executed: bool = False  # the stored actions are those that moved the robot, with the noise
    seeds: list[int] = field(default_factory=list)
    recorded: list[int] = field(default_factory=list)
    successes: list[bool] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, dataset: Path) -> SimulationRecord | None:
        """The record of a dataset's folder; None where it has none that can be read, and says how it was drawn."""
        try:
            found = read_json_object(cls.path(dataset))
        except (OSError, ValueError):
            return None
        if not {"env", "settings", "simulation"} <= found.keys():
            return None
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})

    @classmethod
    def of_union(cls, records: Sequence[SimulationRecord | None]) -> SimulationRecord | None:
        """The record of a dataset made of several, whose records these are; None where none of them has one.

        Settings are those that all share, such as not the task of one. How episodes begin is kept where all of them
        began with the same settings.
        """
        known = [record for record in records if record is not None]
        if not known:
            return None
        first, alike = known[0], len(known) == len(records)
        alike = alike and all((one.env, one.settings) == (first.env, first.settings) for one in known)
        alike = alike and len({bool(one.recorded) for one in known}) == 1
        shared = {key: value for key, value in first.settings.items()
                  if all(key in one.settings and one.settings[key] == value for one in known)}  # fmt: skip
        return cls(
            env=first.env, settings=shared, simulation=first.simulation, noise=max(one.noise for one in known),
            vary=max(one.vary for one in known), executed=all(one.executed for one in known),
            seeds=[seed for one in known for seed in one.seeds] if alike else [],
            recorded=[number for one in known for number in one.recorded] if alike else [],
            successes=[success for one in known for success in one.successes] if alike else [],
        )  # fmt: skip

    @classmethod
    def path(cls, dataset: Path) -> Path:
        """The file in a dataset's folder."""
        return dataset / "meta" / cls.FILE


def simulation_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of a simulation's facts: how it is drawn and computed, and with which packages."""
    return {name: facts[name] for name in ("render", "physics", "packages") if name in facts}


def drawn_otherwise(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What two simulations were drawn and computed with otherwise: name -> (recorded, now), of what both state."""
    found: dict[str, tuple[Any, Any]] = {}
    for part in ("render", "physics"):
        one, other = recorded.get(part) or {}, now.get(part) or {}
        found |= {name: (one[name], other[name]) for name in one if name in other and one[name] != other[name]}
    return found


def otherwise_text(differences: Mapping[str, tuple[Any, Any]]) -> tuple[str, str]:
    """The differences in words, one side each: `shadows false, msaa 0`."""
    sides = [", ".join(f"{name} {_said(pair[side])}" for name, pair in differences.items()) for side in (0, 1)]
    return sides[0], sides[1]


def _said(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
