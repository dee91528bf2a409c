"""The help of every verb: groups in the order of use, whole sentences, one default, examples that the parser takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.arguments import fields_of
from smolpilot.cli.parsing.help import GROUPS, examples_of, field_docs, help_text
from smolpilot.cli.parsing.options import parse
from smolpilot.cli.parsing.verbs import VERBS, find, load
from smolpilot.training import TrainOptions


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", VERBS)
def test_every_option_is_in_the_whole_help_once_in_a_group_that_exists(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, *name.split(), "--help-all")
    for field in fields_of(load(name).options).values():
        if not field.positional:
            assert len(re.findall(rf"^  {field.option}\b(?!-)", out, re.MULTILINE)) == 1, field.option
    headings = re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE)
    assert set(headings) <= {"arguments", *GROUPS, "options", "examples"}, "an option without a group"
    order = [heading for heading in headings if heading in GROUPS]
    assert order == [group for group in GROUPS if group in order]


@pytest.mark.parametrize("name", VERBS)
def test_a_default_is_given_once_and_no_flag_is_missing_its_doc(name: str) -> None:
    options = load(name).options
    docs = field_docs(options)
    for field in fields_of(options).values():
        doc = docs[field.attribute]
        assert doc.endswith("."), f"{name} {field.name}"
        assert "Open:" not in doc
        assert "(default" not in doc.lower()
        assert doc.count("Default:") <= 1
    text = help_text(options, name)
    assert "None" not in text
    for part in re.split(r"\n  (?=--)", text):
        assert part.count("Default:") <= 1, part


@pytest.mark.parametrize("name", VERBS)
def test_there_are_two_examples_and_the_parser_takes_them(name: str) -> None:
    verb, examples = load(name), examples_of(name)
    assert len(examples) == 2
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "smolpilot"
        found, rest = find(words)
        assert found == name
        if "--resume" not in rest:  # it reads the run
            parse(verb.options, rest, verb=name)


def test_sentences_are_wrapped_to_the_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (60, 80, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = help_text(TrainOptions, "train")
        lines = text.partition("\ndata:")[2].partition("\nexamples:")[0].splitlines()
        assert max(map(len, lines)) <= columns
        doc = field_docs(TrainOptions)["norm_stats"]
        assert "\n".join(textwrap.wrap(doc, columns - 26, break_on_hyphens=False)) in textwrap.dedent(
            "\n".join(line[26:] for line in lines)
        )


def test_train_shows_what_matters_and_names_the_way_to_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    short, whole = shown(capsys, "train", "--help"), shown(capsys, "train", "--help-all")
    for option in ("--dataset", "--policy", "--steps", "--out", "--resume", "--config", "--batch-size", "--lr"):
        assert re.search(rf"^  {option}\b", short, re.MULTILINE)
    assert "--lora-targets" not in short
    assert "--lora-targets" in whole
    number = len(re.findall(r"^  --", whole, re.MULTILINE)) - len(re.findall(r"^  --", short, re.MULTILINE))
    assert f"{number} more options: smolpilot train --help-all" in short
    assert short.index("\ndata:") < short.index("\nmodel:") < short.index("\noptimization:") < short.index("\noutput:")
    assert "--train-expert-only, --no-train-expert-only" in short


def test_help_of_a_config_file_shows_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("steps: 7\npreflight: false\n", encoding="utf-8")
    out = shown(capsys, "train", "--config", str(tmp_path / "run.yaml"), "--help-all")
    assert "In the config file: 7." in out
    assert "In the config file: off." in out


def test_help_comes_before_all_that_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: smolpilot eval POLICY" in shown(capsys, "eval", "--no-such-option", "--help")


@pytest.mark.parametrize("name", ["train", "dataset info", "robot show"])
def test_help_loads_no_torch(name: str) -> None:
    code = (
        "import sys\nfrom smolpilot.cli.main import main\n"
        f"try:\n    main({[*name.split(), '--help']})\nexcept SystemExit: pass\n"
        "print('loaded:', *{'torch', 'lerobot', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--train-expert-only"], True), (["--no-train-expert-only"], False), (["--train-expert-only", "true"], True),
        (["--train-expert-only=false"], False), (["--no-train-expert-only", "--freeze-vision"], False),
        (["--train-expert-only", "none"], None), ([], None),
    ],
)  # fmt: skip
def test_a_flag_without_default_is_true_false_or_unset(words: list[str], value: bool | None) -> None:
    assert parse(TrainOptions, words, verb="train").train_expert_only is value


def test_a_flag_that_is_off_by_default_has_no_negative_form_but_understands_it() -> None:
    field = fields_of(load("dataset info").options)["json"]
    assert not field.has_no
    for words, value in ((["--json"], True), (["--json=false"], False), (["--no-json"], False), ([], False)):
        assert parse(load("dataset info").options, ["d", *words], verb="dataset info").json is value


def test_json_is_the_same_flag_everywhere() -> None:
    kinds = {name: fields_of(load(name).options).get("json") for name in VERBS}
    assert {field.has_no for field in kinds.values() if field is not None} == {False}
    assert sum(field is not None for field in kinds.values()) > 20
