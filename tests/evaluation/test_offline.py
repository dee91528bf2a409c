"""Offline evaluation on a real recording with policies whose errors are known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import CheckpointError, ProfileError, UsageError
from smolpilot.common.keys import ACTION, STATE, image_key
from smolpilot.contracts import HISTORY
from smolpilot.datasets import Dataset
from smolpilot.evaluation import embodiment_of, evaluate
from smolpilot.evaluation.offline.dataset_adapter import adapt
from smolpilot.evaluation.offline.policy_frames import calibration_frames, frames_of, recorded_frames
from smolpilot.evaluation.offline.summary import to_json
from smolpilot.robots import RobotProfile

from .conftest import StubPolicy, which_frame


def test_a_perfect_policy_has_no_error_and_scores_only_held_out_episodes(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    document = evaluate(make_policy(), dataset, latency=False).document
    assert document["episodes"] == [1, 3]
    assert document["frames"] == facts.lengths[1] + facts.lengths[3]
    assert document["split"]["trained_on"] == []
    assert document["mean_over_joints"]["max"] < 1e-5
    assert document["verdict"]["beats_both"] is True
    assert [joint["name"] for joint in document["joints"]] == list(facts.joints)
    # 6-step chunks: 15 steps of the last five frames of each episode lie behind its end.
    assert document["steps_scored"] == 6 * document["frames"] - 2 * 15
    assert document["warnings"] == []


def test_a_policy_one_frame_late_is_wrong_at_every_step(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    def late(episode: int, frame: int) -> npt.NDArray[Any]:
        return facts.future(episode, max(frame - 1, 0))

    document = evaluate(make_policy(late), dataset, "all", latency=False).document
    assert document["joints"][0]["mae"] == pytest.approx(0.1, abs=0.02)  # pan moves 0.1 a frame
    assert min(row[0] for row in document["by_step"]["mae"]) > 0.08


def test_constant_offsets_by_hand(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    """Offset per joint and growing with the horizon step: MAE, RMSE, max and error by step follow."""

    def off(episode: int, frame: int) -> npt.NDArray[Any]:
        return facts.future(episode, frame) + np.array([1.0, -2.0, 0.0]) * np.arange(1, 7)[:, None]

    document = evaluate(make_policy(off), dataset, "0", latency=False).document
    assert [row[0] for row in document["by_step"]["mae"]] == pytest.approx([1, 2, 3, 4, 5, 6], abs=1e-4)
    assert document["by_step"]["frames"] == [14, 13, 12, 11, 10, 9]
    steps = np.repeat(np.arange(1, 7), [14, 13, 12, 11, 10, 9])
    lift = document["joints"][1]
    assert lift["mae"] == pytest.approx(2 * steps.mean(), rel=1e-5)
    assert lift["rmse"] == pytest.approx(2 * np.sqrt((steps**2).mean()), rel=1e-5)
    assert lift["max"] == pytest.approx(12, rel=1e-5)
    assert lift["unit"] == "deg"


def test_baselines_by_hand(dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace) -> None:
    policy = make_policy()
    document = evaluate(policy, dataset, "2", latency=False).document
    length, mean = facts.lengths[2], policy.statistics[ACTION]["mean"]
    hold, average = [], []
    for frame in range(length):
        for h in range(min(facts.horizon, length - frame)):
            hold.append(np.abs(facts.state(2, frame) - facts.action(2, frame + h)))
            average.append(np.abs(mean - facts.action(2, frame + h)))
    for a, joint in enumerate(document["joints"]):
        assert joint["hold_mae"] == pytest.approx(np.mean(hold, axis=0)[a], rel=1e-5)
        assert joint["mean_action_mae"] == pytest.approx(np.mean(average, axis=0)[a], rel=1e-5, abs=1e-7)
    assert document["baselines"]["hold"]["mae"] == pytest.approx(np.mean(hold), rel=1e-5)
    assert document["baselines"]["mean_action"]["mae"] == pytest.approx(np.mean(average), rel=1e-5)


def test_frames_reach_the_policy_as_the_robot_gives_them(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    policy = make_policy()
    evaluate(policy, dataset, "1", latency=False)
    frame = policy.frames[4]
    np.testing.assert_allclose(frame[STATE], facts.state(1, 4), rtol=1e-6)
    assert frame["task"] == "press the red button"
    assert frame[image_key("top")].shape == (32, 32, 3)
    assert abs(float(frame[image_key("top")].mean()) - 24) < 4


def test_a_policy_that_reads_several_observations_gets_those_of_the_same_episode(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    policy = make_policy(n_obs_steps=3)
    evaluate(policy, dataset, "1-2", every=4, latency=False)
    numbers = [[which_frame(before) for before in frame[HISTORY]] for frame in policy.frames]
    assert numbers == [[], [(1, 2), (1, 3)], [(1, 6), (1, 7)], [], [(2, 2), (2, 3)], [(2, 6), (2, 7)]]
    np.testing.assert_allclose(policy.frames[1][HISTORY][0][STATE], facts.state(1, 2), rtol=1e-6)
    assert all(image_key("top") in before for before in policy.frames[1][HISTORY])
    one = recorded_frames(make_policy(n_obs_steps=2), dataset, 2)
    assert [len(frame[HISTORY]) for frame in one] == [0, 1]


def test_what_the_policy_warns_of_is_in_the_document(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    document = evaluate(make_policy(warnings=("the engine fell back",)), dataset, latency=False).document
    assert document["warnings"] == ["the engine fell back"]
    assert (document["bundle"]["path"], document["bundle"]["kind"]) == ("runs/stub", "stub")
    assert document["bundle"]["engine"] is None


def test_an_answer_of_another_shape_is_refused(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    with pytest.raises(CheckpointError, match=r"policy stub answered 16 observations with .* \[16, 6, 2\]"):
        evaluate(make_policy(lambda e, f: np.zeros((6, 2))), dataset, "0-1", latency=False)


def test_cameras_that_a_policy_does_not_read_are_not_decoded(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(dataset), "_picture", lambda *_: pytest.fail("a frame was decoded"))
    policy = make_policy(cameras=())
    evaluate(policy, dataset, "0", latency=False)
    assert image_key("top") not in policy.frames[0]


def test_calibration_takes_frames_that_are_not_scored(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], recording: Path
) -> None:
    policy = make_policy()  # held out: episodes 1 and 3
    frames = calibration_frames(dataset, "held-out")(policy)
    assert {which_frame(frame)[0] for frame in frames} == {0, 2}
    assert len(frames) == 26  # all there are: no more than 32 are taken
    assert {which_frame(frame)[0] for frame in frames_of(recording)(policy)} == {0, 1, 2, 3}
    with pytest.raises(UsageError, match="every episode of this dataset is scored"):
        calibration_frames(dataset, "all")(policy)


class TestEmbodiment:
    def test_a_dataset_without_a_known_robot_is_taken_in_its_own_order(self, dataset: Dataset) -> None:
        found = embodiment_of(dataset.meta)
        assert (found.owner, found.cameras, found.rate) == ("the dataset", ("top",), dataset.meta.fps)
        assert found.profile is None
        assert found.state_names == tuple(dataset.meta.state_names) == ("lift", "grip", "pan")
        mean = np.asarray(dataset.actions, dtype=np.float64).mean(axis=0)
        np.testing.assert_allclose(found.statistics[ACTION]["mean"], mean, rtol=1e-5)
        assert set(found.instructions) == {"press the red button", "press the green button"}

    def test_a_named_robot_in_another_order_gives_no_profile_unless_units_are_told(
        self, dataset: Dataset, profile: RobotProfile, tmp_path: Path, facts: SimpleNamespace
    ) -> None:
        path = tmp_path / "press.yaml"
        path.write_text(profile.to_yaml())
        assert embodiment_of(dataset.meta, str(path)).profile is None
        told = embodiment_of(dataset.meta, str(path), {"pan": "deg"})
        assert told.profile == profile
        assert told.action_names == facts.joints
        own = np.asarray(dataset.actions, dtype=np.float64).mean(axis=0)  # lift, grip, pan
        expected = [np.deg2rad(own[2]), own[0], own[1]]
        np.testing.assert_allclose(told.statistics[ACTION]["mean"], expected, rtol=1e-5)
        with pytest.raises(UsageError, match="names the joint 'pam'"):
            embodiment_of(dataset.meta, str(path), {"pam": "deg"})

    def test_a_robot_in_the_recordings_order_comes_along(
        self, dataset: Dataset, profile: RobotProfile, tmp_path: Path
    ) -> None:
        joints = {joint.name: joint for joint in profile.joints}
        same = profile.model_copy(update={"joints": [joints[name] for name in dataset.meta.state_names]})
        path = tmp_path / "press.yaml"
        path.write_text(same.to_yaml())
        assert embodiment_of(dataset.meta, str(path)).profile == same
        with pytest.raises(ProfileError, match="nowhere"):
            embodiment_of(dataset.meta, str(tmp_path / "nowhere.yaml"))


def test_stride_limit_and_batch_size(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    every = evaluate(make_policy(), dataset, "0", every=5, latency=False)
    assert every.scored.frame_index.tolist() == [0, 5, 10]
    few = evaluate(make_policy(), dataset, "all", max_frames=7, latency=False)
    assert few.document["frames"] == 7
    one, many = make_policy(), make_policy()
    evaluate(one, dataset, "0,2", batch_size=1, latency=False)
    evaluate(many, dataset, "0,2", batch_size=64, latency=False)
    assert len(one.seeds) == facts.lengths[0] + facts.lengths[2]
    assert one.seeds == many.seeds
    assert len(set(one.seeds)) == len(one.seeds)


def test_another_seed_draws_otherwise(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    first, second = make_policy(), make_policy()
    evaluate(first, dataset, "1", seed=0, latency=False)
    evaluate(second, dataset, "1", seed=1, latency=False)
    assert not set(first.seeds) & set(second.seeds)


def test_non_finite_predictions_fail_the_verdict_and_still_give_json(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    def broken(episode: int, frame: int) -> npt.NDArray[Any]:
        chunk = facts.future(episode, frame)
        chunk[0, 0], chunk[0, 1] = np.nan, np.inf
        return chunk

    document = evaluate(make_policy(broken), dataset, "1", latency=False).document
    assert document["non_finite"] == {"nan": 9, "infinite": 9}
    assert document["verdict"]["beats_both"] is False
    assert "NaN" in document["warnings"][0]
    assert json.loads(to_json(document))["by_step"]["mae"][0][0] is None


def test_normalized_numbers_are_noticed(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    document = evaluate(make_policy(lambda e, f: facts.future(e, f) / 50), dataset, latency=False).document
    assert any("scale looks wrong" in text for text in document["warnings"])
    assert document["joints"][1]["range"]["span_ratio"] == pytest.approx(1 / 50, rel=1e-3)


def test_units_told_to_training_hold_for_its_own_dataset(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    units = ["deg", "normalized", "deg"]  # the recording's order: lift, grip, pan; the profile has pan in rad
    policy = make_policy()
    policy.lineage["dataset_units"] = {"state": units, "action": units}
    moved = adapt(policy, dataset.meta).action.forward(dataset.actions[3])
    np.testing.assert_allclose(moved, facts.action(0, 3) * [np.pi / 180, 1, 1], rtol=1e-5)
    policy.lineage["dataset_fingerprint"] = "another"
    np.testing.assert_allclose(adapt(policy, dataset.meta).action.forward(dataset.actions[3]), facts.action(0, 3))


def test_units_can_be_told(dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace) -> None:
    policy = make_policy()
    told = adapt(policy, dataset.meta, {"pan": "deg"}).action.forward(dataset.actions[3])
    np.testing.assert_allclose(told, facts.action(0, 3) * [np.pi / 180, 1, 1], rtol=1e-5)
    # What is told now holds, whatever training was told.
    policy.lineage["dataset_units"] = {"state": ["deg", "normalized", "deg"], "action": ["deg", "normalized", "deg"]}
    plain = adapt(policy, dataset.meta, {"pan": "rad"}).action.forward(dataset.actions[3])
    np.testing.assert_allclose(plain, facts.action(0, 3), rtol=1e-5)
    with pytest.raises(UsageError, match="names the joint 'pam'"):
        evaluate(policy, dataset, units={"pam": "deg"}, latency=False)
    policy.profile = None
    with pytest.raises(UsageError, match="no robot profile"):
        adapt(policy, dataset.meta, {"pan": "deg"})


def test_a_still_joint_raises_no_alarm(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    """Lift spans 40 deg in training; here it is judged by that, not by the little it moves in a short part."""

    def nearly(episode: int, frame: int) -> npt.NDArray[Any]:
        return facts.future(episode, frame) + np.array([0.3, 0, 0]) * (-1) ** frame

    policy = make_policy(nearly)
    policy.statistics[ACTION] |= {"min": np.array([0.0, -20, 0.5]), "max": np.array([100.0, 20, 0.5])}
    document = evaluate(policy, dataset, "1", latency=False).document
    assert document["warnings"] == []
    policy.statistics[ACTION] |= {"max": np.array([1.0, 20, 0.5])}
    policy.plan = lambda e, f: nearly(e, f) * [20, 1, 1]
    document = evaluate(policy, dataset, "1", latency=False).document
    assert [joint["range"]["suspicious"] for joint in document["joints"]] == [True, False, False]


def test_limits_of_the_profile_are_checked(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], facts: SimpleNamespace
) -> None:
    def far(episode: int, frame: int) -> npt.NDArray[Any]:
        return facts.future(episode, frame) + np.array([0, 0, 0.7])

    document = evaluate(make_policy(far), dataset, latency=False).document
    grip = document["joints"][2]["range"]
    assert (grip["limits"], grip["share_outside_limits"], grip["span_ratio"]) == ([0.0, 1.0], 1.0, None)
    assert any("position limits: grip 100%" in text for text in document["warnings"])


def test_hold_baseline_is_not_available_without_states_of_the_same_name(
    dataset: Dataset, make_policy: Callable[..., StubPolicy], profile: RobotProfile
) -> None:
    joints = [*profile.joints, *(j.model_copy(update={"name": f"{j.name}_cmd"}) for j in profile.joints)]
    apart = profile.model_copy(
        update={
            "joints": [j.model_copy(update={"aliases": []}) for j in joints],
            "state": ["pan", "lift", "grip"],
            "action": ["pan_cmd", "lift_cmd", "grip_cmd"],
        }
    )
    renamed = dataclasses.replace(dataset.meta.features[ACTION], names=["pan_cmd", "lift_cmd", "grip_cmd"])
    dataset.meta.features[ACTION] = renamed
    document = evaluate(make_policy(profile=apart), dataset, "1", latency=False).document
    assert document["baselines"]["hold"] == {"available": False, "mae": None, "rmse": None}
    assert document["verdict"]["beats_both"] is None
    assert "holding the current state is n/a" in document["verdict"]["text"]


def test_motion_is_that_of_the_recording(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    document = evaluate(make_policy(), dataset, "all", latency=False).document
    pan = document["joints"][0]["motion"]
    assert pan["speed"]["predicted"] == pytest.approx(1.0, rel=1e-4)  # 0.1 rad a frame at 10 frames a second
    assert pan["jerk"]["unit"] == "rad/s³"
    for joint in document["joints"]:
        for values in joint["motion"].values():
            assert values["predicted"] == pytest.approx(values["recorded"], rel=1e-3, abs=0.1)


def test_latency_keeps_chunks_and_queue_pops_apart(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    latency = evaluate(make_policy(), dataset, "1").document["latency"]
    assert latency["chunk"]["count"] >= 5
    assert latency["queue_pop"]["count"] == 1  # execution horizon 2: one pop between plans
    assert latency["chunk"]["p50_ms"] <= latency["chunk"]["p95_ms"]
    assert latency["warm_up"] > 0


class TestRefusals:
    def test_unknown_episode(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        with pytest.raises(UsageError, match="no episode 9"):
            evaluate(make_policy(), dataset, "1,9")

    def test_unreadable_list(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        with pytest.raises(UsageError, match="cannot be read") as caught:
            evaluate(make_policy(), dataset, "1;2")
        assert "held-out, all, or a list" in str(caught.value)

    def test_held_out_of_another_dataset(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        other = make_policy(lineage={"dataset_fingerprint": "0123", "held_out_episodes": [0]})
        with pytest.raises(UsageError, match="another dataset"):
            evaluate(other, dataset)

    def test_held_out_unknown(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        with pytest.raises(UsageError, match="held-out episodes are unknown"):
            evaluate(make_policy(lineage={}), dataset)

    def test_nothing_held_out(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        lineage = {"dataset_fingerprint": dataset.meta.fingerprint, "held_out_episodes": []}
        with pytest.raises(UsageError, match="held no episode"):
            evaluate(make_policy(lineage=lineage), dataset)

    def test_held_out_episodes_that_the_parent_has_seen(
        self, dataset: Dataset, make_policy: Callable[..., StubPolicy]
    ) -> None:
        own = {"dataset_fingerprint": dataset.meta.fingerprint}
        lineage = own | {"held_out_episodes": [1], "parent": own | {"held_out_episodes": [0, 3]}}
        with pytest.raises(UsageError, match="had seen all of them"):
            evaluate(make_policy(lineage=lineage), dataset)

    def test_missing_camera(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        policy = make_policy(cameras=("wrist",))
        with pytest.raises(UsageError, match="lacks the camera wrist"):
            evaluate(policy, dataset)

    def test_other_joints(
        self, dataset: Dataset, make_policy: Callable[..., StubPolicy], profile: RobotProfile
    ) -> None:
        joints = [j.model_copy(update={"name": f"other_{j.name}"}) for j in profile.joints]
        with pytest.raises(ProfileError, match="no joint 'lift'"):
            evaluate(make_policy(profile=profile.model_copy(update={"joints": joints})), dataset)

    def test_other_width_without_a_profile(self, dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
        policy = make_policy(profile=None, action_dim=7)
        with pytest.raises(UsageError, match="policy's has 7"):
            evaluate(policy, dataset)


def test_trained_episodes_are_called_so(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    document = evaluate(make_policy(), dataset, "0-1", latency=False).document
    assert document["split"]["trained_on"] == [0]
    assert any("were trained on" in text for text in document["warnings"])


def test_what_the_parents_saw_is_not_held_out(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    own, other = ({"dataset_fingerprint": name} for name in (dataset.meta.fingerprint, "0123"))
    grandparent = own | {"held_out_episodes": [0, 3]}
    lineage = own | {"held_out_episodes": [1, 3], "parent": other | {"parent": grandparent}}
    document = evaluate(make_policy(lineage=lineage), dataset, latency=False).document
    assert document["split"]["episodes"] == [3]
    # After another dataset, the ancestor's held-out episodes of this one still are.
    later = make_policy(lineage=other | {"held_out_episodes": [2], "parent": grandparent})
    document = evaluate(later, dataset, latency=False).document
    assert (document["split"]["episodes"], document["split"]["trained_on"]) == ([0, 3], [])


def test_skipped_episodes_are_neither_trained_on_nor_held_out(
    dataset: Dataset, make_policy: Callable[..., StubPolicy]
) -> None:
    lineage = {"dataset_fingerprint": dataset.meta.fingerprint, "trained_episodes": [0], "held_out_episodes": [1]}
    policy = make_policy(lineage=lineage)
    assert evaluate(policy, dataset, latency=False).document["split"]["episodes"] == [1]
    assert evaluate(policy, dataset, "all", latency=False).document["split"]["trained_on"] == [0]


def test_untrained_instruction_is_named(dataset: Dataset, make_policy: Callable[..., StubPolicy]) -> None:
    policy = make_policy(instructions=["press the green button"])
    document = evaluate(policy, dataset, "1", latency=False).document
    assert any("not trained on “press the red button”" in text for text in document["warnings"])
