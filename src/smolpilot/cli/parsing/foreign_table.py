"""What an option of another program is here: the table of foreign.yaml, and the functions that it names.

An option is answered by one of: `Ours` (the same thing under our name, with its value), `Unneeded` (nothing has to be
given), `Absent` (there is no equivalent; why, and what to do instead).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.json_input import parse_json


@dataclass(frozen=True)
class Ours:
    """The first of `names` that the verb has; `value` makes our words of theirs. `otherwise`: where it has none."""

    names: tuple[str, ...]
    value: Callable[[str], list[str]] | None = None
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
Table = dict[str, "Answer | Callable[[str], Answer]"]
_OFF = ("false", "no", "none", "off", "0")
_POLICY, _DATASET = ("policy", "bundle", "path"), ("dataset", "path", "src")


def table_of(verb: str) -> Table:
    """The answers for a verb: its own first, then what holds for all."""
    import yaml

    sections = yaml.safe_load(Path(__file__).with_name("foreign.yaml").read_text(encoding="utf-8"))
    own = sections.get("dataset" if verb.startswith("dataset") else verb, [])
    return {name: _answer(entry) for entry in [*sections["all"], *own] for name in entry["names"].split()}


def _answer(entry: dict[str, Any]) -> Answer | Callable[[str], Answer]:
    if "ours" in entry:
        value = _VALUES[entry["value"]] if "value" in entry else None
        return Ours(tuple(entry["ours"].split()), value, entry.get("otherwise", ""))
    if "computed" in entry:
        return _COMPUTED[entry["computed"]]
    return Unneeded(entry["unneeded"]) if "unneeded" in entry else Absent(entry["absent"])


# -- answers that depend on the value ----------------------------------------------------------------------------------


def _dataset_id(value: str) -> Answer:
    """A hub id: the folder in the cache, where it is there; else the id, which the verb will say how to fetch."""
    from smolpilot.datasets.format.missing import cached_folder

    found = cached_folder(value) if value else None
    return Ours(_DATASET, (lambda _: [str(found)]) if found else None)


def _configuration(value: str) -> Answer:
    """LeRobot's way to resume a run: its weights lie beside the configuration."""
    from smolpilot.training.run.run_paths import lerobot_checkpoint

    weights = lerobot_checkpoint(Path(value)) if value else None
    if weights is not None:
        return Ours(_POLICY, lambda _: [str(weights)])
    return Absent(f"--config {value or 'FILE'} says what LeRobot's training configuration is in smolpilot's options")


def _policy_type(value: str) -> Answer:
    if value.lower() in ("smolvla", ""):
        return Unneeded("only SmolVLA is trained; name the weights to start from with --policy")
    return Absent(f"only SmolVLA is trained, not {value}")


def _mixed(value: str) -> Answer:
    on = value.lower() not in (*_OFF, "float32", "fp32", "32")
    half = "float16" if value.lower() in ("fp16", "float16", "16") else "bfloat16"
    return Ours(("dtype",), lambda _: [half if on else "float32"])


def _half(value: str) -> Answer:
    return _mixed(value if value.lower() in _OFF else "float16")


def _lora(value: str) -> Answer:
    if value.lower() in _OFF:
        return Unneeded("without --lora no adapters are trained")
    return Ours(("lora",), lambda _: ["16"])


def _augmented(value: str) -> Answer:
    if value.lower() in _OFF:
        return Unneeded("without --augment images stay as they are")
    return Ours(("augment",), lambda _: ["crop=0.8", "color=0.8"])


def _tracked(value: str) -> Answer:
    if value.lower() in _OFF:
        return Unneeded("without --track nothing is sent")
    return Ours(("track",), lambda _: ["trackio" if value.lower() == "trackio" else "wandb"])


def _checkpoints(value: str) -> Answer:
    if value.lower() == "false":
        return Absent("checkpoints are always saved; --save-every and --keep bound them")
    return Unneeded("checkpoints are always saved")


def _method(value: str) -> Answer:
    if value.upper() in ("LORA", ""):
        return Unneeded("--lora RANK is LoRA")
    return Absent(f"adapters are LoRA (--lora), not {value}")


_COMPUTED: dict[str, Callable[[str], Answer]] = {
    "configuration": _configuration,
    "dataset_id": _dataset_id,
    "policy_type": _policy_type,
    "mixed": _mixed,
    "half": _half,
    "lora": _lora,
    "augmented": _augmented,
    "tracked": _tracked,
    "checkpoints": _checkpoints,
    "method": _method,
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
    "usual_ema": lambda _: ["0.999"],
    "palette": lambda value: [f"colors={','.join(value.split()) or 'red,blue'}"],
}
