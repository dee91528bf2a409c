"""SmolVLA as a Policy: the plain network and the engine keep the contract, and do the same."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.common.keys import STATE
from smolpilot.contracts import (
    CAPTURED_AT,
    GUIDED,
    RANDOM,
    TIMED,
    TOKENS,
    TWO_STAGE,
    ActionQueue,
    Embodiment,
    Leftover,
    Observation,
    TimedPolicy,
)
from smolpilot.datasets import open_dataset
from smolpilot.inference import prepare
from smolpilot.smolvla import Policy as SmolVLAPolicy
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.smolvla.create import randomize_weights
from smolpilot.smolvla.transforms.camera_slots import pair_embodiment

from .helpers_conformance import check_policy

RUNNERS = ("plain", "exact", "fast")


@pytest.fixture(scope="module")
def runners(smolvla: SmolVLAPolicy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cache = tmp_path_factory.mktemp("engines")
    engines = {mode: prepare(smolvla, engine=mode, backend="torch", precision="float32", check=False, cache_dir=cache)
               for mode in ("exact", "fast")}  # fmt: skip
    return {"plain": smolvla, **engines}


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest, runners: dict[str, Any]) -> Any:
    runner: Any = runners[request.param]
    yield runner
    runner.n_action_steps, runner.num_steps = 10, 10
    runner.reset()


def draw(seed: int) -> torch.Tensor:
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", RUNNERS)
def test_it_keeps_the_contract(mode: str, saved: Path, observations: list[Observation], tmp_path: Path) -> None:
    policy: Any = load_policy(saved, device="cpu")
    if mode != "plain":
        policy = prepare(policy, engine=mode, backend="torch", precision="float32", check=False, cache_dir=tmp_path)  # type: ignore[arg-type]
    check_policy(policy, [{**one, CAPTURED_AT: {STATE: 0.5}} for one in observations])


class TestPredict:
    def test_each_observation_has_its_own_seed(self, runner: Any, observations: list[Observation]) -> None:
        together = runner.predict(observations, seeds=[5, 6, 7])
        other = np.abs(runner.predict(observations, seeds=[5, 6, 8]) - together)
        assert other[:2].max() < 1e-5
        assert other[2].max() > 1e-3
        same = runner.predict([observations[0]] * 2, seeds=[1, 2])
        assert np.abs(same[0] - same[1]).max() > 1e-3

    def test_without_seeds_torchs_global_generator_draws(self, runner: Any, observations: list[Observation]) -> None:
        torch.manual_seed(3)
        first, second = (runner.predict(observations[:1]) for _ in range(2))
        torch.manual_seed(3)
        assert np.array_equal(runner.predict(observations[:1]), first)
        assert not np.array_equal(first, second)

    def test_predict_is_predict_chunk_from_the_noise_of_its_seed(
        self, runner: Any, observations: list[Observation]
    ) -> None:
        one = observations[1]
        assert torch.equal(runner.predict_chunk(one, draw(9)), torch.from_numpy(runner.predict([one], seeds=[9])[0]))
        noise = torch.stack([draw(0), draw(1), draw(2)])
        together = runner.predict(observations, seeds=np.arange(3))
        assert torch.equal(runner.predict_chunks(observations, noise), torch.from_numpy(together))

    def test_exact_is_the_plain_network_bit_for_bit(
        self, runners: dict[str, Any], observations: list[Observation]
    ) -> None:
        for batch in (observations, observations[:1]):
            seeds = range(len(batch))
            expected = runners["plain"].predict(batch, seeds=seeds)
            assert np.array_equal(runners["exact"].predict(batch, seeds=seeds), expected)
            np.testing.assert_allclose(runners["fast"].predict(batch, seeds=seeds), expected, atol=1e-5)

    def test_what_does_not_fit_is_refused(self, runner: Any, observations: list[Observation]) -> None:
        with pytest.raises(UsageError, match=r"There are 2 seeds for 3 frames\.\nExpected: one seed for each frame"):
            runner.predict(observations, seeds=[0, 1])
        with pytest.raises(UsageError, match=f"A seed is {2**70}"):
            runner.predict(observations[:1], seeds=[2**70])
        with pytest.raises(TransformError, match="is NaN for joint 'pan'"):
            runner.predict([{**observations[0], STATE: np.array([np.nan, 0, 0], dtype=np.float32)}], seeds=[0])
        with pytest.raises(TransformError, match="takes a list of frames"):
            runner.predict(observations[0])


class TestPrevious:
    def test_the_plain_network_refuses_it_by_name(
        self, smolvla: SmolVLAPolicy, observations: list[Observation]
    ) -> None:
        leftover = Leftover(np.zeros((4, 3), dtype=np.float32))
        with pytest.raises(UsageError, match=r"previous is given, but the plain network[\s\S]*hold 'guided'"):
            smolvla.predict(observations[:1], previous=leftover)

    @pytest.mark.parametrize("mode", ["exact", "fast"])
    def test_the_engine_resumes_from_it(
        self, mode: str, runners: dict[str, Any], observations: list[Observation]
    ) -> None:
        engine = runners[mode]
        last = engine.predict(observations[2:], seeds=[7])[0]
        previous = Leftover(last[4:], delay=3, horizon=6, schedule="exp", max_gain=5.0)
        chunk = engine.predict(observations[:1], seeds=[1], previous=previous)[0]
        free = engine.predict(observations[:1], seeds=[1])[0]
        assert np.abs(chunk[:3] - last[4:7]).max() < 0.2 * np.abs(free[:3] - last[4:7]).max()
        helper = engine.predict_chunk(
            observations[0], seed=1, leftover=last[4:], delay=3, horizon=6, schedule="exp", max_gain=5.0
        )
        assert np.array_equal(helper.numpy(), chunk)
        engine.begin(observations[0])
        assert np.array_equal(engine.finish(observations[0][STATE], seed=1, previous=previous).numpy(), chunk)

    def test_for_one_robot_only(self, runners: dict[str, Any], observations: list[Observation]) -> None:
        with pytest.raises(UsageError, match=r"previous is given for 3 observations\.\nExpected: one observation"):
            runners["exact"].predict(observations, previous=Leftover(np.zeros((4, 3), dtype=np.float32)))
        with pytest.raises(UsageError, match="There is no schedule 'liner'"):
            runners["exact"].predict(
                observations[:1], previous=Leftover(np.zeros((4, 3), dtype=np.float32), schedule="liner")
            )


class TestSpec:
    def test_what_the_plain_policy_is(self, smolvla: SmolVLAPolicy, tiny_dataset: Path) -> None:
        plain, spec = smolvla, smolvla.spec
        assert (spec.name, spec.state_dim, spec.action_dim, spec.chunk_size, spec.n_action_steps) == (
            "smolvla", 3, 3, 12, 10)  # fmt: skip
        assert spec.cameras == ("front", "wrist")
        assert spec.profile is plain.profile
        assert plain.profile is not None
        assert spec.action_names == tuple(joint.name for joint in plain.profile.action_joints)
        assert spec.action_units == tuple(joint.unit for joint in plain.profile.action_joints)
        assert spec.instructions == tuple(open_dataset(tiny_dataset).meta.tasks.values())
        assert spec.rate == 10
        assert spec.statistics is plain.statistics
        assert spec.image_sizes == {"front": (48, 64), "wrist": (48, 64)}
        assert spec.capabilities == {RANDOM, TIMED, TOKENS}
        facts = spec.facts
        assert (facts.kind, facts.engine, facts.device, facts.precision) == ("smolvla", None, "cpu", "float32")
        assert facts.source == plain.report.source
        assert facts.parameters == sum(parameter.numel() for parameter in plain.model.parameters())
        assert facts.memory_bytes == 4 * facts.parameters
        assert facts.camera_map == {"front": "front", "wrist": "wrist"}
        assert facts.lineage["dataset"]["fingerprint"] == open_dataset(tiny_dataset).meta.fingerprint

    def test_what_the_engine_is(self, runners: dict[str, Any]) -> None:
        plain, spec = runners["plain"].spec, runners["fast"].spec
        assert (spec.name, spec.capabilities) == ("fast", {RANDOM, TIMED, TOKENS, TWO_STAGE, GUIDED})
        for field in ("state_dim", "action_dim", "chunk_size", "cameras", "profile", "action_names", "rate"):
            assert getattr(spec, field) == getattr(plain, field)
        assert (spec.facts.kind, spec.facts.engine, spec.facts.precision) == ("smolvla", "fast", "float32")
        assert spec.facts.parameters == plain.facts.parameters
        assert 4 * spec.facts.parameters * 0.5 < spec.facts.memory_bytes <= runners["fast"].report.memory_bytes

    def test_an_engine_for_fewer_cameras_names_those_that_it_reads(
        self, smolvla: SmolVLAPolicy, tmp_path: Path
    ) -> None:
        engine = prepare(
            smolvla, engine="fast", backend="torch", cameras=["wrist"], check=False, warm_up=False, cache_dir=tmp_path
        )
        assert engine.spec.cameras == ("wrist",)
        assert engine.spec.facts.camera_map == {"wrist": "wrist", "front": None}
        assert engine.spec.image_sizes == {"wrist": (48, 64)}

    def test_a_fallback_is_among_its_warnings(
        self, smolvla: SmolVLAPolicy, observations: list[Observation], tmp_path: Path
    ) -> None:
        with pytest.warns(UserWarning, match="the plain network runs instead"):
            engine = prepare(
                smolvla, engine="fast", backend="torch", precision="bfloat16", limit=1e-9, frame=observations[0],
                cache_dir=tmp_path,
            )  # fmt: skip
        facts = engine.spec.facts
        assert (engine.spec.name, facts.engine, facts.precision) == ("fast", "plain", "float32")
        assert facts.warnings == (engine.report.fallback,)

    def test_it_follows_the_execution_horizon_and_the_denoising_steps(
        self, runner: Any, runners: dict[str, Any], observations: list[Observation]
    ) -> None:
        usual = runner.predict(observations[:1], seeds=[0])
        runner.n_action_steps, runner.num_steps = 4, 3
        assert (runner.spec.n_action_steps, runner.spec.facts.num_steps) == (4, 3)
        found = runner.predict(observations[:1], seeds=[0])
        assert np.abs(found - usual).max() > 1e-3
        # By hand, past `num_steps`.
        policy = runners["plain"]
        inputs = policy.transforms.inputs(observations[:1])
        expected = policy.transforms.actions(policy.model.sample(inputs, draw(0)[None], 3))
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)
        for wrong in (0, 13, True, 2.0):
            with pytest.raises(UsageError, match=r"n_action_steps is .*\nExpected: 1 to 12"):
                runner.n_action_steps = wrong
        for wrong in (0, 1_001, True, 2.0):
            with pytest.raises(UsageError, match=r"num_steps is .*\nExpected: 1 to 1,000 denoising steps"):
                runner.num_steps = wrong
        assert (runner.n_action_steps, runner.num_steps) == (4, 3)

    def test_nobody_waits_for_a_chunk_to_read_it(self, runners: dict[str, Any]) -> None:
        engine, read = runners["fast"], []
        with engine._lock:  # as while a chunk is computed
            asking = threading.Thread(target=lambda: read.append(engine.spec.n_action_steps))
            asking.start()
            asking.join(timeout=10)
            assert read == [10]

    def test_a_pairing_of_cameras_is_told(self, saved: Path) -> None:
        policy = load_policy(saved, device="cpu")
        body = Embodiment("the robot", ("front", "wrist", "ceiling"))
        slots, saved_map = policy.config.real_cameras, policy.transforms_config.camera_map
        policy.use_cameras(pair_embodiment(slots, body, {"ceiling": None}, saved_map))
        assert policy.spec.facts.camera_map == {"front": "front", "wrist": "wrist", "ceiling": None}
        policy.use_cameras(pair_embodiment(slots, body, {}, policy.transforms_config.camera_map))
        assert "the robot's camera 'ceiling' is not used, as in the policy's own map" in policy.spec.facts.notes

    def test_steps_that_were_chosen_are_saved(self, saved: Path, tmp_path: Path) -> None:
        policy = load_policy(saved, device="cpu")
        policy.num_steps, policy.n_action_steps = 4, 5
        spec = load_policy(save_bundle(policy, tmp_path / "chosen"), device="cpu").spec
        assert (spec.facts.num_steps, spec.n_action_steps) == (4, 5)
        assert spec.facts.source == str(tmp_path / "chosen")
        assert spec.facts.load_seconds > 0


class TestOneActionAtATime:
    def test_the_queue_for_any_policy_is_that_of_select_action(
        self, runner: Any, observations: list[Observation]
    ) -> None:
        runner.n_action_steps = 2
        queue = ActionQueue(runner)
        torch.manual_seed(0)
        expected = [queue.select_action(observations[0]) for _ in range(5)]
        torch.manual_seed(0)
        found = [runner.select_action(observations[0]) for _ in range(5)]
        assert all(torch.equal(ours, torch.from_numpy(theirs)) for ours, theirs in zip(found, expected, strict=True))
        assert found[0].shape == (3,)
        runner.reset()
        torch.manual_seed(0)
        assert torch.equal(runner.select_action(observations[0]), found[0])

    def test_a_copy_of_a_policy_makes_its_own_plan(self, saved: Path, observations: list[Observation]) -> None:
        policy = load_policy(saved, device="cpu")
        policy.select_action(observations[0])
        other = copy.copy(policy)
        other.model = copy.deepcopy(policy.model)
        randomize_weights(other, 1)
        torch.manual_seed(0)
        found = other.select_action(observations[0])
        torch.manual_seed(0)
        assert torch.equal(found, other.predict_chunk(observations[0])[0])


class TestTimes:
    def test_the_newest_prediction_by_stage(self, runner: Any, observations: list[Observation]) -> None:
        timed: TimedPolicy = runner
        for batch in (observations[:1], observations):
            timed.predict(batch, seeds=range(len(batch)))
            times = timed.last_ms
            assert {"transforms", "total"} <= times.keys()
            assert sum(value for stage, value in times.items() if stage != "total") <= times["total"] * 1.001
            assert all(value > 0 for value in times.values())

    def test_of_the_plain_network(self, smolvla: SmolVLAPolicy, observations: list[Observation]) -> None:
        smolvla.predict(observations, seeds=[0, 1, 2])
        times = smolvla.last_ms
        assert set(times) == {"transforms", "network", "total"}
        assert times["transforms"] + times["network"] == pytest.approx(times["total"])

    def test_of_two_stages(self, runners: dict[str, Any], observations: list[Observation]) -> None:
        engine = runners["exact"]
        engine.reset()
        counted = engine.report.latency.get("total", {"count": 0})["count"]
        engine.begin(observations[0])
        begun = engine.last_ms
        engine.finish(observations[0][STATE], seed=0)
        times = engine.last_ms
        assert times["total"] == pytest.approx(begun["total"] + times["denoising"], rel=0.5)
        assert set(times) == {"transforms", "vision", "prefix", "denoising", "total"}
        assert engine.report.latency.get("total", {"count": 0})["count"] == counted, "the report counts whole chunks"


class TestEnd:
    def test_a_closed_policy_has_no_network(self, saved: Path, observations: list[Observation]) -> None:
        policy = load_policy(saved, device="cpu")
        policy.predict(observations[:1], seeds=[0])
        policy.close()
        policy.close()
        with pytest.raises(UsageError, match="The policy is closed"):
            policy.predict(observations[:1], seeds=[0])

    def test_a_closed_engine_is_stopped_and_leaves_the_given_policy_alone(
        self, saved: Path, observations: list[Observation], tmp_path: Path
    ) -> None:
        policy = load_policy(saved, device="cpu")
        engine = prepare(policy, engine="fast", backend="torch", check=False, warm_up=False, cache_dir=tmp_path)
        engine.close()
        with pytest.raises(UsageError, match="engine is stopped"):
            engine.predict(observations[:1], seeds=[0])
        assert engine.spec.facts.memory_bytes == 0
        assert policy.predict(observations[:1], seeds=[0]).shape == (1, 12, 3)


def test_untrained_weights_are_fresh_and_repeatable(saved: Path) -> None:
    policy = load_policy(saved, device="cpu")
    trained = policy.model.action_out_proj.weight.clone()
    randomize_weights(policy, 5)
    first = {name: value.clone() for name, value in policy.model.state_dict().items()}
    assert not torch.equal(first["action_out_proj.weight"], trained)
    randomize_weights(policy, 6)
    assert not torch.equal(policy.model.action_out_proj.weight, first["action_out_proj.weight"])
    randomize_weights(policy, 5)
    assert all(torch.equal(value, first[name]) for name, value in policy.model.state_dict().items())


@pytest.fixture(scope="module")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("saved") / "bundle")
