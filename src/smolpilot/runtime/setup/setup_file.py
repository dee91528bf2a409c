"""What the YAML of a robot setup may say, key by key; what the keys mean together is `RobotSetup`'s."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.contracts.registry import CAMERAS, ROBOTS, Registry

from ..governor.options import GovernorOptions
from ..limits import OperatingLimit

EXPECTED = {
    "position": "[min, max] in the profile's unit",
    "velocity": "a number above 0, in the profile's unit per second",
    "acceleration": "a number above 0, in the profile's unit per second, per second",
    "tracking_error": "a number above 0, in the profile's unit",
    "torque": "a share of what the motor can give, above 0 and at most 1",
    "driver": "a mapping such as `{type: feetech, port: /dev/ttyACM0, calibration: my_arm}`",
    "cameras": "a mapping such as `front: {type: file, device: front.mp4, width: 640, height: 480, fps: 30}`",
    "profile": "the name of a shipped profile (`smolpilot robot list`), or the path of a YAML file",
    "operating_limits": "a mapping such as `shoulder_pan: {position: [-90, 90], velocity: 60}`",
    "start_pose": "joints and values in the profile's units, as `shoulder_pan: 0`",
}
"""Key -> what should stand there, in words."""

_MAY_BE_EMPTY = ("cameras", "operating_limits", "start_pose", "governor")
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=1_000)]


def _nothing(value: Any) -> Any:
    """A key with only comments below it holds nothing."""
    return {} if value is None else value


_MAYBE = pydantic.BeforeValidator(_nothing)


class Device(pydantic.BaseModel):
    """A driver or camera: its `type` (smolpilot plugins lists them), and that type's own options beside it."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="allow")

    type: _Name


class SetupFile(pydantic.BaseModel):
    """A robot setup: which robot it is (`profile`), and how this one of them is reached and may move."""

    model_config = pydantic.ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    description: str = ""
    """For people; shown by smolpilot robot list."""
    profile: _Name
    """A shipped profile's name, or the path of a YAML file, relative to the setup's folder."""
    driver: Device
    """What moves the joints."""
    cameras: Annotated[dict[_Name, Device], _MAYBE] = {}
    """Name of a camera in the profile -> the device that it is here."""
    operating_limits: Annotated[dict[_Name, OperatingLimit], _MAYBE] = {}
    """Joint -> what it may do, in the profile's units; every key is optional."""
    start_pose: Annotated[dict[_Name, float], _MAYBE] = {}
    """Joint -> where it is parked, in the profile's units; others stay where they are."""
    governor: Annotated[GovernorOptions, _MAYBE] = GovernorOptions()
    """When the governor holds, clamps or stops."""


def device_class(registry: Registry, type_: str) -> tuple[Any, type[pydantic.BaseModel]]:
    """The class of a device, and the model of what a setup may say of it beside its type.

    UsageError for an unknown type, and for a class that has no such model.
    """
    kind = registry.get(type_)
    options = getattr(kind, "Options", None)
    if isinstance(options, type) and issubclass(options, pydantic.BaseModel):
        return kind, options
    raise UsageError(
        f"The {registry.kind} '{type_}' cannot stand in a setup: its class has no `Options`.",
        expected="a class with `Options` (a pydantic model) and `from_options`",
    )


def setup_schema() -> dict[str, Any]:
    """The JSON schema of a setup, with the options of every driver and camera that there is."""
    found = SetupFile.model_json_schema()
    definitions, properties = found["$defs"], found["properties"]
    del definitions["Device"]
    properties["driver"] = {**_choice(ROBOTS, definitions), "description": properties["driver"]["description"]}
    properties["cameras"]["additionalProperties"] = _choice(CAMERAS, definitions)
    for name in _MAY_BE_EMPTY:
        schema = properties[name]
        schema.pop("default", None)
        doc = schema.pop("description")
        properties[name] = {"anyOf": [schema, {"type": "null"}], "description": doc}
    return found


def _choice(registry: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema for one of the types; a type that cannot be imported or has no options may hold anything."""
    found = []
    for name in registry.names():
        kind = {"type": {"const": name}}
        try:
            schema = device_class(registry, name)[1].model_json_schema()
        except SmolpilotError:
            found.append({"type": "object", "properties": kind, "required": ["type"]})
            continue
        definitions.update(schema.pop("$defs", {}))
        schema["properties"] = {**kind, **schema.get("properties", {})}
        schema["required"] = ["type", *schema.get("required", [])]
        found.append(schema)
    return {"anyOf": found}
