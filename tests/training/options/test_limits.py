"""Limits of training's comparisons from both sides, and what is refused before anything is trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import TrainingError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.compatibility.statistics_distance import check_drift, hardly_moves, listed_far, measure
from smolpilot.contracts.trained_on import differs
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.robots import Joint, RobotProfile
from smolpilot.selftest.preflight import preflight
from smolpilot.selftest.preflight_options import PreflightOptions
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.training import TrainOptions, train
from smolpilot.training.optimization.memory import largest_that_fits
from smolpilot.training.options.memory_presets import fill_memory
from smolpilot.training.options.train_options import AUGMENTATIONS, check, resolve

NAMES = ["pan", "lift", "roll"]


def numbers(mean: list[float], std: list[float]) -> Statistics:
    one = {"mean": np.array(mean), "std": np.array(std)}
    return {STATE: dict(one), ACTION: dict(one)}


PARENT = numbers([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
PROFILE = RobotProfile(
    name="arm",
    description="three joints",
    rate=10,
    joints=[Joint(name=name, unit="rad", position_limits=None, velocity_limit=None) for name in NAMES],
)


# -- how far a dataset may lie from the statistics of a policy ---------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ([0, 2.9, 0], [1, 1, 1], None),
        ([0, 3.1, 0], [1, 1, 1], "lift: mean 3.1 sigma away"),
        ([0, -3.1, 0], [1, 1, 1], "lift: mean 3.1 sigma away"),
        ([0, 0, 0], [1, 1, 2.9], None),
        ([0, 0, 0], [1, 1, 3.1], "roll: deviation 3.1 times the policy's"),
        ([0, 3.1, 0], [1, 1, 3.2], "roll: deviation 3.2 times the policy's"),
    ],
)
def test_a_dataset_three_deviations_away_stops_a_run(mean: list[float], std: list[float], words: str | None) -> None:
    own = numbers(list(map(float, mean)), list(map(float, std)))
    if words is None:
        check_drift(PARENT, own, PROFILE, [], stop=True)
        return
    with pytest.raises(TrainingError, match=f"differs too much from the parent's statistics: .*{words}"):
        check_drift(PARENT, own, PROFILE, [], stop=True)
    notes: list[str] = []
    check_drift(PARENT, own, PROFILE, notes, stop=False)
    assert notes[-1].startswith("WARNING: far from the parent's statistics")


def test_beyond_a_thousand_times_nothing_helps() -> None:
    check_drift(PARENT, numbers([0] * 3, [1, 999, 1]), PROFILE, [], stop=False)
    with pytest.raises(
        TrainingError, match=r"cannot be normalized with the parent's statistics: lift: deviation 1001\.0 times"
    ):
        check_drift(PARENT, numbers([0] * 3, [1, 1001, 1]), PROFILE, [], stop=False)
    # Only targets cannot be learned; a state that far is an input like any other.
    state = {**numbers([0] * 3, [1, 1, 1]), STATE: numbers([0] * 3, [1, 1001, 1])[STATE]}
    check_drift(PARENT, state, PROFILE, [], stop=False)


@pytest.mark.parametrize(
    ("stds", "said"), [([0.051, 0.051, 3], False), ([0.049, 0.049, 3], True), ([0.049, 1, 1], False)]
)
def test_most_joints_hardly_move_below_a_twentieth(stds: list[float], said: bool) -> None:
    found = measure(PARENT, numbers([0] * 3, stds), STATE, NAMES)
    assert bool(hardly_moves(found)) == said


def test_a_joint_that_rested_in_the_parent_is_called_that() -> None:
    parent = numbers([0, 0, 0], [1, 0, 0])
    far = [one for one in measure(parent, numbers([0, 0, 0.5], [1, 1, 0]), STATE, NAMES) if one.far]
    assert [(one.joint, one.rested) for one in far] == [("lift", True), ("roll", True)]
    never = "the joint never moved in the policy's training data (standard deviation 0) and"
    assert f"lift: {never} moves here" in listed_far(far)
    assert f"roll: {never} rests at another position here" in listed_far(far)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [(30, 29.97, False), (10, 10.5, False), (10, 10.6, True), (10.6, 10, True), (30, 15, True)],
)
def test_rates_within_five_per_cent_are_one(one: float, other: float, apart: bool) -> None:
    assert differs(one, other) == apart


# -- memory ------------------------------------------------------------------------------------------------------------


def test_what_a_preset_fills_is_pinned() -> None:
    """A larger batch than published numbers stand for would end runs on the machines that the presets are named for."""
    empty = {"batch_size": None, "micro_batch": None, "dtype": None}
    rows = {
        name: (found["batch_size"], found["micro_batch"], found["dtype"])
        for name in ("8", "12", "24", "80", "cpu", None)
        if (found := fill_memory(name, empty, tiny=False))
    }
    assert rows == {
        "8": (32, 8, "bfloat16"), "12": (32, 16, "bfloat16"), "24": (64, 32, "bfloat16"), "80": (64, 64, "bfloat16"),
        "cpu": (8, 8, "float32"), None: (8, None, "float32"),
    }  # fmt: skip
    assert fill_memory("24", {**empty, "batch_size": 8}, tiny=False)["micro_batch"] == 8


def test_a_need_of_exactly_the_limit_still_fits() -> None:
    assert largest_that_fits(lambda size: 10.0 * size, 8, 40) == (4, 40.0)
    assert largest_that_fits(lambda size: 10.0 * size, 8, 39) == (2, 20.0)
    assert largest_that_fits(lambda size: 10.0, 1, 10) == (1, 10.0)


# -- options -----------------------------------------------------------------------------------------------------------


def given(**changes: Any) -> TrainOptions:
    whole = TrainOptions(dataset=Path("d"), out=Path("o"), preset="tiny", from_scratch=True, steps=10)
    return dataclasses.replace(whole, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": True}, None),
        ({"steps": 0}, r"--steps is 0\."),
        ({"lr": 0.0}, r"--lr is 0\.0\."),
        ({"micro_batch": 0}, r"--micro-batch is 0\."),
        ({"keep": 0}, r"--keep is 0\."),
        ({"patience": 0}, r"--patience is 0\."),
        ({"warmup_steps": -1}, r"--warmup-steps is -1\."),
        ({"weight_decay": -0.1}, r"--weight-decay is -0\.1\."),
        ({"frames_gb": -1.0}, r"--frames-gb is -1\.0\."),
        ({"warmup_steps": 0, "workers": 0, "weight_decay": 0.0, "decay_lr": 0.0, "frames_gb": 0.0}, None),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 2**62}, "--seed is 4611686018427387904"),
        ({"seed": 2**62 - 1}, None),
        ({"ema": 1.0}, r"--ema is 1\.0"),
        ({"ema": 0.0}, r"--ema is 0\.0"),
        ({"ema": 0.999}, None),
        ({"patience": 2, "held_out": 0.0}, "--patience needs a held-out error"),
        ({"held_out": 1.0}, r"--held-out is 1\.0"),
        ({"held_out": -0.1}, r"--held-out is -0\.1"),
        ({"held_out": 0.99}, None),
        ({"warmup_steps": 10}, "--warmup-steps 10 does not end before --steps 10"),
        ({"warmup_steps": 9}, None),
        ({"lora_alpha": 8.0}, "--lora-alpha and --lora-targets belong to --lora"),
        ({"lora": 8}, "--lora trains little beside frozen weights"),
        ({"augment": {"crop": 1.1}}, r"--augment crop=1\.1"),
        ({"augment": {"crop": -0.1}}, r"--augment crop=-0\.1"),
        ({"augment": {"color": 1.0, "crp": 0.5}}, "--augment names 'crp'"),
        ({"augment": dict.fromkeys(AUGMENTATIONS, 1.0)}, None),
        ({"cache_views": 2}, "--cache-views 2, but no image is changed"),
        ({"cache_views": 2, "augment": {"crop": 0.0}}, "--cache-views 2, but no image is changed"),
        ({"policy": "p"}, "--policy and --preset/--from-scratch exclude each other"),
        ({"from_scratch": False}, "--preset tiny starts from random weights"),
        ({"train_expert_only": True}, "--train-expert-only would keep the random"),
        ({"freeze_vision": True}, "--freeze-vision would keep random weights"),
        ({"policy": "p", "preset": None, "from_scratch": False, "freeze_vision": False, "train_expert_only": True},
         "--no-freeze-vision contradicts --train-expert-only"),
        ({"preset": "smolvla"}, "--preset smolvla needs a tokenizer"),
        ({"norm_stats": "parent"}, "--norm-stats merged and --policy-stats-from are for fine-tuning"),
        ({"policy_stats_from": "p"}, "--norm-stats merged and --policy-stats-from are for fine-tuning"),
        ({"norm_stats_file": Path("s"), "policy_stats_from": "p"},
         "--norm-stats-file excludes --norm-stats and --policy-stats-from"),
    ],
)  # fmt: skip
def test_options_from_both_sides(changes: dict[str, Any], message: str | None) -> None:
    if message is None:
        check(given(**changes))
        return
    with pytest.raises(UsageError, match=message):
        check(given(**changes))


def test_a_resumed_run_needs_its_folder() -> None:
    with pytest.raises(UsageError, match=r"--resume needs the run folder\.\nFix: add --out"):
        train(TrainOptions(resume=True))


def test_the_defaults_of_a_run_that_names_nothing_but_its_steps() -> None:
    """The recipe of a run that names nothing but its steps."""
    found = resolve(TrainOptions(policy="p", steps=30_000))
    assert (found.lr, found.decay_lr, found.warmup_steps, found.log_every) == (1e-4, 2.5e-6, 1000, 50)
    assert (found.eval_every, found.save_every, found.workers) == (6000, 6000, 2)
    short = resolve(TrainOptions(preset="tiny", from_scratch=True, steps=29))
    assert (short.lr, short.warmup_steps, short.log_every, short.eval_every) == (2e-3, 0, 1, 5)
    assert resolve(TrainOptions(policy="p", steps=60_000)).warmup_steps == 1000


# -- nothing to say of what goes together ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recording in which every joint moves, its robot's profile, and a policy for both."""
    base = tmp_path_factory.mktemp("whole")
    with DatasetWriter(base / "data", fps=10, state_names=NAMES, action_names=NAMES, cameras={"front": (32, 32)}) as to:
        for episode in range(4):
            for frame in range(30):
                values = 1.4 * np.sin(frame / 4 + episode + np.arange(3)).astype(np.float32)
                picture = np.full((32, 32, 3), 100, np.uint8)
                picture[frame % 24 : frame % 24 + 8, 4:12] = 220
                to.add_frame({STATE: values, ACTION: 0.98 * values, "task": "swing it",
                              "observation.images.front": picture})  # fmt: skip
            to.end_episode()
    joints = [Joint(name=name, unit="rad", position_limits=(-1.5, 1.5), velocity_limit=20.0) for name in NAMES]
    cameras = [{"name": "front", "width": 32, "height": 32, "role": "front"}]
    profile = RobotProfile.model_validate(
        {**PROFILE.model_dump(), "joints": [joint.model_dump() for joint in joints], "cameras": cameras}
    )
    (base / "arm.yaml").write_text(profile.to_yaml())
    policy = new_policy("tiny", meta=open_dataset(base / "data").meta, profile=profile, device="cpu")
    save_bundle(policy, base / "bundle")
    return {name: base / name for name in ("data", "arm.yaml", "bundle")}


