"""What the version before the contracts wrote is still read, and gives the same numbers (data/before_contracts)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset
from smolpilot.evaluation import write_demo_report
from smolpilot.smolvla import load_policy

BEFORE = Path(__file__).parent / "data" / "before_contracts"
MADE_IN = "/tmp/smolpilot-before"

_HEADER = 4096  # bytes of a block before its numbers
_UNTIMED = {"samples_per_s", "data_wait", "memory_gb"}


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a folder of before, to be changed."""
    return lambda name: Path(shutil.copytree(BEFORE / name, tmp_path / name))


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return json.loads((BEFORE / "expected.json").read_text(encoding="utf-8"))


def smolpilot(*words: object, code: int = 0) -> None:
    assert main([str(word) for word in words]) == code


def lines_after(run: Path, step: int) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k not in _UNTIMED} for line in lines if line["step"] > step]


def assert_near(found: Any, expected: Any) -> None:
    """All that is expected, numbers within 1e-5 of each other; a later version may tell more."""
    if isinstance(expected, dict):
        assert found.keys() >= expected.keys()
        for key, value in expected.items():
            assert_near(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
    else:
        assert found == expected


def blocks(cache: Path) -> dict[str, tuple[int, int]]:
    """The blocks of a frame cache, with what changes when one is written anew."""
    found = {path.name: path.stat() for path in cache.rglob("*.block")}
    return {name: (state.st_ino, state.st_mtime_ns) for name, state in found.items()}


def test_a_bundle_of_before_predicts_what_it_predicted() -> None:
    policy = load_policy(BEFORE / "run" / "checkpoints" / "best", device="cpu")
    with np.load(BEFORE / "expected.npz") as stored:
        frame = {key: stored[key] for key in stored.files if key.startswith("observation.")}
        chunk = policy.predict_chunk({**frame, "task": str(stored["task"])}, noise=stored["noise"][0])
        np.testing.assert_allclose(chunk.numpy(), stored["chunk"], rtol=0, atol=1e-5)
    assert policy.instructions == ["touch the red block", "touch the blue block"]
    assert policy.profile is not None
    assert policy.profile.name == "tabletop"
    assert policy.n_action_steps == 2


def test_the_run_folder_itself_stands_for_its_best_checkpoint() -> None:
    run, best = load_policy(BEFORE / "run", device="cpu"), load_policy(BEFORE / "run/checkpoints/best", device="cpu")
    assert run.lineage == best.lineage
    assert run.lineage["step"] == 2
    assert load_policy(BEFORE / "run" / "checkpoints" / "last", device="cpu").lineage["step"] == 4


def test_a_run_of_before_resumes_with_its_cache_and_gives_the_same_losses(
    copied: Callable[[str], Path], expected: dict[str, Any]
) -> None:
    run, cache, dataset = copied("run"), copied("cache"), copied("dataset")
    before = blocks(cache)
    assert len(before) == 8
    smolpilot("train", "--resume", "--out", run, "--dataset", dataset, "--cache-dir", cache)
    assert_near(lines_after(run, 4), expected["run"]["lines"])
    assert blocks(cache) == before, "no block was computed anew"
    assert load_policy(run / "checkpoints" / "last", device="cpu").lineage["step"] == 6


def test_a_new_run_finds_the_image_tokens_of_before(copied: Callable[[str], Path], tmp_path: Path) -> None:
    cache, before = copied("cache"), blocks(BEFORE / "cache")
    copies = blocks(cache)
    assert copies.keys() == before.keys()
    smolpilot(
        "train", "--dataset", copied("dataset"), "--policy", BEFORE / "run", "--out", tmp_path / "new", "--steps", "1",
        "--batch-size", "4", "--held-out", "0.25", "--cache", "vision", "--cache-dir", cache, "--device", "cpu",
        "--workers", "0",
    )  # fmt: skip
    assert blocks(cache) == copies, "no block was computed anew"


def test_a_block_that_is_missing_is_computed_as_it_was(copied: Callable[[str], Path]) -> None:
    """So the tests above would see it; and its numbers mean what they meant."""
    run, cache, dataset = copied("run"), copied("cache"), copied("dataset")
    before = blocks(cache)
    gone = max(cache.rglob("*.block"), key=lambda path: path.stat().st_size)
    stored = gone.read_bytes()
    gone.unlink()
    smolpilot("train", "--resume", "--out", run, "--dataset", dataset, "--cache-dir", cache)
    changed = {name for name, state in blocks(cache).items() if before[name] != state}
    assert changed == {gone.name}
    found, wanted = (np.frombuffer(content[_HEADER:], np.float32) for content in (gone.read_bytes(), stored))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_sequence_of_stages_resumes_in_the_stage_where_it_was_stopped(
    copied: Callable[[str], Path], expected: dict[str, Any], tmp_path: Path
) -> None:
    sequence = copied("sequence")
    copied("dataset")
    for path in [*sequence.rglob("*.yaml"), *sequence.rglob("stage.json"), sequence / "statistics.json"]:
        path.write_text(path.read_text(encoding="utf-8").replace(MADE_IN, str(tmp_path)), encoding="utf-8")
    smolpilot("train", "--resume", "--out", sequence)
    blue = sequence / "stages" / "2_blue"
    assert_near(lines_after(blue, 1), expected["sequence"]["lines"])
    document = json.loads((blue / "stage.json").read_text(encoding="utf-8"))
    assert_near(document["tasks"], expected["sequence"]["scores"])
    report = json.loads((sequence / "report.json").read_text(encoding="utf-8"))
    assert report["tasks"] == ["red", "blue"]
    assert load_policy(sequence, device="cpu").lineage["step"] == 2


def test_status_reads_a_run_and_a_sequence_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    smolpilot("status", BEFORE / "run", "--json")
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["step"], status["steps"], status["best"]) == ("stopped", 4, 6, "step_000002")
    assert [line["step"] for line in status["validations"]] == [2]
    smolpilot("status", BEFORE / "sequence", "--json")
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["stage"]) == ("stopped", "stage 2 of 2: blue")


