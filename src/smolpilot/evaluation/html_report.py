"""Reports as single HTML files: pictures and video inside, no network, nothing to install."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from smolpilot.common.text import base64_markup, page_environment
from smolpilot.datasets.splits import episode_ranges

from .offline.plots import horizon_panel, joint_panel, panels
from .offline.summary import to_json
from .offline.suspects import SPAN_RATIO
from .predictions import Scored, trajectory, typical_episode

METRICS, PANELS, REPORT = "metrics.json", "panels.png", "report.html"
LEGEND = "Green: the episode was a success; red: it was not."


def write_eval_report(
    folder: Path, scored: Scored, document: dict[str, Any], *, progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Write metrics.json, panels.png and report.html into the existing `folder`.

    `progress(what, done, total)` is called as the pictures are drawn, one per joint.
    """
    (folder / METRICS).write_text(to_json(document), encoding="utf-8")
    picture = panels(scored, document)
    (folder / PANELS).write_bytes(picture)
    shown = trajectory(scored, typical_episode(scored))
    joints = []
    for a, joint in enumerate(document["joints"]):
        joints.append({**joint, "image": inline(joint_panel(scored, document, a, shown))})
        if progress is not None:
            progress("drawing", a + 1, len(scored.joints))
    page = render(
        "eval.html.j2",
        document=document,
        name=policy_name(document),
        panels=inline(picture),
        horizon=inline(horizon_panel(scored, document)),
        joints=joints,
        shown_episode=shown.episode,
        instruction=scored.instructions.get(shown.episode),
        span_ratio=SPAN_RATIO,
    )
    (folder / REPORT).write_text(page, encoding="utf-8")


def render(template: str, **values: Any) -> str:
    """The page of a template of this package."""
    return _environment().get_template(template).render(legend=LEGEND, **values)


def inline(content: bytes) -> str:
    """Bytes as base64, for a data URL."""
    return base64_markup(content)


def policy_name(document: dict[str, Any]) -> str:
    """What a report calls the policy: the last parts of its path."""
    return "/".join(Path(str(document["bundle"]["path"])).parts[-2:]).lstrip("/")


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: significant digits, a true minus sign, `n/a` for none."""
    if value is None:
        return "n/a"
    if isinstance(value, int) or (abs(value) >= 10 ** (digits - 1) and abs(value) < 1e7):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as per cent with one digit where it matters."""
    if value is None:
        return "n/a"
    text = f"{100 * value:.1f}"
    return text.removesuffix(".0") + " %"


def interval(ends: list[float]) -> str:
    """A confidence interval of a share, in per cent."""
    return f"{percent(ends[0]).removesuffix(' %')} to {percent(ends[1])}"


def value_range(ends: list[float | None] | None) -> str:
    """A pair of numbers as `low to high`."""
    return "unknown" if ends is None else f"{number(ends[0], 3)} to {number(ends[1], 3)}"


def _against(own: float | None, baseline: float | None) -> str:
    if own is None or baseline is None:
        return ""
    return "good" if own < baseline else "bad"


def _fact(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "unknown"
    if isinstance(value, dict):
        return "; ".join(f"{key} {_fact_of(key, item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _fact_of(key: str, value: Any) -> str:
    return episode_ranges(value) or "none" if key.endswith("_episodes") and isinstance(value, list) else _fact(value)


@cache
def _environment() -> jinja2.Environment:
    environment = page_environment(Path(__file__).parent / "templates")
    environment.filters.update(
        num=number, percent=percent, interval=interval, range=value_range, against=_against, fact=_fact
    )
    return environment
