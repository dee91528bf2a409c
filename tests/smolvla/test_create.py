"""New policies and parents made ready for another robot."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from smolpilot.common.errors import ProfileError, TransformError, UsageError
from smolpilot.datasets import DatasetMeta, DatasetWriter, open_dataset
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import Policy, SmolVLA, adapt_policy, load_policy, new_policy, save_bundle
from smolpilot.smolvla.checkpoint.weights import widen_weights

from .helpers_transforms import tiny_config


def record(
    path: Path, joints: list[str], cameras: tuple[str, ...] = ("front",), task: str = "reach", robot: str = "toy"
) -> DatasetMeta:
    rng = np.random.default_rng(len(joints))
    sizes = dict.fromkeys(cameras, (48, 64))
    with DatasetWriter(
        path, fps=10, state_names=joints, action_names=joints, cameras=sizes, robot_type=robot
    ) as writer:
        for _ in range(2):
            for _ in range(14):
                images = {f"observation.images.{name}": np.full((48, 64, 3), 90, np.uint8) for name in cameras}
                values = rng.normal(size=(2, len(joints))).astype(np.float32)
                writer.add_frame({"observation.state": values[0], "action": values[1], **images, "task": task})
            writer.end_episode()
    return open_dataset(path).meta


@pytest.fixture(scope="module")
def meta(tmp_path_factory: pytest.TempPathFactory) -> DatasetMeta:
    return record(tmp_path_factory.mktemp("three") / "data", ["a", "b", "c"], ("front", "wrist"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> DatasetMeta:
    return record(tmp_path_factory.mktemp("wide") / "data", [f"j{i}" for i in range(43)], robot="humanoid")


@pytest.fixture
def parent(meta: DatasetMeta) -> Policy:
    return new_policy("tiny", meta=meta, seed=1, device="cpu")


class TestNew:
    def test_features_come_from_the_dataset(self, parent: Policy, meta: DatasetMeta) -> None:
        assert parent.config.state_dim == parent.config.action_dim == 3
        assert parent.config.image_shapes == {"front": (3, 48, 64), "wrist": (3, 48, 64)}
        assert parent.instructions == ["reach"]
        assert parent.n_action_steps == 10
        assert parent.lineage["dataset"]["fingerprint"] == meta.fingerprint
        assert parent.profile is not None
        assert [joint.name for joint in parent.profile.joints] == ["a", "b", "c"]

    def test_same_seed_same_weights(self, meta: DatasetMeta) -> None:
        one, two, other = (new_policy("tiny", meta=meta, seed=seed, device="cpu").model for seed in (5, 5, 6))
        assert torch.equal(one.state_proj.weight, two.state_proj.weight)
        assert not torch.equal(one.state_proj.weight, other.state_proj.weight)

    def test_everything_is_trained_in_tiny(self, parent: Policy) -> None:
        assert parent.report.trainable > 0.9 * parent.report.parameters
        assert parent.report.parameters < 2_000_000

    def test_more_than_32_joints(self, wide: DatasetMeta) -> None:
        policy = new_policy("tiny", meta=wide, seed=0, device="cpu")
        assert policy.config.max_action_dim == 48
        assert policy.model.state_proj.in_features == 48

    def test_smolvla_needs_a_tokenizer(self, meta: DatasetMeta) -> None:
        with pytest.raises(UsageError, match="--tokenizer"):
            new_policy("smolvla", meta=meta)

    def test_long_instructions_find_room_in_the_byte_tokenizer(self, tmp_path: Path) -> None:
        meta = record(tmp_path / "data", ["a"], task="put the very small red block into the large blue box on the left")
        policy = new_policy("tiny", meta=meta, device="cpu")
        assert policy.config.tokenizer_max_length == 80
        assert policy.predict_chunk(
            {
                "observation.state": np.zeros(1),
                "observation.images.front": np.zeros((48, 64, 3), np.uint8),
                "task": meta.tasks[0],
            }
        ).shape == (12, 1)

    def test_profile_reorders_statistics_by_name(self, meta: DatasetMeta) -> None:
        joints = [{"name": n, "unit": "deg", "position_limits": None, "velocity_limit": None} for n in ("c", "a", "b")]
        robot = RobotProfile.model_validate({"name": "r", "description": "d", "rate": 10, "joints": joints})
        policy = new_policy("tiny", meta=meta, profile=robot, device="cpu")
        recorded = meta.statistics["action"]["mean"]
        np.testing.assert_array_equal(policy.statistics["action"]["mean"], recorded[[2, 0, 1]])

    def test_unknown_camera_or_joint_of_the_profile(self, meta: DatasetMeta, parent: Policy) -> None:
        assert parent.profile is not None
        cameras = [camera.model_copy(update={"name": f"{camera.name}_2"}) for camera in parent.profile.cameras]
        with pytest.raises(ProfileError, match="front"):
            new_policy("tiny", meta=meta, profile=parent.profile.model_copy(update={"cameras": cameras}))
        joints = [joint.model_copy(update={"name": f"{joint.name}2"}) for joint in parent.profile.joints]
        with pytest.raises(ProfileError, match=r"3 joints \(a, b, c\)"):
            new_policy("tiny", meta=meta, profile=parent.profile.model_copy(update={"joints": joints}))

    @pytest.mark.parametrize(
        ("camera_map", "words"),
        [
            ({"front": "x"}, "says nothing about the dataset's camera 'wrist'"),
            ({"front": "x", "wrist": "x"}, "both mapped"),
            ({"front": "x", "wrist": None, "top": "y"}, "does not have"),
            ({"front": None, "wrist": None}, "uses no camera"),
        ],
    )
    def test_camera_maps(self, meta: DatasetMeta, camera_map: dict[str, str | None], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            new_policy("tiny", meta=meta, camera_map=camera_map)

    def test_unknown_override(self, meta: DatasetMeta) -> None:
        with pytest.raises(UsageError, match="chunk_size"):
            new_policy("tiny", meta=meta, overrides={"chunk_sise": 3})


class TestAdapt:
    def test_dims_and_cameras_follow_the_new_dataset(self, parent: Policy, wide: DatasetMeta, tmp_path: Path) -> None:
        before = {name: value.clone() for name, value in parent.model.state_dict().items()}
        child = adapt_policy(parent, meta=wide, statistics=wide.statistics)
        assert (child.config.state_dim, child.config.max_state_dim) == (43, 48)
        assert child.config.cameras == ["front"]
        assert torch.equal(child.model.state_proj.weight[:, :32], before["state_proj.weight"])
        assert torch.equal(child.model.action_out_proj.weight[:32], before["action_out_proj.weight"])
        notes = "\n".join(child.report.notes)
        assert "action projection widened from 32 to 48" in notes
        assert "slot 'wrist' of the policy stays empty" in notes
        assert child.lineage["parent"]["dataset"] == parent.lineage["dataset"]
        assert child.lineage["dataset"]["fingerprint"] == wide.fingerprint
        again = load_policy(save_bundle(child, tmp_path / "child"), device="cpu")
        assert again.config.max_action_dim == 48

    def test_parents_statistics_are_kept_and_matched_by_name(self, parent: Policy, tmp_path: Path) -> None:
        other = record(tmp_path / "data", ["c", "a", "b"], ("front", "wrist"))
        child = adapt_policy(parent, meta=other)
        given = parent.statistics["action"]["mean"]
        np.testing.assert_array_equal(child.statistics["action"]["mean"], given[[2, 0, 1]])

    def test_parents_statistics_of_other_joints_are_refused(self, parent: Policy, wide: DatasetMeta) -> None:
        with pytest.raises(TransformError, match="--norm-stats dataset"):
            adapt_policy(parent, meta=wide)

    def test_given_camera_map_keeps_the_parents_slots(self, parent: Policy, tmp_path: Path) -> None:
        other = record(tmp_path / "data", ["a", "b", "c"], ("top", "hand"))
        child = adapt_policy(parent, meta=other, camera_map={"top": "front", "hand": "wrist"})
        assert child.config.cameras == ["front", "wrist"]
        assert child.transforms.camera_map == {"top": "front", "hand": "wrist"}

    def test_same_weights_same_chunk(self, parent: Policy, meta: DatasetMeta) -> None:
        noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
        frame = {
            "observation.state": np.zeros(3),
            "observation.images.front": np.full((48, 64, 3), 7, np.uint8),
            "observation.images.wrist": np.full((48, 64, 3), 9, np.uint8),
            "task": "reach",
        }
        expected = parent.predict_chunk(frame, noise)
        assert torch.equal(adapt_policy(parent, meta=meta).predict_chunk(frame, noise), expected)

    def test_adapting_makes_room_for_long_instructions(self, parent: Policy, tmp_path: Path) -> None:
        text = "put the very small red block into the large blue box on the left"
        child = adapt_policy(parent, meta=record(tmp_path / "data", ["a", "b", "c"], ("front", "wrist"), task=text))
        assert (parent.config.tokenizer_max_length, child.config.tokenizer_max_length) == (48, 80)

    def test_architecture_cannot_be_overridden(self, parent: Policy, meta: DatasetMeta) -> None:
        with pytest.raises(UsageError, match="num_vlm_layers"):
            adapt_policy(parent, meta=meta, overrides={"num_vlm_layers": 2})


def test_widened_network_computes_the_same_on_the_old_joints() -> None:
    config = tiny_config(30, 32)
    wider = dataclasses.replace(config, max_state_dim=56, max_action_dim=40)
    old, new = SmolVLA(config), SmolVLA(wider)
    old.initialize(torch.Generator().manual_seed(0))
    new.load_state_dict(widen_weights(old.state_dict(), config, wider))
    from .helpers_transforms import frame, statistics, transforms

    inputs = transforms(config, statistics(30, 32)).inputs([frame(30)])
    padded = dataclasses.replace(inputs, state=torch.nn.functional.pad(inputs.state, (0, 24), value=3.0))
    noise = torch.randn(1, 12, 40, generator=torch.Generator().manual_seed(0))
    expected = old.sample(inputs, noise[..., :32])
    torch.testing.assert_close(new.sample(padded, noise)[..., :32], expected, rtol=0, atol=1e-6)


def test_gradients_reach_the_added_columns() -> None:
    config = tiny_config(40, 40, max_state_dim=40, max_action_dim=40)
    narrow = dataclasses.replace(config, state_dim=32, action_dim=32, max_state_dim=32, max_action_dim=32)
    old = SmolVLA(narrow)
    old.initialize(torch.Generator().manual_seed(0))
    new = SmolVLA(config)
    new.load_state_dict(widen_weights(old.state_dict(), narrow, config))
    from .helpers_transforms import frame, statistics, transforms

    chunk = np.random.default_rng(0).normal(size=(12, 40))
    new.loss(transforms(config, statistics(40, 40)).inputs([frame(40, action=chunk)])).backward()
    for weight in (new.state_proj.weight[:, 32:], new.action_out_proj.weight[32:]):
        assert weight.abs().max() == 0
    assert new.state_proj.weight.grad is not None
    assert new.state_proj.weight.grad[:, 32:].abs().max() > 0
    assert new.action_in_proj.weight.grad is not None
    assert new.action_in_proj.weight.grad[:, 32:].abs().max() > 0
    assert new.action_out_proj.weight.grad is not None
    assert new.action_out_proj.weight.grad[32:].abs().max() > 0
