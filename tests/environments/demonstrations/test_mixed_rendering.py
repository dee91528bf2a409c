"""A policy is trained and scored on images that were drawn alike; a mix is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets.simulation_record import SimulationRecord, drawn_otherwise, otherwise_text
from smolpilot.smolvla import load_policy

pytest.importorskip("gym_aloha")
DRAWN = ["width=16", "height=16", "shadows=false", "msaa=0"]
TRAIN = ["--preset", "tiny", "--from-scratch", "--steps", "1", "--batch-size", "2", "--eval-frames", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of two episodes, and a bundle that has seen it for a step."""
    root = tmp_path_factory.mktemp("mixed")
    settings = ["--env", "aloha", "--env-settings", *DRAWN, "max_steps=350"]
    assert main(["record", *settings, "--episodes", "2", "--noise", "0", "--out", str(root / "data")]) == 0
    run = ["--dataset", str(root / "data"), "--robot", "aloha", "--out", str(root / "run"), "--held-out", "0.5"]
    assert main(["train", *TRAIN, *run]) == 0
    return root / "data", root / "run" / "checkpoints" / "step_000001"


def test_a_bundle_says_what_its_images_were_drawn_with(trained: tuple[Path, Path]) -> None:
    data, bundle = trained
    record = SimulationRecord.of(data)
    assert record is not None
    lineage = load_policy(bundle).lineage
    assert lineage["simulation"] == {"env": "aloha", "settings": dict(record.settings), **record.simulation}


def test_a_rollout_with_other_images_is_refused(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = trained[1]
    settings = ["--env", "aloha", "--env-settings", "width=16", "height=16", "msaa=0", "max_steps=2"]
    words = ["rollout", str(bundle), *settings, "--episodes", "1", "--video-episodes", "0", "--out"]
    assert main([*words, str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "learned from a recording with shadows false; this aloha has shadows true" in said
    assert "--env-settings shadows=false" in said
    assert not (tmp_path / "out").exists()
    assert main([*words, str(tmp_path / "out"), "--mixed-rendering", "--ungated", "--no-floors"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert any("shadows false" in text for text in results["warnings"])


def test_datasets_that_were_drawn_otherwise_are_not_mixed(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = trained
    other = tmp_path / "other"
    shutil.copytree(data, other)
    path = other / "meta" / SimulationRecord.FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["simulation"]["physics"]["mujoco"] = "3.3.0"
    path.write_text(json.dumps(document), encoding="utf-8")
    mixture = ["--mixture", str(data), str(other), "--robot", "aloha", "--out", str(tmp_path / "run")]
    assert main(["train", *TRAIN, *mixture]) == 2
    said = capsys.readouterr().err
    now = document["simulation"]["packages"]["mujoco"]
    assert f"{data} was recorded with mujoco {now}, {other} with mujoco 3.3.0" in said


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ({}, {"render": {"msaa": 0}}, {}),
        ({"render": {"msaa": 4}}, {"render": {"msaa": 4, "gl": "egl"}}, {}),
        ({"render": {"msaa": 4}}, {"render": {"msaa": 0}}, {"msaa": (4, 0)}),
        ({"physics": {"mujoco": "3.8.1"}}, {"physics": {"mujoco": "3.7.0"}}, {"mujoco": ("3.8.1", "3.7.0")}),
        ({"packages": {"numpy": "2.0"}}, {"packages": {"numpy": "2.2"}}, {}),
    ],
)
def test_what_differs(one: dict[str, Any], other: dict[str, Any], found: dict[str, Any]) -> None:
    assert drawn_otherwise(one, other) == found


def test_differences_in_words() -> None:
    assert otherwise_text({"shadows": (True, False), "gl": ("egl", "osmesa")}) == (
        "shadows true, gl egl",
        "shadows false, gl osmesa",
    )
