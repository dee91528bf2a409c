"""What meta/info.json may hold where no reader looks twice: one description, for strict readers and for `check`.

Rate, patterns, dtypes and shapes are judged by who uses them; everything else is here, so that a text where a number
belongs is one sentence, in whatever verb.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic

from smolpilot.common.text import plain, shown

from .files import repair_advice
from .problems import REFUSE, Problems

_MAX_TOTAL = 2**53
_MAX_TEXT = 1_000


def _count(value: Any) -> Any:
    if value is None or (_is_number(value) and 0 <= value < _MAX_TOTAL and float(value).is_integer()):
        return value
    raise ValueError("a whole number, 0 or more")


def _rate(value: Any) -> Any:
    if value is None or (_is_number(value) and 0 < value < 1e6):
        return value
    raise ValueError("a number above 0")


def _text(value: Any) -> Any:
    if value is None or (isinstance(value, str) and len(value) <= _MAX_TEXT):
        return value
    raise ValueError(f"a text of at most {_MAX_TEXT:,} letters")


def _split(value: Any) -> Any:
    """A range such as `0:50`; some write the episodes as a list."""
    return _text(value) if isinstance(value, str) else value


def _names(value: Any) -> Any:
    """Lists, nested or keyed, of whatever a recorder calls its joints; no text that is none of a joint's."""
    level = [value]
    while level:
        if any(isinstance(part, str) and len(part) > _MAX_TEXT for part in level):
            raise ValueError(f"names of at most {_MAX_TEXT:,} letters")
        inner = [part for part in level if isinstance(part, dict | list)]
        level = [one for part in inner for one in (part if isinstance(part, list) else [*part, *part.values()])]
    return value


def _version(value: Any) -> Any:
    return value if isinstance(value, int | float) and math.isfinite(value) else _text(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_Count = Annotated[Any, pydantic.AfterValidator(_count)]
_Rate = Annotated[Any, pydantic.AfterValidator(_rate)]
_Text = Annotated[Any, pydantic.AfterValidator(_text)]
_Version = Annotated[Any, pydantic.AfterValidator(_version)]


_Split = Annotated[Any, pydantic.AfterValidator(_split)]
_Names = Annotated[Any, pydantic.AfterValidator(_names)]


class _Form(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)


class _Video(_Form):
    fps: Annotated[_Rate, pydantic.Field(alias="video.fps")] = None
    codec: Annotated[_Text, pydantic.Field(alias="video.codec")] = None
    pix_fmt: Annotated[_Text, pydantic.Field(alias="video.pix_fmt")] = None


class _Feature(_Form):
    dtype: _Text = None
    names: _Names = None
    info: _Video | None = None
    video_info: _Video | None = None


def _features(value: Any) -> Any:
    """What is no object is for the readers of features to tell."""
    return value if isinstance(value, dict) else {}


class _Info(_Form):
    codebase_version: _Version = None
    robot_type: _Text = None
    total_episodes: _Count = None
    total_frames: _Count = None
    total_tasks: _Count = None
    total_videos: _Count = None
    total_chunks: _Count = None
    splits: dict[str, _Split] | None = None
    features: Annotated[dict[str, _Feature], pydantic.BeforeValidator(_features)] = {}


class Oddity(NamedTuple):
    """A value that cannot be meant: where it stands, what it is, and what was expected."""

    place: tuple[str, ...]
    value: Any
    expected: str

    def text(self) -> str:
        """As a person reads it."""
        return f"'{': '.join(plain(part, 60) for part in self.place)}' is {shown(self.value)}"


def oddities(info: dict[str, Any]) -> Iterator[Oddity]:
    """What in a description is of a type or size that no recorder writes."""
    try:
        _Info.model_validate(info)
    except pydantic.ValidationError as error:
        for one in error.errors(include_url=False):
            expected = str(one["ctx"]["error"]) if one["type"] == "value_error" else "an object"
            yield Oddity(tuple(str(part) for part in one["loc"]), one["input"], expected)


def plain_info(info: dict[str, Any], path: Path, problems: Problems = REFUSE) -> dict[str, Any]:
    """The description as if such entries were not there; each of them is reported."""
    found = list(oddities(info))
    if found:
        info = copy.deepcopy(info)
    for odd in found:
        advice = repair_advice(path.parent.parent, "leaves it out, or finds it in the files")
        message = f"In {problems.named(path)} {odd.text()}; expected is {odd.expected}."
        problems.report("info-damaged", message, advice=advice)
        inner: Any = info
        for part in odd.place[:-1]:
            inner = inner[part]
        inner.pop(odd.place[-1], None)
    return info


def read_fps(info: dict[str, Any], path: Path, problems: Problems = REFUSE) -> float:
    """Frames per second; 0, with a report, where the description does not say."""
    fps: Any = info.get("fps")
    if _is_number(fps) and 0 < fps < 1e6:
        return float(fps)
    advice = repair_advice(path.parent.parent, "finds the rate in the time stamps and videos")
    message = f"{problems.named(path)} has fps {shown(fps)}."
    problems.report("fps-invalid", message, expected="frames per second, above 0", advice=advice)
    return 0.0
