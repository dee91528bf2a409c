"""`true` and `false` in YAML are no numbers: pydantic would take them for 1 and 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolpilot.cli.main import main


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch_size: true", "'batch_size' is true"),
        ("held_out: false", "'held_out' is false"),
        ("augment: {crop: true}", "'augment.crop' is true"),
    ],
)
def test_in_a_training_config(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"dataset: nowhere\npreset: tiny\nfrom_scratch: true\nsteps: 1\n{line}\n")
    assert main(["train", "--config", str(config), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "a number" in error


@pytest.mark.parametrize(("old", "new"), [("steps: 20", "steps: true"), ("old: 0.2", "old: true"), ("0.25", "false"),
                                          ("batch_size: 4", "batch_size: true")])  # fmt: skip
def test_in_a_plan_of_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    text = (
        "defaults: {preset: tiny, from_scratch: true, n_action_steps: 4, batch_size: 4}\nstages:\n"
        "  - {name: red, dataset: nowhere, steps: 20}\n"
        "  - {name: blue, dataset: nowhere, steps: 20, replay: [0.25, 0.75], gate: {old: 0.2}}\n"
    )
    assert old in text
    plan = tmp_path / "plan.yaml"
    plan.write_text(text.replace(old, new, 1))
    assert main(["train", "--stages", str(plan), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"is {new.split(': ')[-1]}." in error
    assert "a number" in error
