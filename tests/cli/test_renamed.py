"""Names of version 0.1 (common/renamed.py), row by row: each still works, with one warning, and means the new one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.options import from_yaml, parse
from smolpilot.cli.parsing.verbs import find, load
from smolpilot.common.renamed import OPTIONS, UNTIL, VALUES, VERBS, renamed_keys, renamed_verb
from smolpilot.training import TrainOptions
from smolpilot.training.stages.plan import load_plan

NEEDED = {"preflight": ["--dataset", "d"], "eval": ["p", "--dataset", "d", "--out", "o"],
          "rollout": ["p", "--out", "o"], "bench": ["p"], "bundle": ["p"],
          "export": ["p", "--out", "o"], "train": []}  # fmt: skip
VALUE = {"norm_stats": "dataset", "norm_stats_file": "s.json", "policy_stats_from": "d", "n_action_steps": "4",
         "num_steps": "3", "engine": "fast"}  # fmt: skip
ROWS = [(verb, old, new) for verbs, old, new in OPTIONS for verb in verbs]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


@pytest.mark.parametrize(("verb", "old", "new"), ROWS)
@pytest.mark.parametrize("sign", [" ", "="])
def test_an_old_option_is_the_new_one(
    verb: str, old: str, new: str, sign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, value = load(verb).options, VALUE[new]
    found: Any
    wanted: Any
    found, wanted = (
        parse(options, [*NEEDED[verb], *f"{flag(name)}{sign}{value}".split(" ")], verb=verb) for name in (old, new)
    )
    assert found == wanted
    assert found != parse(options, NEEDED[verb], verb=verb)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"warning: {flag(old)} is now {flag(new)}; the old name works until smolpilot {UNTIL}\n"


@pytest.mark.parametrize(("verb", "old", "new"), ROWS)
def test_no_verb_knows_both(verb: str, old: str, new: str) -> None:
    names = {item.name for item in dataclasses.fields(load(verb).options)}
    assert new in names
    assert old not in names


@pytest.mark.parametrize(("old", "new"), [(old, new) for verbs, old, new in OPTIONS if "train" in verbs])
def test_an_old_key_of_a_yaml_file_is_the_new_one(
    old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    for name in (old, flag(old)[2:]):
        file.write_text(f"{name}: {VALUE[new]}\n", encoding="utf-8")
        read = from_yaml(TrainOptions, file, verb="train")
        assert f"is now `{new}`" in capsys.readouterr().err
        assert read == parse(TrainOptions, [flag(new), VALUE[new]], verb="train")


@pytest.mark.parametrize(("option", "old"), VALUES)
def test_an_old_name_in_a_value_is_the_new_one(
    option: str, old: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = VALUES[(option, old)]
    wanted = parse(TrainOptions, [flag(option), "crop=0.5", f"{new}=0.5"], verb="train")
    assert capsys.readouterr().err == ""
    assert parse(TrainOptions, [flag(option), "crop=0.5", f"{old}=0.5"], verb="train") == wanted
    assert capsys.readouterr().err.count("warning: ") == 1
    assert parse(TrainOptions, [f"{flag(option)}={old}=0.5", "crop=0.5"], verb="train") == wanted
    file = tmp_path / "run.yaml"
    file.write_text(f"{option}: {{crop: 0.5, {old}: 0.5}}\n", encoding="utf-8")
    capsys.readouterr()
    assert from_yaml(TrainOptions, file, verb="train") == wanted
    assert capsys.readouterr().err.count("warning: ") == 1


@pytest.mark.parametrize(("old", "new"), VERBS.items())
def test_an_old_verb_is_the_new_one(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, wanted = ([*text.replace("NAME", "so101").split(), "--json"] for text in (old, new))
    assert renamed_verb(words) == wanted
    now = f"`smolpilot {old}` is now `smolpilot {new}`"
    assert capsys.readouterr().err == f"warning: {now}; the old name works until smolpilot {UNTIL}\n"
    assert renamed_verb(wanted) == wanted
    assert capsys.readouterr().err == ""
    assert find(wanted)[1][-1] == "--json"


def test_an_old_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robots", "so101"]) == 0
    old = capsys.readouterr()
    assert main(["robot", "show", "so101"]) == 0
    assert old.out == capsys.readouterr().out
    assert old.err.count("warning: ") == 1


def test_an_old_plan_of_stages_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "stages.yaml"
    text = (
        "defaults: {policy: p, STATS: merged}\n"
        "stages:\n  - {name: a, dataset: d, steps: 1, options: {augment: {NAME: 1.0}}}\n"
    )
    plan.write_text(text.replace("STATS", "norm_stats").replace("NAME", "color"), encoding="utf-8")
    wanted = load_plan(plan)
    assert capsys.readouterr().err == ""
    plan.write_text(text.replace("STATS", "stats").replace("NAME", "colour"), encoding="utf-8")
    assert load_plan(plan) == wanted
    assert capsys.readouterr().err.count("warning: ") == 2


@pytest.mark.parametrize("values", [{"stats": "dataset", "norm_stats": "parent"}, {"steps": 3}, {1: 2}])
def test_what_was_not_renamed_stays(values: dict[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed_keys("train", values) == values
    assert capsys.readouterr().err == ""


def test_the_documents_list_every_name_that_changed() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = page.partition("## Names that changed")[2]
    for _, old, new in OPTIONS:
        assert f"| `{old}` | `{new}`" in table
    for option, old in VALUES:
        assert f"| `{option}: {old}` |" in table
    assert all(f"`{old}`" in table.replace("robots check FILE", "robots check") for old in VERBS)
