"""The stages file: what it says is understood or refused with the line, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.training import TrainOptions
from smolpilot.training.stages.plan import Gate, Simulation, absolute, load_plan, plan_text
from smolpilot.training.stages.stage_options import merge_defaults

GOOD = """
defaults:
  preset: tiny
  from_scratch: true
  n_action_steps: 4
evaluation: {frames: 100, against: [hold-state]}
stages:
  - name: red
    dataset: data/red
    steps: 20
    lr: 1e-3
    options: {augment: {crop: 0.5}}
  - name: blue
    dataset: data/blue
    episodes: 0-9
    instruction: touch the blue block
    init: previous
    epochs: 1.5
    freeze: vision
    replay: [0.25, 0.75]
    gate: {new: 0.1, old: 0.2, retries: 2, otherwise: continue}
    simulation: {env: pusht, settings: {max_steps: 20}, instruction: push it, episodes: 7}
"""
SIMULATION = "{env: pusht, settings: {max_steps: 20}, instruction: push it, episodes: 7}"


def write(folder: Path, text: str) -> Path:
    path = folder / "stages.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_is_read_and_its_text_is_read_back(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, GOOD))
    red, blue = plan.stages
    assert (red.lr, red.shares, red.options) == (1e-3, (1.0,), {"augment": {"crop": 0.5}})
    assert (blue.epochs, blue.shares, blue.freeze) == (1.5, (0.25, 0.75), "vision")
    assert blue.gate == Gate(new=0.1, old=0.2, retries=2, otherwise="continue")
    assert blue.simulation == Simulation("pusht", {"max_steps": 20}, "push it", episodes=7)
    assert plan.evaluation.against == ("hold-state",)
    moved = absolute(plan)
    assert moved.stages[0].dataset == Path.cwd() / "data" / "red"
    assert load_plan(write(tmp_path, plan_text(moved))) == moved


def test_simulation_can_be_switched_off(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, GOOD.replace(SIMULATION, "false")))
    assert plan.stages[1].simulation is False
    assert load_plan(write(tmp_path, plan_text(plan))) == plan


@pytest.mark.parametrize(
    ("before", "settings"),
    [
        ("{target: blue, episodes: 7}", {"target": "blue"}),
        (
            "{env: tabletop, target: blue, colours: [red, blue], episodes: 7}",
            {"target": "blue", "colors": ["red", "blue"]},
        ),
        ("{colors: [red, green], episodes: 7}", {"colors": ["red", "green"]}),
    ],
)
def test_settings_as_files_of_before_had_them_are_read(tmp_path: Path, before: str, settings: dict[str, Any]) -> None:
    plan = load_plan(write(tmp_path, GOOD.replace(SIMULATION, before)))
    assert plan.stages[1].simulation == Simulation("tabletop", settings, episodes=7)
    assert load_plan(write(tmp_path, plan_text(plan))) == plan


def test_the_command_line_wins_over_the_files_defaults(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path, GOOD))
    merged = merge_defaults(plan, TrainOptions(n_action_steps=3, batch_size=16))
    assert (merged.preset, merged.from_scratch, merged.n_action_steps, merged.batch_size) == ("tiny", True, 3, 16)
    wrong = load_plan(write(tmp_path, GOOD.replace("n_action_steps: 4", "batch_size: many")))
    with pytest.raises(UsageError, match="defaults: 'batch_size' is 'many'"):
        merge_defaults(wrong, TrainOptions())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("replay:", "replai:", r"stages.yaml:20: unknown key 'stages\[2\].replai'.\n.*Did you mean 'replay'"),
        ("retries:", "retry:", r"unknown key 'stages\[2\].gate.retry'"),
        ("evaluation: {frames", "evaluation: {frame", "unknown key 'evaluation.frame'.\n.*Did you mean 'frames'"),
        ("instruction: push it", "instructoin: push it",
         r"stages.yaml:\d+: unknown key 'stages\[2\].simulation.instructoin'.\n.*Did you mean 'instruction'"),
        ("env: pusht", "env: pusht, target: red", r"unknown key 'stages\[2\].simulation.target'"),
        ("env: pusht, settings: {max_steps: 20}", "colors: [red], colours: [red]",
         r"unknown key 'stages\[2\].simulation.colors'"),
        ("env: pusht, settings: {max_steps: 20}", "env: [pusht], target: red",
         r"unknown key 'stages\[2\].simulation.target'"),
        ("[hold-state]", "[hold-state, hold-state]", r"evaluation.against is \['hold-state', 'hold-state'\]"),
        ("instruction: push it", "instruction: ' '", "simulation.instruction is empty"),
        ("defaults:", "default:", "unknown key 'default'.\n.*Did you mean 'defaults'"),
        ("n_action_steps: 4", "n_actoin_steps: 4", "unknown option 'n_actoin_steps'.\n.*Did you mean 'n_action_steps'"),
        ("options: {augment: {crop: 0.5}}", "options: {seed: 3}", "'seed' has no place here"),
        ("steps: 20", "steps: many", r"stages.yaml:10: 'stages\[1\].steps' is 'many'"),
        ("steps: 20", "epochs: 0", "epochs is 0.0"),
        ("    steps: 20\n", "", "either `steps` or `epochs`"),
        ("epochs: 1.5", "epochs: 1.5\n    steps: 3", "either `steps` or `epochs`"),
        ("freeze: vision", "freeze: eyes", r"'stages\[2\].freeze' is 'eyes'"),
        ("[0.25, 0.75]", "[0.25, 0.25, 0.5]", "replay has 3 shares.\nExpected: 2: one for each stage so far"),
        ("[0.25, 0.75]", "[0.25, 0.7]", "add up to 0.95"),
        ("[0.25, 0.75]", "[1.25, -0.25]", "its own above 0"),
        ("name: blue", "name: red", "two stages are called 'red'"),
        ("name: blue", "name: a/b", "cannot be a folder's"),
        ("    lr: 1e-3", "    init: previous", "no stage before it"),
        ("{new: 0.1, old: 0.2, retries: 2, otherwise: continue}", "{retries: 2}", "asks for nothing"),
        ("old: 0.2", "old: -1", "gate.old is -1.0"),
        ("    dataset: data/red\n", "    dataset: data/red\n    dataset: x\n", r"'stages\[1\].dataset' appears twice"),
        ("steps: 20", "steps: !many 20", "not valid YAML: could not determine a constructor for the tag '!many'"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=message):
        load_plan(write(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize(("text", "message"), [("[1, 2]", "holds no stages"), ("a: [", "not valid YAML"),
                                               ("stages: []", "holds no stages")])  # fmt: skip
def test_a_broken_plan_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plan(write(tmp_path, text))
    with pytest.raises(UsageError, match="does not exist"):
        load_plan(tmp_path / "nowhere.yaml")


def test_the_kuavo_recipe_is_understood() -> None:
    plan = load_plan(Path(__file__).parents[3] / "examples" / "kuavo_stages.yaml")
    assert [stage.lr for stage in plan.stages] == [1e-4, 5e-5, 3e-5, 2e-5]
    assert [stage.shares for stage in plan.stages] == [
        (1.0,), (0.2, 0.8), (0.1, 0.2, 0.7), (0.1, 0.1, 0.2, 0.6),
    ]  # fmt: skip
    assert plan.defaults["n_action_steps"] == 8
