"""The training state of a checkpoint: damage is found, a new score keeps the tensors' digest; who may read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from smolpilot.common.errors import CheckpointError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import load_policy, new_policy
from smolpilot.training.run.checkpoints import Checkpoints, TrainingState, load_state


@pytest.fixture
def run(tiny_dataset: Path, tmp_path: Path) -> tuple[Checkpoints, Path]:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    path = checkpoints.save(policy, TrainingState(step=4, dataset="x"), {"adam/w": torch.arange(9.0)})
    # The same step once more: only its score is new.
    again = TrainingState(step=4, dataset="x", validated_at=4, best_step=4, best_score=0.5)
    assert checkpoints.save(policy, again, {}) == path
    return checkpoints, path


def test_a_checkpoint_is_a_sealed_bundle_with_a_sealed_state(run: tuple[Checkpoints, Path]) -> None:
    _, path = run
    assert "as they were written" in load_policy(path, device="cpu").report.digests
    state, tensors = load_state(path)
    assert (state.step, state.best_score) == (4, 0.5)
    assert torch.equal(tensors["adam/w"], torch.arange(9.0))
    digests = json.loads((path / "training_state" / "state.json").read_text())["digests"]
    assert sorted(digests) == ["state.json", "tensors.safetensors"]


@pytest.mark.parametrize("change", ["number", "state", "gone", "digests", "nested", "a list"])
def test_a_damaged_state_is_refused(run: tuple[Checkpoints, Path], change: str) -> None:
    _, path = run
    folder = path / "training_state"
    values = json.loads((folder / "state.json").read_text())
    if change == "number":
        content = bytearray((folder / "tensors.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "tensors.safetensors").write_bytes(content)
    elif change == "gone":
        (folder / "tensors.safetensors").unlink()
    elif change == "state":
        (folder / "state.json").write_text(json.dumps(values | {"step": 3}))
    elif change == "digests":
        (folder / "state.json").write_text(json.dumps(values | {"digests": {"tensors.safetensors": 5}}))
    else:
        (folder / "state.json").write_text("[" * 2000 if change == "nested" else "[1]")
    with pytest.raises(CheckpointError, match=r"The training state in .*training_state cannot be read"):
        load_state(path)


def test_a_state_of_an_earlier_version_is_read(run: tuple[Checkpoints, Path]) -> None:
    _, path = run
    file = path / "training_state" / "state.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in values.items() if key != "digests"}))
    assert load_state(path)[0].step == 4


def test_every_file_is_as_readable_as_any_new_one(run: tuple[Checkpoints, Path], tmp_path: Path) -> None:
    _, path = run
    (tmp_path / "any").touch()
    expected = (tmp_path / "any").stat().st_mode
    found = {str(file): file.stat().st_mode for file in path.rglob("*") if file.is_file()}
    assert len(found) > 10
    assert set(found.values()) == {expected}