def test_preflight_has_no_word_of_warning(whole: dict[str, Path]) -> None:
    found = preflight(
        PreflightOptions(
            whole["data"], robot=str(whole["arm.yaml"]), policy=str(whole["bundle"]), instruction="swing it"
        )
    )
    assert {line.verdict for line in found} == {"ok"}, [line.text() for line in found if line.verdict != "ok"]


def test_train_and_status_have_no_word_of_warning(
    whole: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--dataset", str(whole["data"]), "--robot", str(whole["arm.yaml"]), "--preset", "tiny", "--from-scratch",
             "--steps", "2", "--batch-size", "2", "--chunk-size", "8", "--eval-frames", "2",
             "--device", "cpu"]  # fmt: skip
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    said = capfd.readouterr()
    assert "warning" not in (said.out + said.err).lower()
    assert main(["status", str(tmp_path / "run"), "--json"]) == 0
    assert '"warnings": []' in capfd.readouterr().out


# -- the policy of a mixture on the command line -----------------------------------------------------------------------


def test_a_mixture_on_the_command_line(
    whole: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = whole["data"]
    same = tmp_path / "again=twice"  # a path may hold the sign itself
    same.symlink_to(data)
    words = ["train", "--preset", "tiny", "--from-scratch", "--steps", "1", "--batch-size", "2", "--chunk-size", "4",
             "--device", "cpu", "--held-out", "0", "--no-preflight"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "run"), "--mixture", f"{data}=0.2", f"{same}=0.8"]) == 0
    lineage = load_policy(tmp_path / "run" / "checkpoints" / "last", device="cpu").lineage
    assert [(one["name"], one["share"]) for one in lineage["mixture"]] == [("data", 0.2), ("again=twice", 0.8)]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "bad"), "--mixture", f"{data}=0.5", f"{data}=much"]) == 2
    assert "is not of the form DATASET=WEIGHT" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "half"), "--mixture", str(data), f"{same}=0.8"]) == 2
    assert "gives a weight to some of its datasets only" in capsys.readouterr().err
    assert not (tmp_path / "half").exists()
