"""The page of a robot run: what it says, of whole runs and of those that were cut off, and the CSV files behind it."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import RunLogError
from smolpilot.contracts.robot import Flag
from smolpilot.contracts.run_folder import LOG, REPORT, RUN
from smolpilot.contracts.run_log import read_run_log
from smolpilot.evaluation.robot_runs import write_run_report
from smolpilot.evaluation.robot_runs.measures import measure
from smolpilot.evaluation.robot_runs.page import drawn_episodes

from .helpers_robot_runs import ARM, end, example_run, facts, header, log_of, ticks, write_run


def text_of(page: str, language: str = "en") -> str:
    """What a reader of the page sees in one language."""
    other = "zh" if language == "en" else "en"
    page = re.sub(r"<(style|script).*?</\1>", " ", page, flags=re.DOTALL)
    page = re.sub(rf'<(span|tspan) class="{other}" lang="{other}">.*?</\1>', "", page, flags=re.DOTALL)
    page = re.sub(r"<[^>]*>", " ", page)
    return " ".join(html.unescape(page).replace("\xa0", " ").split())


def motion(count: int, joints: int = 2) -> Any:
    return np.outer(np.sin(np.arange(count) / 5), np.arange(1, joints + 1))


def written(folder: Path, made: Sequence[Any], ends: Sequence[Any] = (), *, head: Any = None, **said: Any) -> str:
    write_run(folder, made, ends, facts(**said), head or header())
    return write_run_report(folder).read_text(encoding="utf-8")


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "plots" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = example_run(tmp_path_factory.mktemp("runs") / "example", seconds=5.0)
    assert write_run_report(folder) == folder / REPORT
    return folder


def test_the_page_says_what_the_run_came_to(example: Path) -> None:
    page = (example / REPORT).read_text(encoding="utf-8")
    english, chinese = text_of(page), text_of(page, "zh")
    assert "succeeded in 1 of 2 (50 %, 95 % interval 1.3 to 98.7 %)." in english
    assert "Without a mark: 2 episodes, counted neither as success nor as failure." in english
    reason = "joint elbow_flex was 16.2 deg from its command for 0.3 s"
    assert f"The arm was stopped in episode 2: {reason}." in english
    assert "2 个回合中成功 1 个（50 %，95 % 置信区间 1.3 至 98.7 %）" in chinese
    assert f"机械臂在回合 2 中停止：{reason}。" in chinese
    for joint in ARM:
        assert f'<td class="name" dir="auto">{joint}</td>' in page
    assert "Dry run" not in english
    assert "cut off" not in english.replace("those that stopped or were cut off", "")
    assert "The jerk of the demonstrations is not known" not in english
    assert re.search(r"gripper deg [\d., ]+ unknown", english), "its demonstrations say nothing of the gripper"
    # 4 episodes of 6 joints, clamps, two ages, lateness.
    assert page.count('role="img"') == 4 * 6 + 4
    assert "http" not in page


def test_the_numbers_behind_the_charts_are_those_of_the_log(example: Path) -> None:
    log = read_run_log(example / LOG)
    links = re.findall(r'href="(plots/[^"]+)"', (example / REPORT).read_text(encoding="utf-8"))
    assert sorted(links) == sorted(
        ["plots/clamps.csv", "plots/chunk_age.csv", "plots/observation_age.csv", "plots/lateness.csv"]
        + [f"plots/motion_episode_{number}.csv" for number in range(4)]
    )
    assert all((example / link).is_file() for link in links)
    rows = [row for number in range(4) for row in rows_of(example, f"motion_episode_{number}")]
    assert [int(row["tick"]) for row in rows] == log.numbers.tolist()
    assert [place for place, row in enumerate(rows) if row["seam"] == "1"] == log.seams
    for a, name in enumerate(ARM):
        assert np.allclose([float(row[f"{name} commanded"]) for row in rows], log.commanded[:, a], atol=1e-5)
        assert np.allclose([float(row[f"{name} measured"]) for row in rows], log.measured[:, a], atol=1e-5)
    assert sum(int(row["ticks"]) for row in rows_of(example, "lateness")) == len(log.ticks)
    clamped = sum(int(row["shoulder_lift velocity"]) for row in rows_of(example, "clamps"))
    assert clamped == log.flag_counts()["velocity"]["shoulder_lift"] > 0


def test_writing_the_page_again_gives_the_same(example: Path) -> None:
    before = (example / REPORT).read_bytes()
    assert write_run_report(example).read_bytes() == before


def test_a_dry_run_says_that_nothing_was_sent(tmp_path: Path) -> None:
    page = text_of(written(tmp_path, ticks(motion(30)), [end(0)], dry_run=True))
    assert "Dry run: nothing was sent to the motors." in page
    assert "what would have been commanded" in page


def test_a_torn_log_and_a_run_that_was_cut_off_say_so(tmp_path: Path) -> None:
    made = [*ticks(motion(30)), *ticks(motion(30), first=30, episode=1)]
    write_run(tmp_path, made, [end(0)], facts(ended=None), header())
    content = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(content[:-40])
    page = text_of(write_run_report(tmp_path).read_text(encoding="utf-8"))
    assert "This run has not ended: it still goes on, or it was cut off." in page
    assert "The last line of the run log was cut off and is left out." in page
    assert "succeeded in 1 of 1" in page
    assert "Without a mark: 1 episode" in page
    assert "Episode 1: no mark; not ended, or cut off" in page
    assert len(rows_of(tmp_path, "motion_episode_1")) == 29


def test_a_run_that_never_began_has_a_page(tmp_path: Path) -> None:
    page = text_of(written(tmp_path, [], ended="the operator quit"))
    assert "checkpoints/best ran no episode on desk." in page
    assert "The run log holds no tick" in page
    assert "No episode was run." in page


def test_a_run_without_marks_has_no_rate(tmp_path: Path) -> None:
    page = text_of(written(tmp_path, ticks(motion(30)), [end(0, mark=None, ended="time")]))
    assert "(1 episode); none was marked, so nothing is known of its success." in page
    assert "interval" not in page
    assert "The jerk of the demonstrations is not known: the policy does not keep it." in page


def test_several_stops_are_counted_and_listed(tmp_path: Path) -> None:
    made = ticks(motion(30), stops={5: "It is hot.", 9: "It is too hot."})
    page = text_of(written(tmp_path, made, [end(0, mark=None, ended="stop", stop="It is too hot.")]))
    assert "The arm was stopped 2 times, the last time in episode 0: It is too hot." in page
    assert "0 0.5 stop and hold It is hot. 0 0.9 stop and hold It is too hot." in page


def test_names_and_reasons_of_others_are_texts(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    joints = (bad, "=lift")
    made = ticks(motion(30), flags={4: {Flag.VELOCITY: (bad,)}}, stops={20: bad})
    page = written(
        tmp_path, made, [end(0, stop=bad, ended="stop", instruction=bad)], head=header(joints), joints=joints,
        policy=f"runs/{bad}/x", setup=bad, instruction=bad, ended=bad, schedule={"mode": bad},
    )  # fmt: skip
    assert bad not in page
    assert html.escape(bad) in page
    assert "'=lift commanded" in rows_of(tmp_path, "motion_episode_0")[0]


def test_what_went_wrong_is_drawn_first() -> None:
    made = [tick for number in range(10) for tick in ticks(motion(5), first=5 * number, episode=number)]
    marks: dict[int, dict[str, Any]] = {7: {"mark": None, "ended": "stop", "stop": "hot"}, 8: {"mark": "failure"}}
    ends = [end(number, **marks.get(number, {})) for number in range(9)]  # the last one was cut off
    found = measure(log_of(made), facts(ended=None), ends)
    assert [one.number for one in drawn_episodes(found)] == [0, 1, 2, 7, 8, 9]


def test_what_is_no_folder_of_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match=r"is no folder of `smolpilot run`: it has no run\.json"):
        write_run_report(tmp_path)
    write_run(tmp_path / "run", ticks(motion(5)), [], facts(), header())
    content = (tmp_path / "run" / LOG).read_text(encoding="utf-8").splitlines()
    (tmp_path / "run" / LOG).unlink()
    with pytest.raises(RunLogError, match=r"has no run-log\.jsonl"):
        write_run_report(tmp_path / "run")
    (tmp_path / "run" / LOG).write_text("\n".join([content[0], "{}", *content[1:]]) + "\n", encoding="utf-8")
    with pytest.raises(RunLogError, match=r"run-log\.jsonl:2"):
        write_run_report(tmp_path / "run")
    assert not (tmp_path / "run" / REPORT).exists()
    (tmp_path / "run" / RUN).write_text('{"format": "smolpilot-robot-run/1"}', encoding="utf-8")
    with pytest.raises(RunLogError, match=r"run\.json cannot be read"):
        write_run_report(tmp_path / "run")
