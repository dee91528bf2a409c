"""LeRobot's own policies behind the contract, beside LeRobot's own tools on the same observations."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.common.errors import CheckpointError, NotFiniteError, TransformError, UsageError
from smolpilot.common.keys import ACTION, STATE, image_key
from smolpilot.contracts import (
    HISTORY,
    RANDOM,
    ActionQueue,
    Embodiment,
    Environment,
    EnvironmentSpec,
    EpisodeInfo,
    Image,
    Observation,
    Outcome,
    PolicyOptions,
    make_observation,
)
from smolpilot.datasets import open_dataset
from smolpilot.evaluation import evaluate, rollout
from smolpilot.evaluation.checked_policy import seed_of
from smolpilot.evaluation.offline.dataset_adapter import embodiment_of
from smolpilot.evaluation.timing.bench import bench
from smolpilot.evaluation.timing.bench_options import BenchOptions
from smolpilot.policies.lerobot import open_beside, open_lerobot
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import localize, new_policy, save_bundle

from ..policies.helpers_conformance import check_policy
from .helpers_lerobot import SIZE, Peer, act_config, diffusion_config, stats, vqbet_config, write_checkpoint

pytestmark = pytest.mark.oracle
PLAIN = PolicyOptions(device="cpu")
needs_diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed (LeRobot's extra diffusion)"
)


@pytest.fixture(scope="module")
def act(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ACT of random weights; not to be changed."""
    return write_checkpoint(tmp_path_factory.mktemp("act") / "act", act_config())


@pytest.fixture(scope="module")
def vqbet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("vqbet") / "vqbet", vqbet_config())


@pytest.fixture
def folder(act: Path, tmp_path: Path) -> Path:
    """A copy of the ACT, to be changed."""
    return Path(shutil.copytree(act, tmp_path / "copy"))


@pytest.fixture(scope="module")
def embodiment(tiny_dataset: Path) -> Embodiment:
    return embodiment_of(open_dataset(tiny_dataset).meta)


def observations(count: int, cameras: tuple[str, ...] = ("front", "wrist"), seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        make_observation(
            rng.uniform(-1, 1, 3), {name: rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for name in cameras}, "go"
        )
        for _ in range(count)
    ]


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_act_gives_the_chunks_of_lerobots_own_pipeline(act: Path, embodiment: Embodiment) -> None:
    policy, peer = open_lerobot(act, PLAIN, embodiment), Peer(act)
    seen = observations(3)
    expected = np.stack([peer.chunk(one) for one in seen])
    assert np.abs(expected[0] - expected[1]).max() > 0.01, "the inputs matter"
    alone = np.concatenate([policy.predict([one]) for one in seen])
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(policy.predict(seen), expected, rtol=0, atol=1e-5)
    # And action by action, planning where LeRobot plans.
    episode = observations(7, seed=3)
    queue = ActionQueue(policy)
    mine = np.stack([queue.select_action(one) for one in episode])
    np.testing.assert_allclose(mine, peer.actions(episode, {}), rtol=0, atol=1e-6)
    check_policy(policy, seen)


def test_what_an_act_says_of_itself(act: Path, embodiment: Embodiment) -> None:
    spec = open_lerobot(act, PLAIN, embodiment).spec
    assert (spec.name, spec.state_dim, spec.action_dim, spec.chunk_size, spec.n_action_steps) == ("act", 3, 3, 8, 5)
    assert spec.action_names == ("pan", "lift", "gripper")
    assert spec.cameras == ("front", "wrist")
    assert spec.image_sizes == {"front": SIZE, "wrist": SIZE}
    assert spec.rate == 10
    assert RANDOM not in spec.capabilities
    np.testing.assert_allclose(spec.statistics[ACTION]["mean"], stats()[ACTION]["mean"], atol=1e-6)
    facts = spec.facts
    assert (facts.kind, facts.device, facts.precision) == ("act", "cpu", "float32")
    assert facts.parameters > 1e6
    assert facts.memory_bytes == 4 * facts.parameters
    assert facts.load_seconds > 0
    assert facts.notes == (
        "LeRobot's checkpoint names no joints: their names, order and units are those of the dataset",
    )
    assert open_lerobot(act, PLAIN, None).spec.action_names == ()


