"""The files a person opens: panels.png and report.html."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import image as pictures

from smolpilot.datasets import Dataset
from smolpilot.evaluation import evaluate, write_eval_report
from smolpilot.evaluation.metrics import chunk_targets
from smolpilot.evaluation.offline.metrics_document import summarize
from smolpilot.evaluation.offline.plots import panels
from smolpilot.evaluation.predictions import Predictions, trajectory, typical_episode
from smolpilot.evaluation.reports import interval, number, percent

from .conftest import StubPolicy

EXTERNAL = re.compile(r"""(?:src|href|url\()\s*=?\s*["'(]?\s*(?:https?:)?//|@import|<link|<script""", re.IGNORECASE)


def make_scored(joints: int, *, every: int = 1, noise: float = 0.01) -> Predictions:
    """Two episodes of sine waves with small errors."""
    rng = np.random.default_rng(0)
    t = np.arange(40)[:, None] / 10
    episodes = [np.sin(t * (1 + 0.1 * np.arange(joints))) + e for e in range(2)]
    actions = np.concatenate(episodes).astype(np.float32)
    episode, frame = np.repeat([3, 8], 40), np.tile(np.arange(40), 2)
    rows = np.arange(0, 80, every)
    target, is_pad = chunk_targets(actions, episode, rows, 12)
    # Episode 8 is the worse one.
    scale = np.where(episode[rows] == 8, 3 * noise, noise)[:, None, None]
    predicted = (target + scale * rng.normal(size=target.shape)).astype(np.float32)
    return Predictions(
        predicted, target, is_pad, actions[rows], actions.mean(axis=0).astype(float), episode[rows], frame[rows],
        actions, episode, frame, [f"arm_<{a}>_joint" for a in range(joints)], ["rad"] * joints, [None] * joints,
        10.0, 5,
    )  # fmt: skip


@pytest.mark.parametrize("joints", [1, 2, 7, 64])
def test_panels_are_a_picture_for_any_robot(joints: int) -> None:
    scored = make_scored(joints, every=10)
    document = summarize(scored)
    document["latency"] = {
        "warm_up": 3,
        "chunk": {"count": 3, "p50_ms": 2.0, "p95_ms": 3.0, "samples_ms": [1.0, 2.0, 3.0]},
        "queue_pop": {"p50_ms": None},
    }
    pixels = pictures.imread(io.BytesIO(panels(scored, document)))
    assert pixels.shape[:2] == (1000, 1800)
    for row in (slice(0, 500), slice(500, 1000)):
        for column in (slice(0, 600), slice(600, 1200), slice(1200, 1800)):
            assert pixels[row, column, :3].std() > 0.02  # every panel shows something


def test_report_is_self_contained_and_names_every_joint(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace, tmp_path: Path
) -> None:
    policy = make_policy()
    policy.lineage["parent"] = "<script>alert(1)</script>"
    result = evaluate(policy, dataset)
    write_eval_report(tmp_path, result.scored, result.document)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not EXTERNAL.search(page)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    for joint in facts.joints:
        assert f"<h3>{joint} " in page
    # The six panels, the error by step, one picture per joint.
    assert page.count("data:image/png;base64,") == 2 + len(facts.joints)
    assert dataset.meta.fingerprint in page
    assert "not told apart from holding the current state and the mean action" in page
    assert json.loads((tmp_path / "metrics.json").read_text())["frames"] == result.document["frames"]
    assert (tmp_path / "panels.png").stat().st_size > 20_000


def test_names_are_escaped(tmp_path: Path) -> None:
    scored = make_scored(2, every=20)
    document = summarize(scored) | {
        "latency": None, "bundle": {"path": "x"}, "dataset": {}, "settings": {}, "machine": {},
        "split": {"text": "all"},
    }  # fmt: skip
    write_eval_report(tmp_path, scored, document)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "arm_&lt;1&gt;_joint" in page
    assert "arm_<1>_joint" not in page


def test_stitched_trajectory_plans_anew_every_execution_horizon() -> None:
    scored = make_scored(1)
    scored.predicted[:] = np.arange(80)[:, None, None]  # every chunk tells its frame
    stitched = trajectory(scored, 8).executed[:, 0]
    assert stitched[:12].tolist() == [40] * 5 + [45] * 5 + [50] * 2
    assert len(stitched) == 40


def test_stitched_trajectory_with_a_wide_stride_leaves_gaps() -> None:
    scored = make_scored(1, every=16)
    stitched = trajectory(scored, 3).executed[:, 0]
    assert np.isfinite(stitched[:12]).all()  # one chunk of 12
    assert np.isnan(stitched[12:16]).all()
    assert np.isfinite(stitched[16:28]).all()


def test_the_drawn_episode_is_not_the_worst() -> None:
    assert typical_episode(make_scored(2)) == 3


def test_numbers_for_people() -> None:
    assert number(0.0123456) == "0.01235"
    assert number(-12345.6) == "−12,346"
    assert number(12) == "12"
    assert number(None) == "n/a"
    assert percent(0.5) == "50 %"
    assert percent(0.1234) == "12.3 %"
    assert interval([0.9, 1.0]) == "90 to 100 %"
