"""JSON schemas of the YAML files that people write, from the classes that read them: editors complete and check."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from smolpilot.robots import RobotProfile
from smolpilot.training import TrainOptions
from smolpilot.training.stages.plan import NOT_IN_DEFAULTS, NOT_IN_OPTIONS, Plan

from .help import field_docs

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLES = {
    "train": "smolpilot train --config FILE",
    "stages": "smolpilot train --stages FILE",
    "profile": "smolpilot robot profile check FILE",
}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of one of `TITLES`; a key that the reader refuses, it refuses, too."""
    if name == "profile":
        found = RobotProfile.model_json_schema()
    elif name == "train":
        found = _of_dataclass(TrainOptions)
    else:
        found = _stages()
    return {"$schema": _DIALECT, **found, "title": TITLES[name]}


def _of_dataclass(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = pydantic.TypeAdapter(kind).json_schema()
    for part in set(_dataclasses(kind)):
        schema = found if part is kind else found["$defs"][part.__name__]
        schema["additionalProperties"] = False
        for name, doc in field_docs(part).items():
            schema["properties"][name]["description"] = doc
    return found


def _stages() -> dict[str, Any]:
    """A stages file, with the options of `train` that may stand in `defaults`, and in a stage's `options`."""
    found, train = _of_dataclass(Plan), _of_dataclass(TrainOptions)
    found["$defs"] |= train["$defs"]
    for schema, refused in ((found["properties"]["defaults"], NOT_IN_DEFAULTS),
                            (found["$defs"]["Stage"]["properties"]["options"], NOT_IN_OPTIONS)):  # fmt: skip
        schema["additionalProperties"] = False
        schema["properties"] = {name: value for name, value in train["properties"].items() if name not in refused}
    return found


def _dataclasses(hint: Any) -> Iterator[type]:
    """All dataclasses in a type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from _dataclasses(inner)
    for inner in typing.get_args(hint):
        yield from _dataclasses(inner)