def test_evaluate_takes_an_act_beside_a_bundle(act: Path, embodiment: Embodiment, tiny_dataset: Path) -> None:
    policy = open_lerobot(act, PLAIN, embodiment)
    dataset = open_dataset(tiny_dataset)
    found = evaluate(policy, dataset, "0", max_frames=3, latency=False)
    assert found.document["joints"][0]["name"] == "pan"
    row = int(found.scored.frame_index[1])
    images = {camera: dataset.image(row, camera) for camera in ("front", "wrist")}
    expected = Peer(act).chunk(make_observation(dataset.states[row], images, "touch the red block"))
    np.testing.assert_allclose(found.scored.predicted[1], expected, rtol=0, atol=1e-5)


def test_several_observations_are_read_as_lerobot_reads_them(vqbet: Path) -> None:
    policy, peer = open_lerobot(vqbet, PLAIN, None), Peer(vqbet)
    assert policy.spec.n_obs_steps == 3
    episode = observations(11, cameras=("front",))
    plans = {step: 40 + step for step in (0, 4, 8)}  # chunks of four actions
    queue = ActionQueue(policy)
    with pytest.warns(UserWarning, match="pretrained Residual VQ"):  # LeRobot's, of random weights
        expected = peer.actions(episode, plans)
    for step, one in enumerate(episode):
        action = queue.select_action(one, seed=plans.get(step))
        np.testing.assert_allclose(action, expected[step], rtol=0, atol=1e-6)
    with_history = [{**episode[i], HISTORY: tuple(episode[i - 2 : i])} for i in (2, 5, 9)]
    check_policy(policy, with_history)


def test_a_missing_history_is_refused_and_a_short_one_filled_up(vqbet: Path) -> None:
    policy = open_lerobot(vqbet, PLAIN, None)
    one, two, three = observations(3, cameras=("front",))
    with pytest.raises(TransformError, match=r"vqbet reads the last 3 observations[\s\S]*contracts\.History"):
        policy.predict([one])
    start = policy.predict([{**one, HISTORY: ()}], seeds=[1])
    np.testing.assert_array_equal(policy.predict([{**one, HISTORY: (one, one)}], seeds=[1]), start)
    second = policy.predict([{**two, HISTORY: (one,)}], seeds=[1])
    np.testing.assert_array_equal(policy.predict([{**two, HISTORY: (one, one)}], seeds=[1]), second)
    longer = policy.predict([{**three, HISTORY: (three, one, two)}], seeds=[1])
    np.testing.assert_array_equal(policy.predict([{**three, HISTORY: (one, two)}], seeds=[1]), longer)
    assert np.abs(longer - policy.predict([{**three, HISTORY: (two, two)}], seeds=[1])).max() > 1e-4


PROFILE = RobotProfile.from_features(["pan", "lift", "gripper"], {}, 10.0).model_copy(update={"cameras": []})


class Looking(Environment):
    """Ten steps in which the state goes where it is sent; keeps what was seen and done."""

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.done: list[npt.NDArray[np.float32]] = []

    @property
    def spec(self) -> EnvironmentSpec:
        from smolpilot.robots import CameraProfile

        profile = PROFILE.model_copy(update={"cameras": [CameraProfile(name="front", width=SIZE[1], height=SIZE[0])]})
        return EnvironmentSpec("looking", profile, 10.0, "none", 10, ("go",))

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        self.state: npt.NDArray[Any] = np.zeros(3, np.float32)
        self._rng = np.random.default_rng(seed)
        return self._look(), EpisodeInfo("go")

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        self.state = np.asarray(action, np.float32)
        self.done.append(self.state)
        return self._look(), Outcome(False, "over") if len(self.done) == 10 else None

    def render(self) -> Image:
        return np.zeros((16, 16, 3), np.uint8)

    def close(self) -> None: ...

    def _look(self) -> Observation:
        image = self._rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        self.seen.append(make_observation(self.state, {"front": image}, "go"))
        return self.seen[-1]


def test_a_rollout_gives_the_actions_of_lerobots_own_loop(vqbet: Path) -> None:
    world = Looking()
    rollout(open_lerobot(vqbet, PLAIN, None), lambda: world, episodes=1, seed=5)
    plans = {4 * number: seed_of(5, number) for number in range(3)}
    with pytest.warns(UserWarning, match="pretrained Residual VQ"):
        expected = Peer(vqbet).actions([dict(one) for one in world.seen[:10]], plans)
    np.testing.assert_allclose(np.stack(world.done), expected, rtol=0, atol=1e-6)


