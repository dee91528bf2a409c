"""The findings as one self-contained HTML page, in the look of the other reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.text import page_environment
from smolpilot.datasets.tolerant.findings import SEVERITIES, Finding, collapsed, count
from smolpilot.datasets.tolerant.rules import GROUPS, RULES

from .context import ranges
from .run import CheckResult


def render(result: CheckResult) -> str:
    """The page; no script is needed to read it, one filters the findings by severity."""
    # The house look is kept in one place; its folder is found without importing that package.
    shared = Path(__file__).parents[2] / "evaluation" / "templates"
    template = page_environment(Path(__file__).parent / "templates", shared).get_template("check.html.j2")
    together = collapsed(result.findings)
    shown = [found for found, _ in together]
    return template.render(
        facts=result.facts(),
        counts=count(shown),
        severities=SEVERITIES,
        findings=[(found, ranges(episodes) if episodes else "") for found, episodes in together],
        rules=RULES,
        groups=[_group(shown, name) for name in GROUPS],
        episodes=_episodes(result),
        width=max(1, *(len(rows) for rows in result.dataset.rows.values()), 1),
    )


def _group(findings: list[Finding], name: str) -> dict[str, Any]:
    mine = [found for found in findings if found.group == name]
    return {"title": GROUPS[name], "counts": count(mine), "codes": sorted({found.code for found in mine})}


def _episodes(result: CheckResult) -> list[dict[str, Any]]:
    """Each episode with its findings, and where on its time line they begin."""
    dataset = result.dataset
    listed = []
    by_episode: dict[int | None, list[Finding]] = {}
    for found in result.findings:
        by_episode.setdefault(found.episode, []).append(found)
    for index in dataset.episodes:
        mine = by_episode.get(index, [])
        rows = dataset.rows.get(index)
        listed.append(
            {
                "index": index,
                "rows": len(rows) if rows is not None else 0,
                "task": dataset.task_of(index),
                "counts": count(mine),
                "codes": list(dict.fromkeys(found.code for found in mine)),
                "marks": [found for found in mine if found.frame is not None and rows is not None],
            }
        )
    return listed
