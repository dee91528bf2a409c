"""What an option of another program is here: the table of foreign.yaml, and the functions that it names.

An option is answered by one of: `Ours` (the same thing under our name, with its value), `Unneeded` (nothing has to be
given), `Absent` (there is no equivalent; why, and what to do instead).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.json_input import parse_json


@dataclass(frozen=True)
class Ours:
    """The first of `names` that the verb has, with `words` for its value (None: as it was). `otherwise`: where it has
    none."""

    names: tuple[str, ...]
    words: list[str] | None = None
    otherwise: str = ""


@dataclass(frozen=True)
class Unneeded:
    """Nothing has to be given: `why`."""

    why: str


@dataclass(frozen=True)
class Absent:
    """There is no such thing here: `why`, or what to do instead."""

    why: str


Answer = Ours | Unneeded | Absent
Entry = dict[str, str]
Table = dict[str, Entry]
_OFF = ("false", "no", "none", "off", "0")
_POLICY, _DATASET = ("policy", "bundle", "path"), ("dataset", "path", "src")


def table_of(verb: str) -> Table:
    """The entries for a verb by the names that they answer for: its own first, then what holds for all."""
    import yaml

    sections = yaml.safe_load(Path(__file__).with_name("foreign.yaml").read_text(encoding="utf-8"))
    own = sections.get("dataset" if verb.startswith("dataset") else verb, [])
    return {name: entry for entry in [*sections["all"], *own] for name in entry["names"].split()}


def answer(entry: Entry, value: str) -> Answer:
    """What an entry says of an option with this value."""
    if "computed" in entry:
        return _COMPUTED[entry["computed"]](value)
    if "without" in entry and value.lower() in _OFF:
        return Unneeded(entry["without"])
    if "ours" in entry:
        words = _VALUES[entry["value"]](value) if "value" in entry else None
        words = entry["words"].split() if "words" in entry else words
        return Ours(tuple(entry["ours"].split()), words, entry.get("otherwise", ""))
    if "for" in entry and value.lower() not in ("", entry["for"]):
        return Absent(f"{entry['absent']}, not {value}")
    return Unneeded(entry["unneeded"]) if "unneeded" in entry else Absent(entry["absent"])


# -- answers that depend on the value ----------------------------------------------------------------------------------


def _dataset_id(value: str) -> Answer:
    """A hub id: the folder in the cache, where it is there; else the id, which the verb will say how to fetch."""
    from smolpilot.datasets.format.missing import cached_folder

    found = cached_folder(value) if value else None
    return Ours(_DATASET, [str(found)] if found else None)


def _configuration(value: str) -> Answer:
    """LeRobot's way to resume a run: its weights lie beside the configuration."""
    from smolpilot.training.run.run_paths import lerobot_checkpoint

    weights = lerobot_checkpoint(Path(value)) if value else None
    if weights is not None:
        return Ours(_POLICY, [str(weights)])
    return Absent(f"--config {value or 'FILE'} says what LeRobot's training configuration is in smolpilot's options")


def _mixed(value: str) -> Answer:
    on = value.lower() not in (*_OFF, "float32", "fp32", "32")
    half = "float16" if value.lower() in ("fp16", "float16", "16") else "bfloat16"
    return Ours(("dtype",), [half if on else "float32"])


def _half(value: str) -> Answer:
    return _mixed(value if value.lower() in _OFF else "float16")


def _checkpoints(value: str) -> Answer:
    if value.lower() == "false":
        return Absent("checkpoints are always saved; --save-every and --keep bound them")
    return Unneeded("checkpoints are always saved")


_COMPUTED: dict[str, Callable[[str], Answer]] = {
    "configuration": _configuration,
    "dataset_id": _dataset_id,
    "mixed": _mixed,
    "half": _half,
    "checkpoints": _checkpoints,
}

# -- values of other programs in our form ------------------------------------------------------------------------------


def _listed(value: str) -> list[str]:
    """`[0, 1, 5]` as `0,1,5`."""
    return [value.strip("[]() ").replace(" ", "")]


def _renamed_cameras(value: str) -> list[str]:
    """LeRobot's rename map as `--camera-map` has it: cameras by their short names."""
    try:
        pairs = parse_json(value.replace("'", '"'))
        return [f"{_short(str(old))}={_short(str(new))}" for old, new in pairs.items()]
    except (ValueError, AttributeError):
        return [value]


def _short(key: str) -> str:
    return key.removeprefix("observation.images.").removeprefix("observation.")


_VALUES: dict[str, Callable[[str], list[str]]] = {
    "listed": _listed,
    "renamed_cameras": _renamed_cameras,
    "tracker": lambda value: ["trackio" if value.lower() == "trackio" else "wandb"],
    "palette": lambda value: [f"colors={','.join(value.split()) or 'red,blue'}"],
}
