"""The form of a run log's lines, checked key by key when a log is read; loaded then alone, for pydantic's sake."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, TypedDict

import pydantic

from smolpilot.common.errors import RunLogError, did_you_mean
from smolpilot.common.text import LIMIT, plain, shown

_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
_Whole = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
_Name = Annotated[str, pydantic.Field(min_length=1, max_length=1_000)]


@pydantic.with_config(_STRICT)
class _Header(TypedDict):
    format: str
    robot: str
    policy: str | None
    instruction: str | None
    joints: Annotated[list[_Name], pydantic.Field(min_length=1)]
    units: list[_Name]
    cameras: list[_Name]
    rate: Annotated[float, pydantic.Field(gt=0)]
    started_at: str
    started_monotonic: float
    dry_run: bool
    facts: dict[str, Any]


@pydantic.with_config(_STRICT)
class _Chunk(TypedDict):
    id: _Whole
    step: _Whole
    captured_at: float


@pydantic.with_config(_STRICT)
class _Stop(TypedDict):
    category: Literal[0, 1, 2]
    reason: str


@pydantic.with_config(_STRICT)
class _Ages(TypedDict):
    observation: float | None
    chunk: float | None


@pydantic.with_config(_STRICT)
class _Tick(TypedDict):
    tick: _Whole
    episode: _Whole
    source: str
    captured_at: dict[str, float]
    sent_at: float
    ages: _Ages
    chunk: _Chunk | None
    requested: list[float | None]
    commanded: list[float]
    measured: list[float | None] | None
    flags: dict[str, list[str]]
    stop: _Stop | None


_FORMS: dict[str, Any] = {"header": _Header, "tick": _Tick}


def read_form(kind: Literal["header", "tick"], values: Any, where: str) -> dict[str, Any]:
    """The values of a line, each of its type; RunLogError, at `where`, names the first key that is not as it should."""
    try:
        found: dict[str, Any] = _adapter(kind).validate_python(values)
        return found
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = plain(".".join(map(str, first["loc"])), LIMIT)
        if first["type"] == "missing":
            raise RunLogError(f"{where}: the key '{key}' is missing.", expected=f"the {kind} of a run log") from None
        if first["type"] == "extra_forbidden":
            known = list(_FORMS[kind].__annotations__)
            raise RunLogError(f"{where}: unknown key '{key}'.", fix=did_you_mean(key, known)) from None
        what = f"'{key}' is {shown(first['input'])}" if key else f"this is {shown(first['input'])}"
        raise RunLogError(f"{where}: {what}.", expected=first["msg"]) from None


def in_order(kind: Literal["header", "tick"], values: dict[str, Any]) -> dict[str, Any]:
    """The values of a line in the order in which they are written."""
    return {key: values[key] for key in _FORMS[kind].__annotations__}


@cache
def _adapter(kind: str) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(_FORMS[kind])
