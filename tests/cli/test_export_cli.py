"""`smolpilot export` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.contracts import PolicyOptions
from smolpilot.datasets import open_dataset
from smolpilot.datasets.statistics.operating_limits import demonstrated_by
from smolpilot.policies.onnx import open_onnx
from smolpilot.robots.demonstrated import FILE
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla import new_policy, save_bundle


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu"), path)
    return path


def test_json_is_all_of_standard_output(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(bundle), "--to", "onnx", "--out", str(out), "--dataset", str(tiny_dataset)]
    assert main([*arguments, "--frames", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["frames"] == 2
    assert document["frames_are"] == "recorded"
    assert set(document["bytes"]) >= {"vision.onnx", "policy.json", "example.py"}
    assert all((out / name).stat().st_size == size for name, size in document["bytes"].items())
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_limits_of_the_demonstrations_go_along_under_the_digests(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    policy = new_policy("tiny", meta=dataset.meta, device="cpu")
    assert policy.profile is not None
    policy.demonstrated = demonstrated_by(dataset, FrameLayout.of_dataset(dataset.meta), policy.profile)
    save_bundle(policy, tmp_path / "bundle")
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "bundle"), "--out", str(out), "--frames", "1"]) == 0
    assert FILE in json.loads((out / "policy.json").read_text(encoding="utf-8"))["digests"]
    assert open_onnx(out, PolicyOptions(), None).spec.demonstrated == policy.demonstrated


def test_for_a_person_with_made_up_frames(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(bundle), "--out", str(tmp_path / "out"), "--frames", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: measured on made-up frames" in said
    assert "pan" in said
    assert f"python {tmp_path / 'out' / 'example.py'}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int8"], "--dataset DIR"),
        (["--frames", "0"], "--frames is 0"),
        (["--dataset", "nowhere"], "nowhere"),
    ],
)
def test_misuse(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["export", str(bundle), "--out", str(tmp_path / "out"), *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert not list(tmp_path.iterdir())
