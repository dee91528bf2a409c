"""CONTRIBUTING.md: its recipes run, and what they name is where they say."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.verbs import VERBS
from smolpilot.contracts import Embodiment, PolicyOptions
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.datasets.check.context import CheckContext
from smolpilot.datasets.check.run import run_check
from smolpilot.datasets.check.scan.video_scans import VideoScans
from smolpilot.datasets.tolerant.open import read_found_dataset
from smolpilot.datasets.tolerant.rules import RULES
from smolpilot.inference import backends, prepare
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import new_policy

from ..contracts.helpers_devices import check_camera
from ..policies.helpers_conformance import check_policy

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
type Load = Callable[[str, str], Any]

RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def block(recipe: str, language: str = "python") -> str:
    return RECIPES[recipe].split(f"```{language}\n")[1].partition("```")[0]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Imports the code of a recipe as a module of that name, from a file: help texts are read from the source."""

    def load(recipe: str, name: str) -> Any:
        file = tmp_path / f"{name}.py"
        file.write_text(block(recipe), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, made)
        spec.loader.exec_module(made)
        return made

    return load


def test_there_is_a_recipe_for_each_kind_of_part() -> None:
    wanted = ("policy", "environment", "dataset check", "robot profile", "driver", "inference backend", "verb", "unit")
    assert [name.partition(" ")[2] for name in RECIPES] == list(wanted)
    # Those without a block are steps, or lead to an example that other tests run.
    assert {name for name, text in RECIPES.items() if "```" not in text} == {"An environment", "A unit"}


def test_every_path_that_it_names_exists() -> None:
    text = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\s]+)`", text) + re.findall(r"`(scripts/[\w./]+) [^`]*`", text)
    paths = [span for span in spans if re.match(r"(src|tests|docs|scripts|benchmarks|requirements|\.github)/", span)]
    paths += [span for span in spans if re.fullmatch(r"\w+\.(toml|md)", span)]
    assert len(paths) > 25
    made_by_a_script = {"site/"}
    assert [path for path in paths if not (ROOT / path).exists() and path not in made_by_a_script] == []


def test_every_name_stands_in_the_file_that_it_is_said_to_stand_in() -> None:
    """In a sentence, the names before a file are in it: `Unit` and `_FACTORS` in `units.py`."""
    checked = 0
    for sentence in re.split(r"(?<=[.:;])\s+|\n\n", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)):
        names: list[str] = []
        for span in re.findall(r"`([^`\s]+)`", sentence):
            if span.endswith(".py"):
                content = (ROOT / span).read_text(encoding="utf-8")
                assert [name for name in names if not re.search(rf"\b{name}\b", content)] == [], span
                checked, names = checked + len(names), []
            elif span.isidentifier():
                names.append(span)
    assert checked >= 15


def test_the_policy(tiny_dataset: Path, module: Load) -> None:
    dataset = open_dataset(tiny_dataset)
    names = tuple(dataset.meta.state_names)
    policy = module("A policy", "still").Still(
        "", PolicyOptions(), Embodiment("a test", state_names=names, action_names=names)
    )
    observations = [{key: value for key, value in dataset[row].items() if key != "action"} for row in (3, 9, 25)]
    check_policy(policy, observations)


def test_the_dataset_check(module: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolpilot.datasets.tolerant.rules.RULES", rules := dict(RULES))
    monkeypatch.setattr("smolpilot.datasets.tolerant.findings.RULES", rules)
    check = module("A dataset check", "check_zero").zero_actions
    with DatasetWriter(tmp_path / "data", fps=10, state_names=["x"], action_names=["x"], cameras={}) as writer:
        for episode in range(2):
            for frame in range(12):
                value = np.array([frame], np.float32)
                writer.add_frame({"observation.state": value, "action": value * episode, "task": "move"})
            writer.end_episode()
    context = CheckContext(read_found_dataset(tmp_path / "data"), VideoScans(), None, fps=10.0)
    (found,) = run_check(check, context)
    assert (found.code, found.severity, found.episode) == ("action-zero", "warning", 0)
    assert found.fix == f"smolpilot dataset exclude {tmp_path / 'data'} DST --episodes 0"


def test_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "desk_arm_two.yaml"
    file.write_text(block("A robot profile", "yaml"), encoding="utf-8")
    profile = RobotProfile.load(str(file))
    assert profile.name == file.stem
    assert [joint.name for joint in profile.action_joints] == ["base", "elbow"]


def test_the_driver(module: Load) -> None:
    import time

    check_camera(module("A driver", "gray_camera").GrayCamera(), time.monotonic)


def test_the_inference_backend(
    module: Load, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module("An inference backend", "smolpilot.inference.backends.again_backend")
    monkeypatch.setitem(backends.BACKENDS, "again", "again_backend")
    dataset = open_dataset(tiny_dataset)
    policy = new_policy("tiny", meta=dataset.meta, device="cpu")
    frame = dict(dataset[0])
    plain = policy.predict([frame], seeds=[0])
    engine = prepare(policy, engine="exact", backend="again", frame=frame)
    np.testing.assert_array_equal(engine.predict([frame], seeds=[0]), plain)
    assert (engine.report.backend, engine.report.fallback) == ("again", "")
    engine.stop()


@pytest.fixture
def verb(module: Load, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    module("A verb", "smolpilot.cli.length")
    monkeypatch.setitem(VERBS, "length", "length")
    return lambda *words: main(["length", *words])


def test_the_verb(verb: Callable[..., int], tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("--dataset", str(tiny_dataset)) == 0
    assert capsys.readouterr().out == f"{len(open_dataset(tiny_dataset))}\n"
    with pytest.raises(SystemExit, match="0"):
        verb("--help")
    assert "Count the frames of a dataset." in capsys.readouterr().out
    assert verb("--dataset", "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err
