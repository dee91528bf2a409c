"""Rollouts compared: paired where they met the same seeds, and only where the worlds were the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.common.text import pluralize, shown
from smolpilot.evaluation.rates.intervals import rate_row
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.rate_tests import cochran_q, letters
from smolpilot.evaluation.rates.wording import compare_all, compare_paired, compare_unpaired, several_text

from .eval_info import EVAL_INFO, read_eval_info
from .floors import comparison_document, paired_document
from .language import compare_followed
from .results import RESULTS, read_results

FORMAT = "smolpilot-comparison/1"
_SETTINGS = ("env", "goal", "swap_instruction")
_SIMULATED = ("physics", "render")  # other packages of the same physics are told of, not refused


@dataclass(frozen=True)
class Side:
    """One of those compared: its name, where it was read, the success of each episode by seed, and its document.

    Where no seeds are known, `seeded` is False and episodes have numbers below 0. `world`: what results.json says; of
    LeRobot's file only which environments it names.
    """

    name: str
    source: Path
    kind: str  # "rollout", or "lerobot-eval"
    successes: Mapping[int, bool]
    seeded: bool
    world: Mapping[str, Any]

    @property
    def counts(self) -> tuple[int, int]:
        """(successes, episodes)."""
        return sum(self.successes.values()), len(self.successes)

    def row(self) -> dict[str, Any]:
        """Its counts, as documents have them."""
        return {"name": self.name, "source": str(self.source), "kind": self.kind, **rate_row(*self.counts)}


def read_side(path: Path) -> Side:
    """A rollout's folder, or LeRobot's eval_info.json or the folder with it. UsageError for anything else."""
    if (path / RESULTS).is_file():
        document = read_results(path)
        try:
            successes = {int(run["seed"]): bool(run["success"]) for run in document["runs"]}
            return Side(_name_of(document, path), path, "rollout", successes, True, document)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path / RESULTS} is no rollout's.", fix="name a folder of smolpilot rollout") from error
    file = path / EVAL_INFO if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{path} holds neither {RESULTS} nor {EVAL_INFO}.",
            expected="a folder of smolpilot rollout, or lerobot-eval's eval_info.json",
        )
    found = read_eval_info(file)
    seeds = range(-1, -1 - len(found.successes), -1) if found.seeds is None else found.seeds
    successes = dict(zip(seeds, found.successes, strict=True))
    return Side("lerobot-eval", file, "lerobot-eval", successes, found.seeds is not None, {"groups": found.groups})


def compare_rollouts(*folders: Path) -> dict[str, Any]:
    """Two or more rollouts' folders compared, as a document: their rates, each pair's test, letters, a sentence.

    Paired (McNemar, exact; Tango's interval; Cochran's Q over all) where all met the same seeds, else unpaired
    (Boschloo, or Fisher); p values of several pairs are adjusted (Holm). UsageError for fewer than two, and where
    environment, settings, physics or rendering differ: it names the setting and both values.
    """
    if len(folders) < 2:
        raise UsageError(f"{pluralize(len(folders), 'rollout')} cannot be compared.", expected="two or more folders")
    sides = [read_side(folder) for folder in folders]
    for other in sides[1:]:
        require_same_world(sides[0], other)
    names = _apart([one.name for one in sides], folders)
    paired = all(one.seeded and one.successes.keys() == sides[0].successes.keys() for one in sides)
    policies = [one.successes for one in sides]
    found = compare_all(names, policies)
    rates = [one.row()["success_rate"] for one in sides]
    shown_as = letters(rates, {pair: one.p_value for pair, one in found.items()})
    cochran = cochran_q(policies) if paired and len(sides) > 2 else None
    pairs = []
    for (a, b), compared in found.items():
        about = (
            paired_document(PairedCounts.of(policies[a], policies[b]), compared)
            if paired
            else comparison_document(compared)
        )
        pairs.append({"first": names[a], "second": names[b], **about})
    return {
        "format": FORMAT,
        "env": sides[0].world.get("env"),
        "paired": paired,
        "rollouts": [
            {**one.row(), "name": name, "letters": letter}
            for one, name, letter in zip(sides, names, shown_as, strict=True)
        ],
        "pairs": pairs,
        "cochran_p_value": cochran,
        "notes": [note for other in sides[1:] for note in notes_on(sides[0], other)],
        "text": found[0, 1].text if len(sides) == 2 else several_text(names, shown_as, cochran),
    }


def compare_against(own: Mapping[str, Any], other: Side) -> dict[str, Any]:
    """A rollout's document compared with another rollout or LeRobot's file, for its `against`."""
    successes = {int(run["seed"]): bool(run["success"]) for run in own["runs"]}
    mine = Side("the policy", Path(), "rollout", successes, True, own)
    require_same_world(mine, other)
    name = other.name if other.name != _name_of(own, Path()) else f"{other.name} of {other.source}"
    if other.seeded and successes.keys() == other.successes.keys():
        counts = PairedCounts.of(successes, other.successes)
        about = paired_document(counts, compare_paired("the policy", name, counts))
    else:
        about = comparison_document(compare_unpaired("the policy", name, mine.counts, other.counts))
    row = other.row()
    row["rate_interval"] = row.pop("interval")  # `interval` is the difference's, as in `paired`
    found, notes = {**row, **about}, notes_on(mine, other)
    if own.get("language") and other.world.get("language"):
        found["language"] = compare_followed(own, other.world, name)
        if found["language"] is None:
            notes.append(f"{_of(other)} has other scenes or texts: how the texts are followed is not compared.")
    return {**found, "notes": notes}


def require_same_world(first: Side, second: Side) -> None:
    """UsageError, with the setting and both values, where two were not played in the same world."""
    theirs = [side for side in (first, second) if side.kind != "rollout"]
    if theirs:
        _require_named(theirs[0], second if theirs[0] is first else first)
        return
    a, b = first.world, second.world
    pairs = {name: (a.get(name), b.get(name)) for name in _SETTINGS if name in a and name in b}
    pairs |= _both("env_settings", a.get("env_settings"), b.get("env_settings"), missing=True)
    for part in _SIMULATED:
        pairs |= _both(part, a.get("simulation", {}).get(part), b.get("simulation", {}).get(part))
    for name, (one, other) in pairs.items():
        if one != other:
            raise UsageError(
                f"The rollouts are of different worlds: {name} is {shown(one)} in {_of(first)}, {shown(other)} in "
                f"{_of(second)}.",
                expected="the same environment, settings, physics and rendering in all that is compared",
                fix="roll both out with the same settings and packages",
            )


def notes_on(first: Side, second: Side) -> list[str]:
    """What a comparison leaves open: what a file does not say of its world, and packages whose versions differ."""
    said = []
    for side in (first, second):
        if side.kind != "rollout":
            named = ", ".join(side.world["groups"])
            about = f"names the environment {named}, not its settings" if named else "does not name its environment"
            said.append(f"{_of(side)} {about}.")
    if first.kind == second.kind and bool(first.world.get("simulation")) != bool(second.world.get("simulation")):
        silent = second if first.world.get("simulation") else first
        said.append(f"{_of(silent)} does not say how it was simulated.")
    shared = len(first.successes.keys() & second.successes.keys())
    if first.seeded and second.seeded and shared and first.successes.keys() != second.successes.keys():
        said.append(
            f"{_of(first)} has {first.counts[1]} episodes and {_of(second)} {second.counts[1]}, of which {shared} have "
            "the same seeds; with all the same the test would be paired."
        )
    return said + _package_notes(first, second)


def _package_notes(first: Side, second: Side) -> list[str]:
    found = _both("", *(one.world.get("simulation", {}).get("packages") for one in (first, second)))
    return [
        f"{name.removeprefix('.')} is {one} in {_of(first)}, {other} in {_of(second)}."
        for name, (one, other) in found.items()
        if one != other
    ]


def _require_named(theirs: Side, own: Side) -> None:
    """LeRobot's file names its environments, at most: one of them has to be ours."""
    groups, env = theirs.world["groups"], str(own.world.get("env", ""))
    if groups and not any(group.lower() in env.lower() or env.lower() in group.lower() for group in groups):
        raise UsageError(
            f"{theirs.source} is of {', '.join(groups)}, the rollout of {env}.",
            expected="the same environment in both",
        )


def _both(name: str, a: Any, b: Any, *, missing: bool = False) -> dict[str, tuple[Any, Any]]:
    """`name.key` -> both values, of the keys that both have; with `missing`, of those that either has."""
    one, other = a or {}, b or {}
    keys = dict.fromkeys([*one, *other]) if missing else [key for key in one if key in other]
    return {f"{name}.{key}": (one.get(key), other.get(key)) for key in keys}


def _of(side: Side) -> str:
    return str(side.source) if side.source != Path() else "this rollout"


def _name_of(document: Mapping[str, Any], path: Path) -> str:
    """What its policy is called: the last parts of where it came from."""
    source = str(document.get("bundle", {}).get("path") or path)
    return "/".join(Path(source).parts[-2:]).lstrip("/") or "policy"


def _apart(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """The names, with the folder where two are alike."""
    return [
        f"{name} ({folder.name})" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]
