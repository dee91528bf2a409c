"""`open_policy`: a folder, a name or a hub id -> the policy, whatever kind it is. Loads what that kind needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from smolpilot.common.errors import CheckpointError, SmolpilotError, UsageError, did_you_mean
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import POLICIES, Embodiment, Policy, PolicyOptions, PolicySpec
from smolpilot.contracts.plugins import blamed
from smolpilot.contracts.policy import TOKENS, TWO_STAGE

from .shipped import SHIPPED

if TYPE_CHECKING:
    from smolpilot.smolvla.checkpoint.locate import Located

SMOLVLA = "smolvla"
_DEFAULTS = PolicyOptions()


def open_policy(source: str | Path, options: PolicyOptions = _DEFAULTS, embodiment: Embodiment | None = None) -> Policy:
    """The policy that `source` names, ready to predict.

    source, in this order: a folder (a bundle, a checkpoint or training run of smolpilot or LeRobot, an adapter, an ONNX
    export), the NAME of a registered policy or NAME:SOURCE (`contracts.POLICIES`), a hub id ORG/NAME of a SmolVLA
    policy. options: what a policy does not have is refused. embodiment: what the policy will drive; its cameras are
    paired with the policy's now, and `spec.facts` says how. Raises UsageError for what names no policy or does not fit,
    CheckpointError for a folder that cannot be loaded, HubError.
    """
    from smolpilot.smolvla.checkpoint.locate import existing, looks_like_hub_id

    text = str(source)
    names = POLICIES.names()
    if text and existing(source) is not None:
        try:
            return _open_folder(text, options, embodiment)
        except CheckpointError as error:
            if text not in names:
                raise
            raise CheckpointError(
                error.found, expected=error.expected, fix=f"`{text}:` for the policy of that name instead of the folder"
            ) from error
    name, colon, rest = text.partition(":")
    if not is_drive(text) and (name in names or (colon and _is_word(name))):
        return _of_name(name, rest, options, embodiment)
    if looks_like_hub_id(text):
        return _open_smolvla(text, options, embodiment)
    found = f"There is no checkpoint at {plain(text, LIMIT)}" if text else "No policy is named"
    raise UsageError(
        f"{found}, and no policy goes by that name." if _is_word(text) else f"{found}.",
        expected=f"a checkpoint folder, a run folder, an ONNX export, a hub id ORG/NAME, or one of {', '.join(names)}",
        fix=did_you_mean(text, names) if _is_word(text) else "check the path",
    )


def is_drive(text: str) -> bool:
    """Whether a text is a path of Windows: the colon is its drive's."""
    return re.match(r"[A-Za-z]:[\\/]", text) is not None


def _of_name(name: str, source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """A registered policy; that of another package behind a guard, as it may raise what it likes."""
    factory = POLICIES.get(name)
    if name in SHIPPED:
        return _checked(name, factory(source, options, embodiment))
    from .guarded import GuardedPolicy

    with blamed(f"The policy '{plain(name, LIMIT)}' cannot be opened", fix="SMOLPILOT_TRACEBACK=1 shows where"):
        return GuardedPolicy(name, _checked(name, factory(source, options, embodiment)))


def _open_folder(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    """The policy of a folder, by the files that it holds."""
    from smolpilot.common.safe_paths import followed
    from smolpilot.smolvla.checkpoint.locate import EXPORT, locate

    folder = followed(Path(source).expanduser())
    if (folder / EXPORT).is_file():
        from .onnx import open_onnx

        return open_onnx(folder, options, embodiment)
    located = locate(source)
    if _type(located) == SMOLVLA:
        return _open_smolvla(source, options, embodiment)
    from .lerobot import open_lerobot

    return open_lerobot(located.folder, options, embodiment)


def _open_smolvla(source: str, options: PolicyOptions, embodiment: Embodiment | None) -> Policy:
    from .smolvla import open_smolvla

    return open_smolvla(source, options, embodiment)


def _type(located: Located) -> str:
    """LeRobot's name for the kind of policy in a checkpoint folder; what has none is left to SmolVLA's loader."""
    from smolpilot.smolvla.checkpoint.locate import CONFIG
    from smolpilot.smolvla.config.json_file import read_json

    path = located.folder / CONFIG
    found = read_json(path).get("type") if path.is_file() else None
    return found if isinstance(found, str) else SMOLVLA


def _is_word(text: str) -> bool:
    """Whether a text could be meant as a name: `hold-state`, not `runs/first` and not `.`."""
    return text.replace("-", "").replace("_", "").isalnum()


def _checked(name: str, made: Any) -> Policy:
    """What a factory made, where it is a policy: a package of somebody else's may have made anything."""
    lacks = [part for part in ("spec", "predict", "reset", "close") if not hasattr(made, part)]
    if lacks or not isinstance(made.spec, PolicySpec):
        problem = f"no {' and no '.join(lacks)}" if lacks else f"a spec that is a {type(made.spec).__name__}"
        raise SmolpilotError(
            f"What the policy '{name}' makes is no policy: the {type(made).__name__} has {problem}.",
            expected="spec, predict, reset and close, as smolpilot.contracts.Policy has them",
            fix="inherit from smolpilot.contracts.Policy: it brings reset and close",
        )
    for capability, parts in ((TOKENS, ("token_room",)), (TWO_STAGE, ("begin", "finish"))):
        if capability in made.spec.capabilities and (lacks := [part for part in parts if not hasattr(made, part)]):
            raise SmolpilotError(
                f"The policy '{name}' names the capability '{capability}' and has no {' and no '.join(lacks)}.",
                expected="what smolpilot.contracts says of each capability",
            )
    try:
        json.dumps(made.spec.facts.lineage)
    except (TypeError, ValueError) as error:
        raise SmolpilotError(
            f"The policy '{name}' has a lineage that no report can keep: {plain(str(error), LIMIT)}",
            expected="facts.lineage of texts, numbers, lists and mappings, as JSON has them",
        ) from error
    return cast(Policy, made)
