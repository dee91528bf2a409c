"""Every option of LeRobot's own training configuration has an answer in `smolpilot train`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from smolpilot.cli.main import main

pytestmark = pytest.mark.oracle


def options_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, of every choice that LeRobot registers (of policies: SmolVLA)."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], prefix + field.name
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            (hint, *_) = [part for part in typing.get_args(hint) if part is not type(None)]
        yield name
        if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
            continue
        if hint is PreTrainedConfig:
            yield from options_of(SmolVLAConfig, f"{name}.")
        elif hasattr(hint, "get_known_choices"):
            yield f"{name}.type"
            for choice in hint.get_known_choices().values():
                yield from options_of(choice, f"{name}.")
        else:
            yield from options_of(hint, f"{name}.")


def test_every_option_of_lerobot_train_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    from lerobot.configs.train import TrainPipelineConfig

    from smolpilot.cli.parsing.arguments import fields_of
    from smolpilot.training import TrainOptions

    names = [*dict.fromkeys(options_of(TrainPipelineConfig)), "policy.type", "policy.path", "config_path"]
    assert len(names) > 150
    strange = [name for name in names if name not in fields_of(TrainOptions)]
    assert main(["train", *(f"--{name}=1" for name in strange)]) == 2
    said = capsys.readouterr().err
    lines = {line.split()[0].rstrip(":"): line for line in said.splitlines() if line.startswith("    --")}
    for name in strange:
        line = lines[f"--{name}"]
        assert "unknown" not in line
        assert any(word in line for word in (" -> --", ": not needed (", ": no equivalent ("))
        # A whole group's answer is for what belongs to other policies, not for SmolVLA's own settings.
        assert "knows no such setting" not in line