def test_the_verb_bundle_shows_a_bundle_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    smolpilot("bundle", BEFORE / "run" / "checkpoints" / "best", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert "touch the red block" in json.dumps(shown)
    assert "tabletop" in json.dumps(shown)


def test_eval_gives_the_errors_that_it_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smolpilot(
        "eval", BEFORE / "run" / "checkpoints" / "best", "--dataset", BEFORE / "dataset", "--out", tmp_path / "eval",
        "--episodes", "all", "--device", "cpu", "--json",
    )  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    stored = json.loads((BEFORE / "eval" / "metrics.json").read_text(encoding="utf-8"))
    for key in ("format", "episodes", "frames", "horizon", "unit"):
        assert found[key] == stored[key]
    assert len(stored["joints"]) == 3
    for joint, other in zip(found["joints"], stored["joints"], strict=True):
        assert joint["name"] == other["name"]
        for name in ("mae", "rmse", "max", "hold_mae", "mean_action_mae"):
            assert joint[name] == pytest.approx(other[name], abs=1e-5)


def test_the_demos_report_reads_results_of_before(copied: Callable[[str], Path], tmp_path: Path) -> None:
    folder = copied("eval")
    page = write_demo_report(
        tmp_path / "report.html",
        eval_dir=folder,
        rollouts={"right instruction": BEFORE / "rollout"},
        train_metrics_path=BEFORE / "run" / "metrics.jsonl",
    ).read_text(encoding="utf-8")
    assert "Right instruction" in page
    assert "in 0\xa0% of 4 episodes" in page
    assert "Loss" in page


def test_the_dataset_of_before_is_whole() -> None:
    dataset = open_dataset(BEFORE / "dataset")
    assert (len(dataset), len(dataset.episodes)) == (24, 4)
    with np.load(BEFORE / "expected.npz") as stored:
        frame = dataset[3]
        for key in ("observation.images.top", "observation.images.side", "observation.state"):
            np.testing.assert_array_equal(np.asarray(frame[key]), stored[key])
