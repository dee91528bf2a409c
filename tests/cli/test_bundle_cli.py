"""`smolpilot bundle`: shows a checkpoint, localizes a bundle, one line per mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.policy import new_policy, save_bundle


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("cli") / "bundle")


def test_shows_what_a_person_wants_to_know(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(bundle)]) == 0
    out = capsys.readouterr().out
    for words in ("toy_arm", "pan [unknown]", "front -> front", "touch the blue block", "10 of them", "fingerprint"):
        assert words in out


def test_json_is_one_document(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(bundle), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["camera_map"] == {"front": "front", "wrist": "wrist"}
    assert facts["execution_horizon"] == 10
    assert len(facts["statistics"]["action"]["mean"]) == 3
    assert facts["report"]["missing"] == []


def test_localize(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "localize", str(bundle)]) == 0
    assert str(bundle / "vlm") in capsys.readouterr().out
    assert json.loads((bundle / "config.json").read_text())["vlm_model_name"] == str(bundle.resolve() / "vlm")


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path / "nowhere")]) == 2
    assert main(["bundle", "localize", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "no checkpoint at" in err
    assert "not a bundle" in err
    assert "Traceback" not in err
