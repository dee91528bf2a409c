"""One recipe with several seeds: runs of its own, resumed where they were interrupted, and the table of spreads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from smolpilot.common.errors import CheckpointError, DatasetError, UsageError
from smolpilot.smolvla.checkpoint.locate import locate
from smolpilot.training import TrainingStoppedError, TrainOptions, train
from smolpilot.training.recipe.recipe_paths import options_of_seed, recipe_options, seed_run
from smolpilot.training.status import run_status

SEEDS = (0, 3, 4)


def options(dataset: Path, out: Path, **more: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "dataset": dataset, "preset": "tiny", "from_scratch": True, "steps": 4, "batch_size": 4, "chunk_size": 4,
        "eval_frames": 8, "device": "cpu", "held_out": 0.5, "seeds": SEEDS, "out": out, "cache": "none",
    }  # fmt: skip
    return TrainOptions(**{**values, **more})


@pytest.fixture(scope="module")
def recipe(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(options(tiny_dataset, tmp_path_factory.mktemp("recipe") / "out"))


def test_each_seed_is_an_ordinary_run_that_holds_out_the_same_episodes(recipe: Path) -> None:
    held = []
    for seed in SEEDS:
        config = yaml.safe_load((recipe / f"seed_{seed}" / "config.yaml").read_text())
        assert (config["seed"], config["split_seed"], "seeds" in config) == (seed, 0, False)
        facts = json.loads((recipe / f"seed_{seed}" / "checkpoints" / "best" / "smolpilot.json").read_text())
        held.append(facts["lineage"]["held_out_episodes"])
    assert held[0] == held[1] == held[2] != []
    weights = {(recipe / f"seed_{seed}" / "checkpoints" / "best" / "model.safetensors").read_bytes() for seed in SEEDS}
    assert len(weights) == 3


def test_the_table_tells_the_two_spreads_apart(recipe: Path) -> None:
    document = json.loads((recipe / "recipe.json").read_text())
    assert [run["seed"] for run in document["runs"]] == list(SEEDS)
    error = document["error"]
    means = [run["error"] for run in document["runs"]]
    assert error["mean"] == pytest.approx(sum(means) / 3)
    assert min(means) < error["mean"] < max(means)
    low, high = error["interval"]
    assert low < error["mean"] < high
    assert error["between_seeds"] > 0
    assert document["text"].startswith("Mean held-out error")
    assert "another training seed moves it by" in document["text"]


def test_where_one_policy_is_expected_a_seed_is_to_be_named(recipe: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        locate(recipe)
    assert caught.value.fix == f"it holds a run for each training seed; name one of them: {recipe}/seed_0"
    assert locate(recipe / "seed_3").folder.parent.name == "checkpoints"


def test_status_says_which_seed_it_is(recipe: Path) -> None:
    status = run_status(recipe)
    assert (status.state, status.recipe, status.run) == ("finished", "seed 4, 3 of 3", str(recipe))
    assert run_status(recipe / "seed_3").recipe is None


def test_what_was_interrupted_goes_on_with_the_same_command_or_with_resume(
    recipe: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    interrupted_after: Callable[..., AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    same, out = options(tiny_dataset, tmp_path / "out"), tmp_path / "out"
    with interrupted_after(2), pytest.raises(TrainingStoppedError, match=rf"(?s)Seed 0: .*train --resume --out {out}"):
        train(same)
    assert run_status(out).state == "stopped"
    assert run_status(out).recipe == "seed 0, 1 of 3"
    with interrupted_after(3), pytest.raises(TrainingStoppedError, match="Seed 0"):
        train(same)
    train(TrainOptions(out=out, resume=True))
    capsys.readouterr()
    for seed in SEEDS:
        both = [seed_run(one, seed) / "checkpoints" / "last" / "model.safetensors" for one in (recipe, out)]
        assert both[0].read_bytes() == both[1].read_bytes()
    train(same)  # all is there: the table is made again, nothing is trained
    assert capsys.readouterr().out.count("trained already") == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": (1,)}, "names one seed, 1"),
        ({"seeds": (1, 2, 1)}, "names a seed twice"),
        ({"seed": 5}, "--seed and --seeds exclude each other"),
        ({"stages": Path("stages.yaml")}, "--seeds and --stages exclude each other"),
        ({"steps": None}, "--steps is missing"),
    ],
)
def test_what_contradicts_the_seeds(tiny_dataset: Path, tmp_path: Path, more: dict[str, Any], message: str) -> None:
    given = options(tiny_dataset, tmp_path / "out", **more)
    with pytest.raises(UsageError, match=message):
        train(given)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_recipe_or_run_is_refused(recipe: Path, tiny_dataset: Path) -> None:
    with pytest.raises(UsageError, match=r"holds another recipe; these differ: --steps 4 -> 5"):
        train(options(tiny_dataset, recipe, steps=5))
    with pytest.raises(UsageError, match="already contains a run"):
        train(options(tiny_dataset, recipe / "seed_0"))
    with pytest.raises(UsageError, match="already contains a run"):
        train(options(tiny_dataset, recipe, seeds=()))


def test_nothing_is_left_of_a_recipe_that_cannot_begin(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(DatasetError, match="nowhere"):
        train(options(tmp_path / "nowhere", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_without_held_out_episodes_there_is_no_error(tiny_dataset: Path, tmp_path: Path) -> None:
    out = train(options(tiny_dataset, tmp_path / "out", held_out=0.0, seeds=(0, 1), steps=1))
    document = json.loads((out / "recipe.json").read_text())
    assert document["error"] is None
    assert document["text"].startswith("No episode is held out")


def test_the_split_may_be_named(tiny_dataset: Path, tmp_path: Path) -> None:
    given = options(tiny_dataset, tmp_path, split_seed=9)
    assert options_of_seed(given, tmp_path, 3).split == 9
    assert options_of_seed(dataclasses.replace(given, split_seed=None), tmp_path, 3).split == 0
    assert recipe_options(tmp_path) is None
