"""The files a person opens: panels.png, report.html, and the CSV files behind its charts."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from matplotlib import image as pictures

from smolpilot.datasets import Dataset
from smolpilot.evaluation import RolloutResult, evaluate, write_eval_report, write_rollout_report
from smolpilot.evaluation.metrics import chunk_targets
from smolpilot.evaluation.offline.metrics_document import summarize
from smolpilot.evaluation.offline.plots import panels
from smolpilot.evaluation.predictions import Predictions, trajectory, typical_episode
from smolpilot.evaluation.reports import interval, number, percent, write_stages_page
from smolpilot.evaluation.reports.episode_videos import Videos
from smolpilot.evaluation.reports.offline_charts import motion_shares
from smolpilot.evaluation.reports.rollout_page import rollout_page

from .conftest import StubPolicy
from .helpers_report import (
    make_metrics,
    make_predictions,
    make_results,
    make_runs,
    make_stages,
    with_floors,
    with_images,
)

EXTERNAL = re.compile(
    r"""(?:src|href|url\()\s*=?\s*["'(]?\s*(?:https?:)?//|@import|<link|<script\s+src""", re.IGNORECASE
)


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
    assert "http" not in page
    for joint in facts.joints:
        assert f'<h3 dir="auto">{joint} ' in page
    # Two charts for each joint, in three units one of the errors each; error by step, scatter of two joints, latency.
    assert page.count('role="img"') == 2 * len(facts.joints) + 3 + 1 + 2 + 1
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


def page_of(document: dict[str, Any], folder: Path, episodes: Mapping[int, Path] | None = None) -> str:
    return rollout_page(document, folder, episodes or {})


def cells(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def texts_of(page: str) -> str:
    """What a person reads: without style, script and markup."""
    shown = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", shown))


def test_a_rollout_with_gate_and_floors_says_them_in_the_order_of_the_page(tmp_path: Path) -> None:
    document = with_floors(make_results())
    page = page_of(document, tmp_path)
    order = ("rates", "paired", "shows", "groups", "moments", "failures", "latency", "environment")
    places = [page.index(f'id="{name}"') for name in order]
    assert places == sorted(places)
    assert '<div class="banner good"><span class="en" lang="en">The policy succeeded in 22 of 40' in page
    assert document["verdict"]["text"].replace(" %", "\xa0%") in texts_of(page)
    for text in ("Random actions", "only the policy", "McNemar", "Hold the state", "start region", "egl", "3.8.1"):
        assert text in page
    for text in ("随机动作", "仅策略成功", "优于", "环境检验通过", "按起始区域的成功率"):
        assert text in page
    rows = cells(tmp_path / "plots" / "paired.csv")
    found = document["floors"][1]["paired"]
    assert rows[0] == ["against", "both", "only_policy", "only_other", "neither"]
    assert rows[2] == ["Random actions", *(str(found[key]) for key in rows[0][1:])]


def test_only_a_test_that_rejected_makes_a_page_say_better(tmp_path: Path) -> None:
    runs = make_runs(6)
    document = with_floors(make_results(runs))
    alike = {
        **document["floors"][1]["paired"], "both": 1, "only_policy": 1, "only_other": 1, "neither": 3, "p_value": 1.0,
        "difference": 0.0, "interval": [-0.5, 0.5], "decision": "not told apart", "text": "not told apart",
    }  # fmt: skip
    document["floors"] = [{**document["floors"][1], "paired": alike}]
    document["verdict"] = {"text": "as it was", "decision": "not told apart", "against": "random"}
    page = texts_of(page_of(document, tmp_path))
    assert "无法区分" in page
    assert "better" not in page
    assert "优于" not in page


@pytest.mark.parametrize("gate", ["passed", "replay-exact", "failed", "not gated"])
def test_every_gate_has_its_words(gate: str, tmp_path: Path) -> None:
    document = with_floors(make_results(), gate=gate)
    document["gate"]["overridden"] = gate == "failed"
    page = page_of(document, tmp_path)
    tone = "warn" if gate == "failed" else "good"
    assert f'<div class="banner {tone}">' in page
    assert ("仍然进行了评分" in page) == (gate == "failed")
    assert {"passed": "检验通过", "replay-exact": "精确重放", "failed": "未通过", "not gated": "未经检验"}[gate] in page


def test_results_of_before_have_a_page_without_what_they_lack(tmp_path: Path) -> None:
    document = make_results()
    for name in ("rate", "parallel", "success_at_end", "what_it_shows", "simulation", "denoising_steps"):
        del document[name]
    for run in document["runs"]:
        for name in ("plans", "planning_s", "success_at_end", "error"):
            del run[name]
    page = page_of(document, tmp_path)
    assert '<div class="banner plain">' in page
    for name in ("paired", "moments", "latency"):
        assert f'id="{name}"' not in page
    assert "to show 10 points takes" in page
    assert "unknown" not in texts_of(page)


def test_what_is_off_is_not_unknown(tmp_path: Path) -> None:
    scored = make_predictions(3, episodes=2, length=60, horizon=10)
    document = make_metrics(scored) | {"latency": None}
    write_eval_report(tmp_path, scored, document)
    page = texts_of((tmp_path / "report.html").read_text(encoding="utf-8"))
    for word in ("unknown", "None", "latency", "engine", "lora"):
        assert word not in page
    assert not (tmp_path / "plots" / "latency.csv").exists()


def test_failures_have_their_videos_and_large_ones_stay_beside_the_page(tmp_path: Path) -> None:
    runs = with_images(make_runs(8), 4)
    document = make_results(runs, video_episodes=4)
    spec = SimpleNamespace(rate=50.0, labels=document["labels"])
    write_rollout_report(
        tmp_path, cast(RolloutResult, SimpleNamespace(runs=runs, document=document, spec=spec, told=[]))
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    failed = [run.seed for run in runs[:4] if not run.success]
    assert failed
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == [
        f"episode_{run.seed}.mp4" for run in runs[:4]
    ]
    assert [seed for seed in range(1_000_000, 1_000_008) if f'href="videos/episode_{seed}.mp4"' in page] == failed
    assert page.count("<video") == page.count('poster="data:image/jpeg;base64,') == 1 + len(failed)
    shown = Videos(tmp_path, most=0).show(tmp_path / "videos" / f"episode_{failed[0]}.mp4")
    assert shown is not None
    assert (shown.source, shown.inside) == (f"videos/episode_{failed[0]}.mp4", False)


def test_a_damaged_video_has_no_poster_and_a_missing_one_no_place(tmp_path: Path) -> None:
    (tmp_path / "a b#.mp4").write_bytes(b"no video")
    shown = Videos(tmp_path, most=0).show(tmp_path / "a b#.mp4")
    assert shown is not None
    assert (shown.source, shown.poster) == ("a%20b%23.mp4", None)
    assert Videos(tmp_path).show(tmp_path / "none.mp4") is None


def test_a_robot_of_26_joints_fits_into_a_page_that_can_be_mailed(tmp_path: Path) -> None:
    scored = make_predictions(26)
    document = make_metrics(scored)
    write_eval_report(tmp_path, scored, document)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 3_000_000
    # Those that move most first: by their range over that of their limits, or over the largest of their unit.
    found = re.findall(r'<h3 dir="auto">(\S+) ', page)
    shares = dict(zip(scored.joints, motion_shares(document), strict=True))
    assert found == sorted(scored.joints, key=lambda name: -shares[name])
    assert shares[found[0]] == 1.0  # the finger that moves most has no limits
    (drawn,) = (tmp_path / "plots").glob("episode_?.csv")
    header, *rows = cells(drawn)
    assert (len(header), len(rows)) == (1 + 2 * 26, 300)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    bad = '<script>alert("1")</script>\u202e"\'=1+1'
    runs = make_runs(12, texts=[bad, "=cmd|' /C calc'!A0"])
    for run in runs:
        run.groups = {bad: bad}
        run.label, run.facts = (bad, {bad: 1.0}) if not run.success else (run.label, run.facts)
    document = with_floors(make_results(runs, labels={bad: bad}, goal=bad, env=bad)) | {"warnings": [bad]}
    document["floors"][0]["text"] = bad
    document["bundle"] = document["bundle"] | {"path": bad, "lineage": {bad: {bad: [bad]}}}
    stages = make_stages([bad, "b"])
    write_stages_page(tmp_path, stages)
    pages = [page_of(document, tmp_path), (tmp_path / "report.html").read_text(encoding="utf-8")]
    scored = make_predictions(2, episodes=2, length=40, horizon=8)
    scored.joints[0] = bad
    write_eval_report(tmp_path, scored, make_metrics(scored))
    pages.append((tmp_path / "report.html").read_text(encoding="utf-8"))
    for page in pages:
        assert page.count("<script") == 1  # the page's own
        assert "\u202e" not in page
        assert "&lt;script&gt;" in page
    for path in (tmp_path / "plots").glob("*.csv"):
        for row in cells(path):
            assert all(not cell.startswith(("=", "@", "+")) for cell in row)


def test_stages_show_each_task_after_each_stage(tmp_path: Path) -> None:
    document = make_stages()
    write_stages_page(tmp_path, document)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "After 3 stages, success on the last task (blue): 90",
        "Mean forgetting",
        "遗忘量",
        "hold-state",
        "5f0c2d1e",
    ):
        assert text in page
    rows = cells(tmp_path / "plots" / "stages_success.csv")
    assert len(rows) == 1 + 6
    assert rows[1][:2] == ["red", "red"]
    assert [float(cell) for cell in rows[1][2:]] == pytest.approx([0.9, 0.83, 0.97])


def test_one_stage_alone_has_a_page(tmp_path: Path) -> None:
    document = make_stages(["red"])
    for key in ("error", "success"):
        document[key] = {"matrix": [[{"value": 0.5, "interval": None}]]}
    del document["references"]
    write_stages_page(tmp_path, document)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "too few episodes for an interval" in page
    assert "Forgetting</span>" not in page


def test_the_interval_of_an_offline_error_draws_episodes(tmp_path: Path) -> None:
    scored = make_predictions(2, episodes=4, length=60, horizon=8)
    document = summarize(scored)
    low, high = document["mae_interval"]
    assert low < document["mean_over_joints"]["mae"] < high
    alone = make_predictions(2, episodes=1, length=60, horizon=8)
    assert summarize(alone)["mae_interval"] is None
    write_eval_report(tmp_path, alone, make_metrics(alone))
    assert "bootstrap over episodes" not in (tmp_path / "report.html").read_text(encoding="utf-8")
