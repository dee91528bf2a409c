"""Which of the two YAML files of a robot a file is: its profile (what it is) or a setup (how to reach this one)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Literal

from smolpilot.common.errors import ProfileError

type Kind = Literal["profile", "setup"]

WORDS: dict[Kind, str] = {
    "profile": "a robot profile (joints, units, limits)",
    "setup": "a robot setup (a profile, and how to reach one arm)",
}


def kind_of(keys: Iterable[object]) -> Kind | None:
    """What a file with these outermost keys is; None where they tell neither."""
    if "joints" in (known := set(keys)):
        return None if "driver" in known else "profile"
    return "setup" if known & {"driver", "profile", "operating_limits", "start_pose"} else None


def refuse_other_kind(values: Mapping[str, Any], wanted: Kind, where: str) -> None:
    """ProfileError for a file that is the other one."""
    if (found := kind_of(values)) in (None, wanted):
        return
    if wanted == "profile":
        fix = f"name its profile, '{values['profile']}'" if isinstance(values.get("profile"), str) else "name a profile"
    else:
        fix = f"make a setup of it: `smolpilot robot new FILE --profile {where}`"
    raise _other(where, found or wanted, wanted, fix)


def refuse_setup_name(name: str) -> None:
    """ProfileError for the name of a shipped setup where a profile is expected."""
    if name in shipped_setups():
        fix = f"`smolpilot robot show {name}` names the setup's profile"
        raise _other(f"'{name}'", "setup", "profile", fix)


def shipped_setups() -> list[str]:
    """Names of the setups that ship with smolpilot (their files lie beside their reader, in `runtime`), sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in setups_folder().iterdir() if file.name.endswith(".yaml"))


def setups_folder() -> Any:
    """Where the shipped setups lie."""
    return resources.files("smolpilot").joinpath("runtime", "setup", "shipped")


def _other(where: str, found: Kind, wanted: Kind, fix: str) -> ProfileError:
    return ProfileError(f"{where} is {WORDS[found]}, not {WORDS[wanted]}.", fix=fix)
