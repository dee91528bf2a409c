"""JSON schemas of the YAML files that people write, from the classes that read them: editors complete and check."""

from __future__ import annotations

from typing import Any

import pydantic

from smolpilot.robots import RobotProfile
from smolpilot.runtime.setup.setup_file import setup_schema
from smolpilot.training import TrainOptions
from smolpilot.training.options.sources import Source
from smolpilot.training.stages.plan import NOT_IN_DEFAULTS, NOT_IN_OPTIONS, Gate, Plan, Scoring, Simulation, Stage

from .help import field_docs

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLES = {
    "train": "smolpilot train --config FILE",
    "stages": "smolpilot train --stages FILE",
    "profile": "smolpilot robot profile check FILE",
    "setup": "smolpilot robot check FILE",
}


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema of one of `TITLES`; a key that the reader refuses, it refuses, too."""
    if name == "profile":
        found = RobotProfile.model_json_schema()
    elif name == "setup":
        found = setup_schema()
    elif name == "train":
        found = _of_dataclass(TrainOptions, Source)
    else:
        found = _stages()
    return {"$schema": _DIALECT, **found, "title": TITLES[name]}


def _of_dataclass(kind: type, *parts: type) -> dict[str, Any]:
    """parts: the other dataclasses in it."""
    found: dict[str, Any] = pydantic.TypeAdapter(kind).json_schema()
    for part in (kind, *parts):
        schema = found if part is kind else found["$defs"][part.__name__]
        schema["additionalProperties"] = False
        for name, doc in field_docs(part).items():
            schema["properties"][name]["description"] = doc
    return found


def _stages() -> dict[str, Any]:
    """A stages file, with the options of `train` that may stand in `defaults`, and in a stage's `options`."""
    found, train = _of_dataclass(Plan, Stage, Gate, Simulation, Scoring), _of_dataclass(TrainOptions, Source)
    found["$defs"] |= train["$defs"]
    for schema, refused in ((found["properties"]["defaults"], NOT_IN_DEFAULTS),
                            (found["$defs"]["Stage"]["properties"]["options"], NOT_IN_OPTIONS)):  # fmt: skip
        schema["additionalProperties"] = False
        schema["properties"] = {name: value for name, value in train["properties"].items() if name not in refused}
    return found
