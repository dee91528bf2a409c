"""`smolpilot.json` of a bundle: what LeRobot's files have no place for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import shown
from smolpilot.smolvla.config.json_file import read_json
from smolpilot.smolvla.config.settings_form import Form, check_keys, formed, real, whole
from smolpilot.version import __version__

from .sealing import FACTS

FORMAT = 1
_OLD = {"execution_horizon": "n_action_steps"}  # read for ever, no longer written


class Facts(Form):
    """The content of the file. `lerobot_keys`: of config.json, unknown to LeRobot 0.6.1."""

    camera_map: dict[str, str | None]
    instructions: list[str]
    n_action_steps: Annotated[int, whole(1, 10_000)]
    lineage: dict[str, Any] = Field(default_factory=dict)
    dtypes: dict[str, str] = Field(default_factory=dict)
    lerobot_keys: dict[str, Any] = Field(default_factory=dict)
    digests: dict[str, Any] = Field(default_factory=dict)
    smolpilot: str = __version__
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> Facts | None:
        """The facts of a bundle, None for a checkpoint that is none; CheckpointError when damaged or newer."""
        path = folder / FACTS
        if not path.is_file():
            return None
        values = read_json(path)
        if values.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is of format {shown(values.get('format'))}.",
                expected=f"format {FORMAT}",
                fix="update smolpilot to the version that wrote it, or a later one",
            )
        values = {_OLD.get(key, key): value for key, value in values.items()}
        check_keys(values, cls.model_fields, path)
        formed(_Lineage, values, path)
        return formed(cls, values, path)

    def written(self) -> dict[str, Any]:
        """The content without digests; `lerobot_keys` only where there are some."""
        return {key: value for key, value in vars(self).items() if key not in ("digests", "lerobot_keys") or value}


class _Dataset(Form):
    name: str | None = None
    fingerprint: str | None = None


class _Training(Form):
    """What is read of one training (`contracts.trained_on`); a bundle may say more."""

    dataset: _Dataset | None = None
    dataset_fingerprint: str | None = None
    fps: Annotated[float, real(0, 1e9)] | None = None
    trained_episodes: list[int] | None = None
    held_out_episodes: list[int] | None = None
    dataset_units: dict[str, list[str] | None] | None = None
    mixture: list[_Training] | None = None
    parent: _Training | str | None = None


class _Lineage(Form):
    lineage: _Training | None = None
