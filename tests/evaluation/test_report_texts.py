"""The wording of the reports: every text in both languages, and none that a page asks for is missing."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import smolpilot.evaluation.reports as package
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.wording import compare_paired, name_of_test, paired_text, planning_text, rate_text
from smolpilot.evaluation.reports.sentences import eval_verdict
from smolpilot.evaluation.reports.texts import Both, counted, joined, known, listed, say

from .helpers_report import make_metrics, make_predictions

FOLDER = Path(package.__file__).parent
TEXTS: dict[str, dict[str, str]] = yaml.safe_load((FOLDER / "texts.yaml").read_text(encoding="utf-8"))
SOURCES = [
    *FOLDER.glob("*.py"),
    *(FOLDER.parent / "robot_runs").glob("*.py"),
    *(FOLDER.parent / "templates").glob("*.j2"),
]
LOOKED_UP = {
    "fact",
    "noun",
    "floor",
    "floor_text",
    "group",
    "role",
    "gate",
    "gate_word",
    "decision",
    "paired",
    "moment",
    "run_end",
    "run_mark",
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_text_has_both_languages_with_the_same_placeholders() -> None:
    for key, entry in TEXTS.items():
        assert set(entry) == {"en", "zh"}, key
        assert all(isinstance(text, str) and text for text in entry.values()), key
        assert placeholders(entry["en"]) == placeholders(entry["zh"]), key


def test_what_is_chinese_has_chinese_letters_or_is_a_name() -> None:
    alike = {key for key, entry in TEXTS.items() if not re.search(r"[\u4e00-\u9fff]", entry["zh"])}
    assert alike == {"of", "card.p95", "axis.mae"}


def test_every_text_is_asked_for_and_every_one_asked_for_is_there() -> None:
    asked, begun = set(), set()
    for path in SOURCES:
        content = path.read_text(encoding="utf-8")
        asked |= set(re.findall(r"""say\(\s*"([^"]+)"(?! ~)""", content))
        asked |= set(re.findall(r""""((?:rollout|stages)\.\w+)" (?:if|else)""", content))
        begun |= set(re.findall(r"""say\(\s*f?"([\w.]+?[._])(?:\{|" ~)""", content))
    plain = {key for key in asked if "{" not in key}
    assert plain - TEXTS.keys() == set()
    unused = {
        key for key in TEXTS
        if key not in plain and key.partition(".")[0] not in LOOKED_UP and not key.startswith(tuple(begun))
        and not any(f'"{key}"' in path.read_text(encoding="utf-8") for path in SOURCES)
    }  # fmt: skip
    assert unused == set()


def test_no_template_writes_a_sentence_of_its_own() -> None:
    """A word between tags that is neither a value nor a text of the table would be half translated."""
    allowed = {"English", "中文", "MAE", "RMSE", "CSV", "p", "p50", "p95", "p99", "s", "NaN"}
    for name in ("eval", "rollout", "stages", "demo", "robot_run", "parts", "report"):
        content = (FOLDER.parent / "templates" / f"{name}.html.j2").read_text(encoding="utf-8")
        content = re.sub(r"\{%-? *block title *%\}.*?\{%-? *endblock", "", content)
        content = re.sub(r"\{[{%#].*?[}%#]\}", "", content, flags=re.DOTALL)
        words = set(re.findall(r"[A-Za-z\u4e00-\u9fff]\w*", re.sub(r"<[^>]*>", " ", content)))
        assert words <= allowed, name


def test_both_is_two_elements_of_which_the_page_shows_one() -> None:
    text = say("plot.scatter", name="<b>")
    assert text.__html__() == (
        '<span class="en" lang="en">Predicted over recorded: &lt;b&gt;</span>'
        '<span class="zh" lang="zh">预测与录制：&lt;b&gt;</span>'
    )
    assert text.svg.startswith('<tspan class="en" lang="en">')
    assert Both("50 %", "50 %").__html__() == "50\xa0%"
    assert counted(1, "episode") == Both("1 episode", "1 个回合")
    assert known("fact", "own_key") == "own key"
    assert joined(Both("A.", "甲。"), "", Both("B.", "乙。")) == Both("A. B.", "甲。乙。")
    assert listed(["a", Both("b", "乙")]) == Both("a, b", "a、乙")


def test_the_sentences_of_rates_are_worded_in_chinese_by_the_same_test() -> None:
    for counts, begin in (
        (PairedCounts(5, 15, 0, 10), "甲优于乙（相同的 30 个回合"),
        (PairedCounts(5, 0, 15, 10), "甲差于乙（"),
        (PairedCounts(5, 2, 1, 10), "甲与乙无法区分（"),
    ):
        compared = compare_paired("A", "B", counts)
        said = paired_text("甲", "乙", counts, compared, "zh")
        assert said.startswith(begin)
        assert said.endswith("（McNemar 精确检验）。")
        assert paired_text("A", "B", counts, compared) == compared.text
        # A p value that was adjusted after the test decides, whatever the counts say.
        adjusted = replace(compared, p_value=0.06, test="McNemar, exact; adjusted for 3 by Holm")
        said = paired_text("甲", "乙", counts, adjusted, "zh")
        assert said.startswith("甲与乙无法区分")
        assert said.endswith("p = 0.060（McNemar 精确检验，按 Holm 校正）。")
    assert name_of_test("McNemar") == "McNemar, exact"
    assert rate_text(3, 4, "zh").startswith("4 个回合中成功 3 个（75 %，95 % 置信区间 19.4 至 99.4 %）")
    assert rate_text(0, 0, "zh") == "没有回合"
    assert planning_text(10, 50, "zh").startswith("相对于 20 % 的成功率，50 个回合能显示")
    assert "无法显示任何差异" in planning_text(1, 2, "zh")
    assert planning_text(0, 0, "zh") == "没有回合，什么也无法说明。"


@pytest.mark.parametrize("worse", [(), ("hold",), ("mean_action",), ("hold", "mean_action")])
@pytest.mark.parametrize("lacking", [None, "hold", "mean_action"])
def test_the_verdict_of_an_evaluation_is_the_documents_in_english(worse: tuple[str, ...], lacking: str | None) -> None:
    """The table's English wording is that of metrics.json, so that the Chinese one says the same."""
    scored = make_predictions(2, episodes=2, length=40, horizon=8)
    if "hold" in worse:
        scored.hold[:] = scored.target[:, 0]
        scored.target[:] = scored.target[:, :1]
    if "mean_action" in worse:
        scored.mean_action[:] = scored.target.mean(axis=(0, 1))
        scored.predicted[:] = 5.0
    if lacking == "hold":
        scored.hold[:] = float("nan")
    if lacking == "mean_action":
        scored.mean_action[:] = float("nan")
    document = make_metrics(scored)
    found = eval_verdict(document)
    assert found.en == f"The policy {document['verdict']['text']}."
    decided = {name: document[f"against_{name}"] for name in ("hold", "mean_action")}
    for decision, words in (("better", "误差小于"), ("worse", "误差大于"), ("not told apart", "无法区分")):
        assert (words in found.zh) == any(one is not None and one["decision"] == decision for one in decided.values())
    assert re.search(r"（rad，2 个关节平均）", found.zh)
