"""`preflight` and `train` give one verdict on a dataset and a policy, in the same words; `eval` compares them, too."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from smolpilot.cli.main import main
from smolpilot.common.errors import SmolpilotError
from smolpilot.compatibility.preflight_checks import preflight_policy
from smolpilot.compatibility.verdict import stop_on_errors
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.evaluation import evaluate
from smolpilot.robots import CameraProfile, Joint, RobotProfile
from smolpilot.selftest.preflight import preflight
from smolpilot.selftest.preflight import training_options as options_of
from smolpilot.selftest.preflight_options import PreflightOptions
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.training.options.train_options import check
from smolpilot.training.run.setup import prepare

JOINTS = ["pan", "lift", "grip"]
LONG = "pick up the small red cube beside the blue cup and put it gently into the white box"


def record(
    path: Path,
    *,
    scale: float = 1.0,
    fps: int = 10,
    names: list[str] = JOINTS,
    text: str = "swing it",
    change: Callable[[npt.NDArray[Any], int], object] = lambda values, episode: None,
) -> Path:
    """Four episodes in which all joints swing between -1 and 1, times `scale`; `change` edits each [12, D]."""
    with DatasetWriter(
        path, fps=fps, state_names=names, action_names=names, cameras={"front": (32, 32)}, robot_type="arm"
    ) as writer:
        for episode in range(4):
            phase = np.arange(12)[:, None] / 3 + np.arange(len(names))[None] + episode
            values = scale * np.sin(phase)
            change(values, episode)
            for frame, row in enumerate(values.astype(np.float32)):
                picture = np.full((32, 32, 3), 20 * frame, np.uint8)
                frames = {"observation.state": row, "action": row, "observation.images.front": picture, "task": text}
                writer.add_frame(frames)
            writer.end_episode()
    return path


def rescaled(path: Path, factor: float) -> Path:
    """The table in other units; its statistics stay."""
    (file,) = (path / "data").rglob("*.parquet")
    table = pq.read_table(file)
    for key in ("observation.state", "action"):
        values = [[value * factor for value in row] for row in table[key].to_pylist()]
        place = table.schema.get_field_index(key)
        table = table.set_column(place, table.schema.field(key), pa.array(values, table.schema.field(key).type))
    pq.write_table(table, file)
    return path


def stored(policy: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the statistics that a checkpoint keeps."""
    for file in policy.glob("policy_*normalizer*.safetensors"):
        values = load_file(file)
        change(values)
        save_file(values, file)
    if (facts := policy / "smolpilot.json").is_file():  # changed on purpose
        facts.write_text(json.dumps({k: v for k, v in json.loads(facts.read_text()).items() if k != "digests"}))
    return policy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("data") / "arm")


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy(
        "tiny", meta=open_dataset(data).meta, seed=1, device="cpu", overrides={"chunk_size": 4, "n_action_steps": 4}
    )
    return save_bundle(policy, tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A policy of the dataset's own robot."""
    return Path(shutil.copytree(made, tmp_path / "bundle"))


@pytest.fixture
def base(bundle: Path) -> Path:
    """The same as LeRobot leaves it: no robot, no instructions."""
    for name in ("smolpilot.json", "robot.yaml"):
        (bundle / name).unlink()
    return bundle


def own_tokenizer(policy: Path) -> Path:
    """A tokenizer with one token more than the shipped one: its room is settled, not made to fit."""
    path = policy / "vlm" / "tokenizer.json"
    values = json.loads(path.read_text())
    values["added_tokens"].append(
        {**values["added_tokens"][-1], "id": 1 + max(t["id"] for t in values["added_tokens"]), "content": "<extra>"}
    )
    path.write_text(json.dumps(values))
    return policy


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    joints = [Joint(name=name, unit="rad", position_limits=(-1.5, 1.5), velocity_limit=None) for name in JOINTS]
    arm = RobotProfile(name="arm", description="three joints", rate=10, joints=joints,
                       cameras=[CameraProfile(name="top", width=32, height=32)])  # fmt: skip
    path = tmp_path_factory.mktemp("robot") / "arm.yaml"
    path.write_text(arm.to_yaml())
    return path


def verdicts(dataset: Path, policy: Path, **more: Any) -> tuple[str, str, list[str]]:
    """What preflight and train say: `ok`, or the error; and preflight's warnings."""
    options = PreflightOptions(dataset, policy=str(policy), **more)
    lines = preflight(options)
    errors = [line.found for line in lines if line.verdict == "error"]
    said: list[str] = []
    try:
        stop_on_errors(prepare(check(options_of(options))).preflight(), overruled=False, say=said.append)
        trained = "ok"
    except SmolpilotError as error:
        trained = error.found
    return "; ".join(errors) or "ok", trained, [line.found for line in lines if line.verdict == "warning"]


def far(values: dict[str, Any]) -> None:
    for key in ("observation.state", "action"):
        values[f"{key}.mean"] += 12 * values[f"{key}.std"]
        values[f"{key}.std"] /= 30


def test_statistics_of_another_robots_base_stop_neither(data: Path, base: Path) -> None:
    stored(base, far)
    assert verdicts(data, base)[:2] == ("ok", "ok")
    (line,) = [
        line for line in preflight(PreflightOptions(data, policy=str(base))) if "takes the dataset's" in line.found
    ]
    assert line.verdict == "ok"
    told, trained, _ = verdicts(data, base, norm_stats="parent")
    assert told == "ok" == trained  # the user's own word; both say how far
    assert any(
        "far from the policy's statistics" in warning for warning in verdicts(data, base, norm_stats="parent")[2]
    )


def test_the_same_robot_far_away_stops_both(tmp_path: Path, bundle: Path) -> None:
    told, trained, _ = verdicts(record(tmp_path / "far", scale=5.0), bundle)
    assert told == trained
    assert "observation.state pan: deviation 5." in told
    assert verdicts(tmp_path / "far", bundle, norm_stats="dataset")[:2] == ("ok", "ok")
    tiny = verdicts(record(tmp_path / "tiny", scale=1 / 57.3), bundle)
    assert tiny[:2] == ("ok", "ok")
    assert any("radians where degrees are expected" in warning for warning in tiny[2])


def test_statistics_that_are_not_the_frames_stop_both_and_are_never_used(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = rescaled(record(tmp_path / "stale", scale=57.3), 1 / 57.3)
    told, trained, _ = verdicts(stale, base)
    assert "the std of 'observation.state', joint 'pan', is 39." in told
    assert "; the frames give 0.69" in told
    assert told in trained
    words = ["train", "--dataset", str(stale), "--policy", str(base), "--steps", "1", "--batch-size", "2"]
    words += ["--device", "cpu", "--cache", "none", "--eval-frames", "2", "--out", str(tmp_path / "run")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert f"`smolpilot dataset repair {stale} NEW` computes them anew" in said
    assert not (tmp_path / "run").exists()
    # Overruled it would normalize by the frames all the same.
    found = prepare(options_of(PreflightOptions(stale, policy=str(base)))).policy.statistics["action"]
    np.testing.assert_allclose(found["std"], open_dataset(stale).actions.std(axis=0, dtype=np.float64), rtol=1e-6)
    # The advice works.
    capsys.readouterr()
    assert main(["dataset", "repair", str(stale), str(tmp_path / "fixed")]) == 0
    assert verdicts(tmp_path / "fixed", base)[:2] == ("ok", "ok")
    # Chosen episodes have no stored statistics.
    assert verdicts(stale, base, episodes="0-2")[:2] == ("ok", "ok")
    assert [line.found for line in preflight(PreflightOptions(stale)) if line.verdict == "error"] == [told]
    some = preflight(PreflightOptions(stale, episodes="0-2"))
    assert "error" not in {line.verdict for line in some}
    assert "3 episodes, 36 frames" in some[0].found


def test_one_absurd_action_stops_both_and_leaving_its_episode_out_helps(tmp_path: Path, base: Path) -> None:
    def spoil(values: npt.NDArray[Any], episode: int) -> None:
        values[4, 1] = 1e6 if episode == 2 else values[4, 1]

    wild = record(tmp_path / "wild", change=spoil)
    told, trained, _ = verdicts(wild, base)
    assert "'action', joint 'lift', is 1e+06 in episode 2, frame 4" in told
    assert all(text in trained for text in told.split("; it is")[:1])
    (fix,) = {line.fix for line in preflight(PreflightOptions(wild, policy=str(base))) if line.verdict == "error"}
    assert fix == f"leave them out: smolpilot dataset exclude {wild} NEW --episodes 2"
    assert main(["dataset", "exclude", str(wild), str(tmp_path / "tame"), "--episodes", "2"]) == 0
    assert verdicts(tmp_path / "tame", base)[:2] == ("ok", "ok")


def test_a_long_instruction_stops_both_and_room_can_be_made(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_tokenizer(base)
    long = record(tmp_path / "long", text=LONG)
    told, trained, _ = verdicts(long, base)
    tokens = len(LONG) + 1
    assert f"an instruction has {tokens} tokens, the policy reads at most 48" in told
    assert told in trained
    assert verdicts(long, base, max_tokens=tokens)[:2] == ("ok", "ok")
    assert verdicts(long, base, max_tokens=tokens - 1)[0] != "ok"
    words = ["train", "--dataset", str(long), "--policy", str(base), "--steps", "1", "--batch-size", "2"]
    words += ["--device", "cpu", "--cache", "none", "--eval-frames", "2", "--out", str(tmp_path / "run")]
    # No --no-preflight helps: the tokens would be missing.
    assert main([*words, "--no-preflight"]) == 1
    said = capsys.readouterr().err
    assert "--max-tokens 96" in said
    assert f"smolpilot dataset tasks {long} NEW --rename 0='shorter text'" in said
    assert "or --no-preflight" not in said
    roomy = prepare(check(options_of(PreflightOptions(long, policy=str(base), max_tokens=96))))
    bundle = save_bundle(roomy.policy, tmp_path / "roomy")
    assert load_policy(bundle).config.tokenizer_max_length == 96
    steps = json.loads((bundle / "policy_preprocessor.json").read_text())["steps"]
    assert [s["config"]["max_length"] for s in steps if s["registry_name"] == "tokenizer_processor"] == [96]
    assert main(["eval", str(base), "--dataset", str(long), "--out", str(tmp_path / "ev"), "--episodes", "all"]) == 1
    said = capsys.readouterr().err
    assert f"an instruction has {tokens} tokens" in said
    assert "--max-tokens" not in said  # eval has no such option
    assert main(["dataset", "tasks", str(long), str(tmp_path / "short"), "--rename", "0=shorter text"]) == 0
    assert verdicts(tmp_path / "short", base)[:2] == ("ok", "ok")


def test_nan_in_the_parents_statistics_is_named_alike_everywhere(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(base, lambda values: values["action.std"].__setitem__(2, float("nan")))
    words = "std of 'action' is NaN for joint 2"
    assert verdicts(data, base)[:2] == ("ok", "ok")  # the dataset's are taken
    told, trained, _ = verdicts(data, base, norm_stats="parent")
    assert told == trained
    assert words in told
    assert main(["bundle", str(base)]) == 0
    assert words in capsys.readouterr().out
    for verb in (["eval", str(base), "--dataset", str(data), "--out", str(tmp_path / "ev")], ["bench", str(base)]):
        assert main(verb) == 1
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ["pan", "lift", "wrist"], "robot": True}, "no joint 'wrist'"),
        ({"robot": True}, "camera 'front', which robot 'arm' does not have"),
        ({"camera_map": {"frnt": "front", "front": "none"}}, "frnt"),
        ({"units": {"elbow": "deg"}, "robot": True}, "elbow"),
        ({"chunk_size": 0}, "--chunk-size is 0"),
    ],
    ids=["joints", "cameras", "camera map", "units", "chunk"],
)
def test_options_that_do_not_fit_stop_both_processes(
    tmp_path: Path, bundle: Path, profile: Path, changes: dict[str, Any], words: str
) -> None:
    changes = dict(changes)
    dataset = record(tmp_path / "data", names=changes.pop("names", JOINTS))
    if changes.pop("robot", False):
        changes["robot"] = str(profile)
    told, trained, _ = verdicts(dataset, bundle, **changes)
    assert words in told
    assert words in trained


def test_another_rate_is_said_by_preflight_train_and_eval(tmp_path: Path, bundle: Path) -> None:
    fast = record(tmp_path / "fast", fps=25)
    text = "trained at 10 per second, this dataset has 25"
    assert any(text in warning for warning in verdicts(fast, bundle)[2])
    policy, dataset = load_policy(bundle), open_dataset(fast)
    assert any(text in line.found for line in preflight_policy(policy, dataset) if line.verdict == "warning")
    document = evaluate(policy, dataset, "all", max_frames=2, latency=False).document
    assert any(text in warning for warning in document["warnings"])
    # The child is a policy of the new rate.
    child = prepare(dataclasses.replace(options_of(PreflightOptions(fast, policy=str(bundle))), steps=1))
    assert child.policy.lineage["fps"] == 25
    said: list[str] = []
    stop_on_errors(child.preflight(), overruled=False, say=said.append)
    assert any(text in line for line in said)


def test_evals_advice_is_evals_own_and_said_once(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = record(tmp_path / "wide", scale=6.0)
    assert main(["eval", str(bundle), "--dataset", str(wide), "--out", str(tmp_path / "ev")]) == 1
    said = capsys.readouterr().err
    fix = next(line for line in said.splitlines() if "Fix:" in line)
    assert "--norm-stats" not in said
    assert fix.count("check the units (--units)") == 1
    assert "deviation 6." in said
    assert "0.0" not in said  # the mean lies near, and is not blamed
    assert main(["status", str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr().err
    assert "--resume" not in said
    assert "check the path" in said


# -- a joint that never moves -----------------------------------------------------------------------------------------


def parked(values: npt.NDArray[Any], episode: int) -> None:
    """Float noise of a parked joint: 12 or the next numbers after it."""
    values[:, 2] = 12 + 1e-5 * (np.arange(len(values)) % 5 == episode)


def test_float_noise_is_not_learned_as_motion(tmp_path: Path, base: Path) -> None:
    still = record(tmp_path / "still", change=parked)
    prepared = prepare(options_of(PreflightOptions(still, policy=str(base))))
    assert any("grip never moves" in note for note in prepared.notes)
    assert any("without any motion: grip" in warning for warning in verdicts(still, base)[2])
    transforms = prepared.policy.transforms.for_source(prepared.datasets[0].layout)
    seen = transforms.normalize(prepared.datasets[0].train.actions)[:, :3].numpy()
    assert np.abs(seen[:, 2]).max() < 0.01  # noise stays noise
    assert np.abs(seen[:, 0]).max() > 1
    state = transforms.state(np.array([0.0, 0.0, 12.3], np.float32))
    assert abs(float(state[0, 2])) < 1  # a slightly other pose does not blind the network
    # An untrained network's answer hardly leaves the parked position.
    chunk = prepared.policy.predict_chunk(
        {key: value for key, value in prepared.datasets[0].train[0].items() if not key.startswith("action")}
    )
    assert float((chunk[:, 2] - 12).abs().max()) < 0.2
    save_bundle(prepared.policy, tmp_path / "own")
    document = evaluate(load_policy(tmp_path / "own"), open_dataset(still), "all", max_frames=4, latency=False).document
    assert "nan" not in " ".join(document["warnings"])
    assert not any("grip" in warning for warning in document["warnings"])
    again = prepare(options_of(PreflightOptions(still, policy=str(tmp_path / "own"))))
    assert again.stats == "parent"
    np.testing.assert_allclose(again.policy.statistics["action"]["std"], prepared.policy.statistics["action"]["std"])


def test_one_absurd_action_is_named_before_the_statistics_that_it_moves(tmp_path: Path, bundle: Path) -> None:
    """The parent's robot, so its statistics are compared, too: their distance is a consequence of one frame."""

    def spike(values: npt.NDArray[Any], episode: int) -> None:
        if episode == 2:
            values[5, 1] = 1e6

    spiked = record(tmp_path / "spiked", change=spike)
    options = PreflightOptions(dataset=spiked, policy=str(bundle))
    errors = [line for line in preflight(options) if line.verdict == "error"]
    assert {line.topic for line in errors} == {"numbers"}
    assert "episode 2, frame 5" in errors[0].found
    lines = prepare(check(options_of(options))).preflight()
    with pytest.raises(SmolpilotError, match="episode 2, frame 5") as raised:
        stop_on_errors(lines, overruled=False, say=print)
    assert "dataset exclude" in raised.value.fix


def test_a_deviation_of_zero_is_no_scale_even_for_the_one_who_asks(data: Path, bundle: Path) -> None:
    stored(bundle, lambda values: values["action.std"].__setitem__(1, 0.0))
    options = PreflightOptions(dataset=data, policy=str(bundle), norm_stats="parent")
    (line,) = [line for line in preflight(options) if line.verdict == "error"]
    assert "lift: the joint never moved in the policy's training data" in line.found
    assert "--norm-stats dataset" in line.fix
    with pytest.raises(SmolpilotError, match="lift: the joint never moved in the policy's training data"):
        prepare(check(options_of(options)))
    taken = dataclasses.replace(options, norm_stats="dataset")
    assert not [line for line in preflight(taken) if line.verdict == "error"]


def test_a_long_text_that_nobody_recorded_is_not_to_be_renamed(data: Path, bundle: Path) -> None:
    options = PreflightOptions(dataset=data, policy=str(bundle), instruction=LONG)
    fixes = [line.fix for line in preflight(options) if line.verdict == "error" and "tokens" in line.found]
    assert len(fixes) == 1
    assert "shorter --instruction" in fixes[0]
    assert "--rename" not in fixes[0]
