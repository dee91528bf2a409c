"""What all reports share: the page with its two languages, facts, tables of numbers behind the charts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.text import page_environment, plain
from smolpilot.datasets.splits import episode_ranges
from smolpilot.evaluation.rates.wording import p_value

from . import formats
from .texts import Both, Text, counted, english, known, listed, say

REPORT, PLOTS = "report.html", "plots"
_TEMPLATES = Path(__file__).parents[1] / "templates"


class Plots:
    """The CSV files behind the charts of a page, in the folder `plots` beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PLOTS

    def write(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
        """Write one file; returns the link from the page to it. An empty cell stands for what is not known."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([_cell(one) for one in header])
        writer.writerows([_cell(one) for one in row] for row in rows)
        self._folder.mkdir(exist_ok=True)
        write_text_atomic(self._folder / f"{name}.csv", buffer.getvalue())
        return f"{PLOTS}/{name}.csv"


def render(template: str, **values: Any) -> str:
    """The page of a template of this room."""
    return _environment().get_template(template).render(**values)


def policy_name(document: Mapping[str, Any]) -> str:
    """What a report calls the policy: the last parts of its path."""
    return "/".join(Path(str(document["bundle"]["path"])).parts[-2:]).lstrip("/")


def facts(values: Mapping[str, Any]) -> list[tuple[Text, Any]]:
    """Name and value of each fact. What is off, empty or does not apply has no row: it is not unknown."""
    return [(known("fact", str(key)), shown) for key, value in values.items() if (shown := _fact(str(key), value))]


def json_lines(path: Path | None) -> list[dict[str, Any]]:
    """The objects of a file with one in each line; empty without the file."""
    lines = []
    if path is not None and path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the torn last line of a run that was killed
                lines.append(json.loads(line))
    return lines


def capital(text: str) -> str:
    """The text with a capital letter at its begin."""
    return text[:1].upper() + text[1:]


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return "" if value is None or value != value else value  # nan is unequal to itself
    # A spreadsheet takes these for the begin of a formula; names of joints come from files of others.
    text = plain(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _fact(key: str, value: Any) -> Any:
    if key.endswith("_episodes") and isinstance(value, list):
        return episode_ranges(value) or None
    if value is None or value in ({}, [], (), ""):
        return None
    if isinstance(value, bool):
        return say("yes") if value else say("no")
    if isinstance(value, Mapping):
        pairs = [(known("fact", str(name)), _fact(str(name), entry)) for name, entry in value.items()]
        held = [
            Both(*(f"{_side(name, side)} {_side(entry, side)}" for side in ("en", "zh")))
            for name, entry in pairs
            if entry
        ]
        return Both("; ".join(one.en for one in held), "；".join(one.zh for one in held)) if held else None
    if isinstance(value, list | tuple):
        return listed([shown for one in value if (shown := _fact(key, one))])
    if isinstance(value, int) and key in ("parameters", "frames"):
        return formats.number(value)
    return str(value)


def _side(text: Text, side: str) -> str:
    return str(getattr(text, side)) if isinstance(text, Both) else text


def _against(own: float | None, baseline: float | None) -> str:
    if own is None or baseline is None:
        return ""
    return "good" if own < baseline else "bad"


@cache
def _environment() -> jinja2.Environment:
    environment = page_environment(_TEMPLATES)
    environment.globals.update(say=say, counted=counted, known=known, english=english, facts=facts)
    environment.filters.update(
        num=formats.number, percent=formats.percent, percents=formats.percents, between=formats.between,
        points=formats.points, ms=formats.milliseconds, p=p_value, against=_against,
    )  # fmt: skip
    return environment
