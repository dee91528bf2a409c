"""Options and YAML that nobody means: numbers beyond use, depth, aliases, sizes. One error each, exit code 2."""

from __future__ import annotations

import dataclasses
import os
import typing
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.verbs import VERBS, load
from smolpilot.common.option_types import Limit
from smolpilot.training.options.sources import Source
from smolpilot.training.stages.plan import Gate, Scoring, Simulation, Stage

ROBOTS, CONFIG = ("robot", "profile", "check"), ("train", "--config")
STAGES = ("train", "--out", "run", "--preset", "tiny", "--from-scratch", "--stages")
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
# Merged mappings grow in the same way, within the parser.
MERGED = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{i}: &a{i} {{k{i}: 1, <<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 10)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))
HOSTILE = {
    "brackets": ("name: " + "[" * 300 + "]" * 300 + "\n", "deeper than 50"),
    "braces": ("name: " + "{a: " * 300 + "1" + "}" * 300 + "\n", "deeper than 50"),
    "indents": ("".join(" " * i + f"k{i}:\n" for i in range(1_000)) + " " * 1_000 + "end: 1\n", "deeper than 50"),
    "dashes": ("name:\n" + "- " * 3_000 + "x\n", "deeper than 50"),
    "aliases": (ALIASES + "name: *a9\n", "aliases make"),
    "merged": (MERGED + "name: *a9\n", "aliases make"),
    "chain": (CHAIN, "deeper than 50"),
    "itself": ("name: &a [*a]\n", "refers to what it stands in"),
    "digits": ("name: 0x" + "f" * 5_000 + "\n", "over 1000 digits"),
    "sixties": ("name: " + "1:" * 5_000 + "1\n", "over 1000 digits"),
}


RESUME = ("train", "--resume", "--out")
# One reader for all of them: the kinds with the first, two kinds with the others.
READ = [(kind, ROBOTS) for kind in HOSTILE] + [
    (kind, verb) for kind in ("braces", "aliases") for verb in (CONFIG, STAGES, RESUME)
]


@pytest.mark.parametrize(("kind", "verb"), READ)
def test_yaml_that_nobody_writes(kind: str, verb: tuple[str, ...], tmp_path: Path, capsys: Any) -> None:
    text, message = HOSTILE[kind]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main([*verb, str(tmp_path if "--resume" in verb else path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert str(path) in shown
    assert len(shown) < 1_500
    assert list(tmp_path.iterdir()) == [path]


def test_twenty_thousand_brackets(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("name: " + "[" * 20_000 + "]" * 20_000 + "\n")
    assert main([*ROBOTS, str(path)]) == 2
    assert "deeper than 50" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [ROBOTS, CONFIG, STAGES])
def test_yaml_of_gigabytes_is_not_read(verb: tuple[str, ...], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "config.yaml"
    path.touch()
    os.truncate(path, 5 * 2**30)
    assert main([*verb, str(path)]) == 2
    assert "5.37 GB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 10**12, "--batch-size is 1000000000000.\n  Expected: at most 65,536"),
        ("batch_size", -(10**12), "--batch-size is -1000000000000.\n  Expected: at most 65,536"),
        ("chunk_size", 10**12, "--chunk-size is 1000000000000.\n  Expected: at most 4,096"),
        ("steps", 10**399, "--steps is 1000"),
        ("lr", "1e308", "--lr is 1e+308.\n  Expected: at most 1000"),
        ("lr", ".nan", "--lr is nan.\n  Expected: a finite number"),
        ("held_out", "-.inf", "--held-out is -inf.\n  Expected: a finite number"),
        ("augment", "{crop: 1e300}", "--augment crop is 1e+300.\n  Expected: at most 1e+09"),
        ("mixture", "[{dataset: a, weight: 1e300}]", "--mixture.weight is 1e+300.\n  Expected: at most 1e+09"),
    ],
)
def test_numbers_beyond_use_in_a_config(key: str, value: Any, message: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{key}: {value}\n")
    assert main(["train", "--config", str(path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown) < 600


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("steps: 1" + "0" * 399, "(one): steps is 1000"),
        ("epochs: 1.0e+308", "(one): epochs is 1e+308"),
        ("epochs: .nan", "(one): epochs is nan"),
        ("steps: 5, gate: {new: 1, retries: 10000000}", "(one): gate.retries is 10000000"),
        ("steps: 5, simulation: {episodes: 1000000000000}", "(one): simulation.episodes is 1000000000000"),
        ("steps: [[[[[[[[[[1]]]]]]]]]]", "'stages[1].steps' is [[[[...]]]]"),
    ],
)
def test_numbers_beyond_use_in_stages(line: str, message: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text(f"stages:\n  - {{name: one, dataset: data/one, {line}}}\n")
    assert main([*STAGES, str(path)]) == 2
    assert message in capsys.readouterr().err


ROBOT = {
    "name": "arm",
    "description": "an arm",
    "rate": "30",
    "joints": "[{name: pan, unit: rad, position_limits: unknown, velocity_limit: unknown}]",
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rate", "1.0e+300", "key 'rate' is 1e+300"),
        ("rate", "1" + "0" * 400, "key 'rate' is 1000"),
        ("rate", ".nan", "key 'rate' is nan"),
        ("name", "[a, [b, [c, [d, [e]]]]]", "key 'name' is ['a', ['b', ['c', [...]]]]"),
        ("name", "n" * 10_000, "key 'name' is 'nnn"),
        ("cameras", "[{name: top, width: 1000000000000, height: 480}]", "key 'cameras[0].width' is 1000000000000"),
    ],
)
def test_numbers_beyond_use_in_a_robot(key: str, value: str, message: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("".join(f"{name}: {text}\n" for name, text in {**ROBOT, key: value}.items()))
    assert main(["robot", "profile", "check", str(path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown) < 1_500


# Options that stand in YAML files only.
IN_FILES = [Source, Stage, Gate, Simulation, Scoring]


def _numbers_without_limit(options: type) -> list[str]:
    def unlimited(hint: Any) -> bool:
        if any(isinstance(extra, Limit) for extra in getattr(hint, "__metadata__", ())):
            return False
        inner = [hint.__origin__] if hasattr(hint, "__metadata__") else typing.get_args(hint)
        return hint in (int, float) or any(unlimited(part) for part in inner)

    hints = typing.get_type_hints(options, include_extras=True)
    return [f"{options.__name__}.{item.name}" for item in dataclasses.fields(options) if unlimited(hints[item.name])]


def test_every_number_that_a_person_gives_has_a_limit() -> None:
    options = [load(name).options for name in VERBS]
    assert len(options) > 25
    assert [name for kind in (*options, *IN_FILES) for name in _numbers_without_limit(kind)] == []


def test_a_verb_says_which_number_is_beyond_use(tmp_path: Path, capsys: Any) -> None:
    huge = str(10**30)
    for words, option in [
        (["dataset", "convert", "a", "b", "--data-file-mb", huge], "--data-file-mb"),
        (["dataset", "check", "a", "--jobs", huge], "--jobs"),
        (["record", "--out", str(tmp_path / "x"), "--episodes", huge], "--episodes"),
        (["watch", "a", "--every", "1e300"], "--every"),
        (["preflight", "--dataset", "a", "--chunk-size", huge], "--chunk-size"),
        (["bench", "a", "--repeats", huge], "--repeats"),
        (["export", "a", "--out", "b", "--frames", huge], "--frames"),
    ]:
        assert main(words) == 2, words
        assert f"{option} is " in capsys.readouterr().err