def test_evaluation_gives_each_frame_those_before_it_in_its_episode(vqbet: Path, tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    policy = open_lerobot(vqbet, PLAIN, dataclasses.replace(embodiment_of(dataset.meta), cameras=("front",)))
    found = evaluate(policy, dataset, "0,1", max_frames=5, latency=False, batch_size=2).scored
    assert sorted(zip(found.episode_index.tolist(), found.frame_index.tolist(), strict=True))[0] == (0, 0)
    whole = dataset.select([0, 1])
    rows = [int(np.flatnonzero((whole.episode_index == e) & (whole.frame_index == f))[0])
            for e, f in zip(found.episode_index, found.frame_index, strict=True)]  # fmt: skip
    for chunk, row in zip(found.predicted, rows, strict=True):
        near = [i for i in (row - 2, row - 1) if i >= 0 and whole.episode_index[i] == whole.episode_index[row]]
        frames = [make_observation(whole.states[i], {"front": whole.image(i, "front")}, "") for i in (*near, row)]
        key = [0, int(whole.episode_index[row]), int(whole.frame_index[row])]
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        expected = policy.predict([{**frames[-1], HISTORY: tuple(frames[:-1])}], seeds=[seed])[0]
        np.testing.assert_allclose(chunk, expected, rtol=0, atol=1e-6)


@needs_diffusers
def test_diffusion_gives_the_actions_of_lerobots_own_loop(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "diffusion", diffusion_config())
    policy, peer = open_lerobot(folder, PLAIN, None), Peer(folder)
    episode = observations(9)
    plans = {step: 7 + step for step in (0, 4, 8)}
    queue = ActionQueue(policy)
    mine = np.stack([queue.select_action(one, seed=plans.get(step)) for step, one in enumerate(episode)])
    np.testing.assert_allclose(mine, peer.actions(episode, plans), rtol=0, atol=1e-6)
    assert open_lerobot(folder, PolicyOptions(device="cpu", num_steps=2), None).spec.facts.num_steps == 2
    check_policy(policy, [{**episode[i], HISTORY: (episode[i - 1],)} for i in (1, 4, 7)])


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerobot.policies import make_pre_post_processors
    from lerobot.policies.diffusion import modeling_diffusion

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("'diffusers' is required but not installed")

    config = diffusion_config()
    (tmp_path / "diffusion").mkdir()
    config.save_pretrained(tmp_path / "diffusion")
    for processor in make_pre_post_processors(config, dataset_stats=stats()):
        processor.save_pretrained(tmp_path / "diffusion")
    monkeypatch.setattr(modeling_diffusion, "require_package", missing)
    with pytest.raises(UsageError, match=r"LeRobot's diffusion needs a package[\s\S]*lerobot\[diffusion\]==0\.6\.1"):
        open_lerobot(tmp_path / "diffusion", PLAIN, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(UsageError, match=r"LeRobot is not installed[\s\S]*smolpilot\[lerobot\]"):
        open_lerobot(tmp_path / "diffusion", PLAIN, None)


def test_drawing_leaves_the_generator_of_the_caller_alone(vqbet: Path) -> None:
    policy = open_lerobot(vqbet, PLAIN, None)
    one = {**observations(1, cameras=("front",))[0], HISTORY: ()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    policy.predict([one, one], seeds=[1, 2])
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_cameras_are_paired_by_name_or_as_typed(act: Path, embodiment: Embodiment) -> None:
    robot = dataclasses.replace(embodiment, owner="the robot", cameras=("top", "wrist", "side"))
    with pytest.raises(UsageError, match=r"the robot has 'top', 'side'[\s\S]*--camera-map"):
        open_lerobot(act, PLAIN, robot)
    policy = open_lerobot(act, PolicyOptions(device="cpu", camera_map={"top": "front", "side": None}), robot)
    assert policy.spec.cameras == ("top", "wrist")
    assert policy.spec.image_sizes == {"top": SIZE, "wrist": SIZE}
    (seen,) = observations(1)
    renamed = {image_key("top") if key == image_key("front") else key: value for key, value in seen.items()}
    renamed[image_key("side")] = np.zeros((4, 4, 3), np.uint8)
    expected = open_lerobot(act, PLAIN, embodiment).predict([seen])
    np.testing.assert_array_equal(policy.predict([renamed]), expected)


def test_observations_that_do_not_fit(act: Path, embodiment: Embodiment) -> None:
    policy, (one,) = open_lerobot(act, PLAIN, embodiment), observations(1)
    front = image_key("front")
    for change, message in (
        ({front: np.zeros((24, 32, 3), np.uint8)}, r"24 x 32 pixels[\s\S]*48 x 64, as the policy was trained"),
        ({image_key("top"): one[front]}, "camera 'top', which the policy does not know"),
        ({f"{front}_padding_mask": False}, "delivers no image"),
        ({front: one[front].astype(np.float32)}, "camera 'front'"),
    ):
        with pytest.raises(TransformError, match=message):
            policy.predict([{**one, **change}])


def test_nan_never_leaves_it(folder: Path, embodiment: Embodiment) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.action_head.bias"][1] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(NotFiniteError, match="NaN for joint 'lift' at step 0"):
        open_lerobot(folder, PLAIN, embodiment).predict(observations(1))


def test_robots_and_options_that_do_not_fit(act: Path, embodiment: Embodiment) -> None:
    with pytest.raises(UsageError, match=r"The action of the dataset has 2 joints \(a, b\), this act's has 3"):
        open_lerobot(act, PLAIN, dataclasses.replace(embodiment, action_names=("a", "b")))
    with pytest.raises(UsageError, match=r"The state of the robot has 6 joints"):
        open_lerobot(act, PLAIN, Embodiment("the robot", ("front", "wrist"), profile=RobotProfile.load("so101")))
    with pytest.raises(UsageError, match="--engine is given, but LeRobot's act has no such option"):
        open_lerobot(act, PolicyOptions(engine="fast"), embodiment)
    with pytest.raises(UsageError, match="LeRobot's act has no denoising steps"):
        open_lerobot(act, PolicyOptions(num_steps=3), embodiment)


def test_weights_that_are_missing_or_fetched_from_afar(
    folder: Path, embodiment: Embodiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Public checkpoints say that their backbone began with weights of torchvision: not fetched, all is here.
    edit(folder / "config.json", pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1", device="cuda")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched"))
    np.testing.assert_array_equal(open_lerobot(folder, PLAIN, embodiment).predict(observations(1)).shape, (1, 8, 3))
    weights = load_file(folder / "model.safetensors")
    del weights["model.action_head.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"LeRobot cannot load the act[\s\S]*model\.action_head\.bias"):
        open_lerobot(folder, PLAIN, embodiment)


def test_a_checkpoint_of_older_lerobot_names_the_migration(folder: Path, embodiment: Embodiment) -> None:
    for path in folder.glob("policy_*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=rf"migrate_policy_normalization --pretrained-path {folder}"):
        open_lerobot(folder, PLAIN, embodiment)


def test_statistics_that_are_missing_are_no_pass_through(folder: Path, embodiment: Embodiment) -> None:
    (path,) = folder.glob("policy_postprocessor*unnormalizer*.safetensors")
    save_file({name: value for name, value in load_file(path).items() if not name.startswith(ACTION)}, path)
    with pytest.raises(CheckpointError, match=r"normalize 'action' by MEAN_STD, but hold no statistics"):
        open_lerobot(folder, PLAIN, embodiment)


@pytest.mark.parametrize(
    "step",
    [
        {"class": "subprocess.Popen", "config": {"args": ["touch", "EVIL"]}},
        {"class": "lerobot.processor.Evil"},
        {"registry_name": "no_such_step"},
        {"registry_name": "action_tokenizer_processor"},
        {"registry_name": "tokenizer_processor", "config": {"trust_remote_code": True}},
        {},
    ],
)
def test_a_checkpoint_runs_no_code_of_its_own(
    folder: Path, embodiment: Embodiment, step: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = folder / "policy_preprocessor.json"
    edit(path, steps=[*json.loads(path.read_text())["steps"], step])
    with pytest.raises(CheckpointError, match=r"is not LeRobot's own, or runs other code"):
        open_lerobot(folder, PLAIN, embodiment)
    assert not (tmp_path / "EVIL").exists()


def test_policies_that_are_not_opened_say_why(folder: Path, embodiment: Embodiment) -> None:
    config = folder / "config.json"
    for kind, message in {
        "tdmpc": "tdmpc is not opened: it plans anew at each step",
        "gaussian_actor": "it gives single actions, no chunks",
        "pi0_fast": "code that the checkpoint names",
        "no_such": r"has no policy 'no_such'",
        3: "has the type 3",
    }.items():
        edit(config, type=kind)
        with pytest.raises(CheckpointError, match=message):
            open_lerobot(folder, PLAIN, embodiment)
    edit(config, type="act", chunk_size="many")
    with pytest.raises(CheckpointError, match="LeRobot cannot load the act in"):
        open_lerobot(folder, PLAIN, embodiment)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        open_lerobot(folder, PLAIN, embodiment)


def test_inputs_that_no_joint_gives_are_refused_by_name(folder: Path, embodiment: Embodiment) -> None:
    inputs = json.loads((folder / "config.json").read_text())["input_features"]
    simulated = {"observation.environment_state": {"type": "ENV", "shape": [4]}}
    edit(folder / "config.json", input_features={**inputs, **simulated})
    with pytest.raises(CheckpointError, match=r"reads 'observation\.environment_state', the state of a simulation"):
        open_lerobot(folder, PLAIN, embodiment)
    edit(folder / "config.json", input_features={key: value for key, value in inputs.items() if key != STATE})
    with pytest.raises(CheckpointError, match=r"reads no 'observation\.state'"):
        open_lerobot(folder, PLAIN, embodiment)


def test_temporal_ensembling_is_said(tmp_path: Path, embodiment: Embodiment) -> None:
    folder = write_checkpoint(tmp_path / "act", act_config(n_action_steps=1, temporal_ensemble_coeff=0.01))
    policy, (one,) = open_lerobot(folder, PLAIN, embodiment), observations(1)
    assert policy.spec.n_action_steps == 1
    assert any("temporal ensembling is LeRobot's select_action" in note for note in policy.spec.facts.notes)
    np.testing.assert_allclose(policy.predict([one])[0], Peer(folder).chunk(one), rtol=0, atol=1e-6)


def test_smolvla_starts_from_the_same_noise_as_ours(tiny_dataset: Path, tmp_path: Path) -> None:
    """And `bench --against` takes LeRobot with the same weights, an ACT and a baseline in one run."""
    dataset = open_dataset(tiny_dataset)
    ours = new_policy("tiny", meta=dataset.meta, device="cpu")
    bundle = save_bundle(ours, tmp_path / "bundle")
    copy = save_bundle(ours, tmp_path / "localized")
    localize(copy)
    theirs = open_lerobot(copy, PLAIN, embodiment_of(dataset.meta))
    assert theirs.spec.facts.kind == "smolvla"
    assert theirs.spec.chunk_size == ours.config.chunk_size
    images = {camera: dataset.image(4, camera) for camera in ("front", "wrist")}
    seen = [make_observation(dataset.states[row], images, "touch the red block") for row in (3, 9, 25)]
    seeds = [5, 6, 2**62 + 3]
    beside = open_beside(copy, PLAIN, embodiment_of(dataset.meta))["LeRobot float32"]
    np.testing.assert_allclose(beside.predict(seen, seeds=seeds), ours.predict(seen, seeds=seeds), rtol=0, atol=1e-5)
    check_policy(theirs, seen)
    act = write_checkpoint(tmp_path / "act", act_config())
    options = BenchOptions(str(bundle), against=("lerobot", str(act), "hold-state"), engine=("plain",), repeats=1,
                           dataset=tiny_dataset, device="cpu")  # fmt: skip
    document = bench(options)
    rows = {row["name"]: row for row in document["rows"]}
    assert list(rows) == ["plain", "LeRobot float32", "LeRobot as built", "act", "hold-state"]
    assert document["reference"] in ("LeRobot float32", "LeRobot as built")
    assert 0 < rows["LeRobot float32"]["sigma"] < 1e-4
    assert rows["act"]["sigma"] is None
    assert 0 < rows["act"]["network_p50_ms"] <= rows["act"]["total_p50_ms"]
    assert rows["act"]["memory_mb"] == pytest.approx(45, rel=0.1)
