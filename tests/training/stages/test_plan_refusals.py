"""The stages file: each refusal that nothing else runs, in a stage behind one that is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.training.stages.plan import Plan, load_plan

GOOD = """
defaults: {preset: tiny, from_scratch: true}
evaluation: {frames: 100}
stages:
  - name: red
    dataset: data/red
    steps: 20
  - name: blue
    dataset: data/blue
    steps: 20
    instruction: touch the blue block
    replay: [0.5, 0.5]
    gate: {new: 0.1, retries: 2, retry_lr: 0.5, retry_steps: 1.5}
    simulation: {env: pusht, episodes: 7}
"""


def load(folder: Path, text: str) -> Plan:
    (folder / "stages.yaml").write_text(text, encoding="utf-8")
    return load_plan(folder / "stages.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("touch the blue block", '""', r"\(blue\): the instruction is empty"),
        ("touch the blue block", '"  \\t "', r"\(blue\): the instruction is empty"),
        ("episodes: 7", "episodes: 0", r"\(blue\): simulation\.episodes is 0"),
        ("{frames: 100}", "{frames: 0}", r"evaluation\.frames is 0"),
        ("    steps: 20\n    instruction", "    steps: 0\n    instruction", r"\(blue\): steps is 0"),
        ("    steps: 20\n    instruction", "    epochs: .inf\n    instruction", "epochs is inf"),
        ("    steps: 20\n    instruction", "    steps: 20\n    lr: 0.0\n    instruction", r"\(blue\): lr is 0\.0"),
        ("[0.5, 0.5]", "[1.0, 0.0]", r"\(blue\): replay is \[1\.0, 0\.0\]"),
        ("[0.5, 0.5]", "[0.5, 0.500002]", "the shares of replay add up to 1"),
        ("new: 0.1", "new: 0.0", r"\(blue\): gate\.new is 0\.0"),
        ("new: 0.1", "new: .nan", "gate.new is nan"),
        ("retry_lr: 0.5", "retry_lr: 0", r"\(blue\): gate\.retry_lr is 0"),
        ("retry_steps: 1.5", "retry_steps: .inf", "gate.retry_steps is inf"),
        ("retries: 2", "retries: -1", r"\(blue\): gate\.retries is -1"),
        ("name: blue", 'name: ".."', "cannot be a folder's"),
        ("name: blue", 'name: ""', "cannot be a folder's"),
        ("{preset: tiny, from_scratch: true}", "{preset: tiny, steps: 3}", "'steps' has no place here"),
    ],
)
def test_a_stage_behind_a_sound_one_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    load(tmp_path, GOOD)
    assert old in GOOD
    with pytest.raises(UsageError, match=message):
        load(tmp_path, GOOD.replace(old, new, 1))


def test_values_at_the_edge_of_what_is_allowed_are_taken(tmp_path: Path) -> None:
    for shares in ([0.0, 1.0], [0.5, 0.5000009]):
        stage = load(tmp_path, GOOD.replace("[0.5, 0.5]", str(shares))).stages[1]
        assert list(stage.replay) == shares
    scoring = load(tmp_path, GOOD.replace("{frames: 100}", "{frames: 1, resamples: 1}")).evaluation
    assert (scoring.frames, scoring.resamples) == (1, 1)
    stage = load(tmp_path, GOOD.replace("retries: 2", "retries: 0").replace("episodes: 7", "episodes: 1")).stages[1]
    assert stage.gate is not None
    assert stage.simulation
    assert (stage.gate.retries, stage.simulation.episodes) == (0, 1)
    stage = load(tmp_path, GOOD.replace("retry_lr: 0.5, retry_steps: 1.5", "old: 0.2")).stages[1]
    assert stage.gate is not None
    assert (stage.gate.new, stage.gate.old, stage.gate.retries) == (0.1, 0.2, 2)
