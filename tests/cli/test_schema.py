"""`smolpilot schema`: what people write is valid by it, and what the readers refuse it refuses, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from smolpilot.cli.main import main
from smolpilot.cli.parsing.options import from_mapping
from smolpilot.cli.parsing.schemas import TITLES, schema_of
from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import check_numbers
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.training import TrainOptions
from smolpilot.training.run.run_folder import config_text
from smolpilot.training.stages.plan import load_plan

ROOT = Path(__file__).resolve().parents[2]
STAGES = """
defaults: {policy: lerobot/smolvla_base, norm_stats: merged, units: {all: deg}}
stages:
  - {name: red, dataset: data/red, epochs: 1.5, gate: {new: 0.1, retries: 1}}
  - name: blue
    dataset: data/blue
    steps: 20
    replay: [0.25, 0.75]
    simulation: {env: tabletop, settings: {colors: red}, episodes: 7}
    options: {augment: {crop: 0.5}, n_action_steps: 4, batch_size: auto}
evaluation: {frames: 500, against: [hold-state]}
"""
TRAIN = {"dataset": "data/pick", "preset": "tiny", "from_scratch": True, "steps": 3, "batch_size": "auto", "lr": 1e-3,
         "augment": {"crop": 0.5}, "mixture": [{"dataset": "a", "weight": 1.0}], "train_expert_only": None}  # fmt: skip


KEYS = {"stages": "stages", "profile": "joints", "setup": "driver"}  # kind -> what only it has


def problems(name: str, values: Any) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema_of(name))
    return [error.message for error in validator.iter_errors(values)]


@pytest.mark.parametrize("name", TITLES)
def test_it_is_a_schema_and_the_verb_prints_and_writes_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", name]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    file = tmp_path / "schema.json"
    assert main(["schema", name, "--out", str(file)]) == 0
    assert json.loads(file.read_text(encoding="utf-8")) == printed
    assert main(["schema", name, "--out", str(file)]) == 2


def test_every_shipped_profile_is_valid() -> None:
    folder = ROOT / "src" / "smolpilot" / "robots" / "profiles"
    files = sorted(folder.glob("*.yaml"))
    assert [file.stem for file in files] == list_profiles()
    for file in files:
        assert problems("profile", yaml.safe_load(file.read_text(encoding="utf-8"))) == [], file.name
    assert problems("profile", yaml.safe_load(RobotProfile.load("so101").to_yaml())) == []


def test_what_runs_keep_and_documents_show_is_valid(tmp_path: Path) -> None:
    assert problems("train", TRAIN) == []
    assert problems("train", yaml.safe_load(config_text(TrainOptions(dataset=Path("d"), out=Path("o"))))) == []
    assert problems("stages", yaml.safe_load(STAGES)) == []
    (tmp_path / "stages.yaml").write_text(STAGES, encoding="utf-8")
    load_plan(tmp_path / "stages.yaml")
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in page.read_text(encoding="utf-8").split("```yaml\n")[1:]:
            values = yaml.safe_load(block.partition("```")[0])
            if "id" in values and "success" in values:
                continue  # an environment: tests/environments/test_described.py reads its keys
            kind = next((k for k, key in KEYS.items() if key in values), "train")
            assert problems(kind, values) == [], page.name


def test_every_key_of_the_readers_is_in_it_with_its_doc() -> None:
    found = schema_of("train")["properties"]
    assert found.keys() == TrainOptions.__dataclass_fields__.keys()
    assert all(value["description"].endswith(".") for value in found.values())


@pytest.mark.parametrize("change", [{"lrr": 1}, {"steps": "many"}, {"steps": 0}, {"lr": 0}, {"augment": [1]},
                                    {"batch_size": "all"}, {"mixture": [{"dataset": "a", "wait": 1}]}])  # fmt: skip
def test_train_what_the_reader_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"\w"):
        check_numbers(from_mapping(TrainOptions, {**TRAIN, **change}, where="it", verb="train"))
    assert problems("train", {**TRAIN, **change}) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [("norm_stats: merged", "norm_stat: merged"), ("epochs: 1.5", "epoch: 1.5"), ("retries", "tries"),
     ("frames", "frame"),
     ("n_action_steps: 4", "n_actions: 4"), ("n_action_steps: 4", "seed: 4"), ("units: {all: deg}", "episodes: all"),
     ("evaluation:", "evaluate:"), ("episodes: 7", "epsiodes: 7")],
)  # fmt: skip
def test_stages_what_the_reader_refuses(old: str, new: str, tmp_path: Path) -> None:
    text = STAGES.replace(old, new, 1)
    assert text != STAGES
    (tmp_path / "stages.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"nknown|no place here"):
        load_plan(tmp_path / "stages.yaml")
    assert problems("stages", yaml.safe_load(text)) != []


@pytest.mark.parametrize("change", [{"rata": 1}, {"rate": "fast"}, {"rate": 0}, {"joints": []},
                                    {"joints": [{"name": "a", "unit": "turns", "position_limits": "unknown",
                                                 "velocity_limit": "unknown"}]},
                                    {"cameras": [{"name": "a", "width": 0, "height": 1}]}])  # fmt: skip
def test_profile_what_the_reader_refuses(change: dict[str, Any]) -> None:
    values = {**yaml.safe_load(RobotProfile.load("so101").to_yaml()), **change}
    with pytest.raises(UsageError, match=r"\w"):
        RobotProfile.from_yaml(yaml.safe_dump(values))
    assert problems("profile", values) != []
