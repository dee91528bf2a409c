"""A transform that somebody adds is put into the list once; what it leaves out is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.datasets import open_dataset
from smolpilot.robots import JointLayout
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla import Policy, adapt_policy, new_policy, save_bundle

from .helpers_new_transforms import Crop, DeltaActions, Politely, Silent, UpsideDown, turned, with_extra
from .helpers_transforms import frame, statistics, tiny_config, transforms
from .test_transforms import profile

ROOT = Path(__file__).parents[2]


def chunk(seed: int = 1) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32)


class TestNumbers:
    def test_differences_are_normalized_by_their_own_statistics_and_come_back(self) -> None:
        lists, one = transforms(extra=[DeltaActions(0.25)]), frame(action=chunk())
        inputs = lists.inputs([one])
        assert inputs.actions is not None
        apart = torch.from_numpy(chunk() - one["observation.state"])
        torch.testing.assert_close(inputs.actions[0, :, :3], apart / 0.25, rtol=1e-5, atol=1e-5)
        assert torch.equal(inputs.state, transforms().inputs([frame()]).state)
        back = lists.actions(inputs.actions, lists.states([one]))
        torch.testing.assert_close(back[0], torch.from_numpy(chunk()), rtol=1e-5, atol=1e-5)

    def test_states_and_a_leftover_alone_go_the_same_way(self) -> None:
        lists, one = transforms(extra=[DeltaActions()]), frame(action=chunk())
        inputs = lists.inputs([one])
        assert inputs.actions is not None
        assert torch.equal(lists.normalize(chunk()[4:], one["observation.state"]), inputs.actions[0, 4:])
        assert torch.equal(lists.state(one["observation.state"]), inputs.state)

    def test_it_works_in_the_policys_order_and_units_whatever_the_frames_have(self) -> None:
        robot = profile(["a", "b", "c"], ["deg", "deg", "m"])
        layout = JointLayout(("c", "a", "b"), ("m", "rad", "deg"))
        own = transforms(profile=robot, extra=[DeltaActions()])
        recorded = own.for_source(FrameLayout(layout, layout))
        state, rows = np.array([90.0, 10.0, 0.2], dtype=np.float32), 10 * chunk()

        def as_recorded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.stack([values[..., 2], np.deg2rad(values[..., 0]), values[..., 1]], axis=-1)

        straight = own.inputs([frame() | {"observation.state": state, "action": rows}])
        moved = frame() | {"observation.state": as_recorded(state), "action": as_recorded(rows)}
        inputs = recorded.inputs([moved])
        assert straight.actions is not None
        assert inputs.actions is not None
        torch.testing.assert_close(inputs.actions, straight.actions, rtol=1e-4, atol=1e-4)
        back = recorded.actions(inputs.actions, recorded.states([moved]))
        torch.testing.assert_close(back[0], torch.from_numpy(moved["action"]), rtol=1e-5, atol=1e-5)
        seen, _ = recorded.robot_numbers(recorded.states([moved]))
        torch.testing.assert_close(seen[0], torch.from_numpy(state), rtol=1e-5, atol=1e-5)

    def test_without_the_state_it_is_refused_by_name(self) -> None:
        lists = transforms(extra=[DeltaActions()])
        with pytest.raises(TransformError, match=r"'delta_actions' needs the state beside the actions"):
            lists.actions(torch.zeros(1, 12, 32))
        with pytest.raises(TransformError, match=r"'delta_actions' needs the state beside the actions"):
            lists.normalize(chunk())

    def test_changed_numbers_without_statistics_are_refused_by_name(self) -> None:
        with pytest.raises(TransformError, match=r"'silent'[\s\S]*implement Silent.statistics"):
            transforms(extra=[Silent()])

    def test_two_of_one_name_are_refused(self) -> None:
        with pytest.raises(TransformError, match="Two transforms have the name 'crop'"):
            transforms(extra=[Crop(), Crop()])


class TestPicturesAndTexts:
    def test_pictures_are_turned_before_the_letterbox_whatever_their_kind(self) -> None:
        lists = transforms(extra=[UpsideDown("front")])
        raw = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        small = torch.rand(3, 30, 20, generator=torch.Generator().manual_seed(0))
        for frames in ([frame()], [frame() | {"observation.images.front": raw}, frame(seed=1)],
                       [frame(), frame() | {"observation.images.front": small}]):  # fmt: skip
            expected = transforms().inputs([turned(one) for one in frames]).images
            assert torch.equal(lists.inputs(frames).images, expected)
            assert not torch.equal(expected, transforms().inputs(frames).images)

    def test_whole_arrays_of_bytes_are_frames_one_by_one(self) -> None:
        lists = transforms(extra=[UpsideDown("front"), Crop()])
        raw = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8))
        found = lists.image_bytes("front", raw)
        for i, image in enumerate(raw):
            one = lists.inputs([frame() | {"observation.images.front": image.numpy()}])
            assert torch.equal(found[i], one.images[0, 0])
        assert tuple(found.shape[:1:-1]) == lists.image_size((64, 48))

    def test_another_wording_becomes_tokens(self) -> None:
        found = transforms(extra=[Politely()]).inputs([frame()])
        assert torch.equal(found.tokens, transforms().inputs([frame(task="please touch it")]).tokens)
        with pytest.raises(TransformError, match="instruction is 3"):
            transforms(extra=[Politely()]).inputs([frame(task=3)])

    def test_slots_that_hold_no_image_are_masked_and_black(self) -> None:
        found = transforms().inputs([frame(cameras=("front",))], unseen=["wrist"])
        masked = transforms().inputs([frame() | {"observation.images.wrist_padding_mask": False}])
        assert torch.equal(found.image_masks, masked.image_masks)
        assert torch.equal(found.images[:, 0], masked.images[:, 0])
        assert torch.equal(found.images[:, 1], torch.full((1, 3, 64, 64), -1.0))


def test_its_place_is_behind_the_joints_and_before_the_cameras() -> None:
    lists = transforms(extra=[DeltaActions(), UpsideDown("wrist")])
    assert [transform.name for transform in lists] == [
        "joints", "delta_actions", "upside_down", "cameras", "normalize", "pad", "instruction",
    ]  # fmt: skip
    assert not lists.per_row
    again = pickle.loads(pickle.dumps(lists))
    actions = [one.inputs([frame(action=chunk())]).actions for one in (again, lists)]
    assert actions[0] is not None
    assert actions[1] is not None
    assert torch.equal(actions[0], actions[1])


def test_the_list_as_data() -> None:
    spec = transforms(tiny_config(), statistics(), extra=[UpsideDown("front")]).spec()
    assert json.loads(json.dumps(spec)) == spec
    assert spec["upside_down"] == {"name": "upside_down", "slots": ["front"]}
    assert spec["cameras"] == {"name": "cameras", "slots": ["front", "wrist"], "image_size": 64}
    assert spec["pad"] == {"name": "pad", "max_state_dim": 32, "max_action_dim": 32}
    assert spec["normalize"]["action"]["offset"] == pytest.approx(statistics()["action"]["mean"], rel=1e-6)
    with pytest.raises(UsageError, match=r"'politely' cannot be exported[\s\S]*implement Politely.spec"):
        transforms(extra=[Politely()]).spec()
    # Frames of another layout are mapped first, which no reader of the data would do.
    robot = profile(["a", "b", "c"])
    layout = JointLayout(("c", "a", "b"))
    with pytest.raises(UsageError, match="'joints' cannot be exported"):
        transforms(profile=robot).for_source(FrameLayout(layout, layout)).spec()


@pytest.fixture(scope="module")
def policy(tiny_dataset: Path) -> Policy:
    return new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")


class TestPolicy:
    def test_chunks_go_through_it(self, policy: Policy, tiny_dataset: Path) -> None:
        changed = with_extra(policy, DeltaActions(), UpsideDown("front"))
        dataset = open_dataset(tiny_dataset)
        one = dict(dataset[3])
        noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
        by_hand = turned({key: value for key, value in one.items() if key not in ("action", "action_is_pad")})
        sampled = policy.model.sample(policy.transforms.inputs([by_hand]), noise[None])
        expected = 0.5 * sampled[0, :, :3] + one["observation.state"]
        found = changed.predict_chunk(one, noise)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert (found - policy.predict_chunk(one, noise)).abs().max() > 1e-3
        both = changed.predict_chunks([one, dict(dataset[9])], torch.stack([noise, noise]))
        torch.testing.assert_close(both[0], expected, rtol=1e-5, atol=1e-5)

    def test_it_survives_other_cameras_and_is_not_lost_in_fine_tuning(self, policy: Policy, tiny_dataset: Path) -> None:
        changed = with_extra(policy, DeltaActions())
        changed.use_cameras({"wrist": "front", "front": "wrist"})
        assert not changed.transforms.per_row
        child = adapt_policy(
            changed, meta=open_dataset(tiny_dataset).meta, camera_map=changed.transforms_config.camera_map
        )
        assert [transform.name for transform in child.transforms_config.extra] == ["delta_actions"]

    def test_a_bundle_cannot_hold_a_transform_of_ones_own(self, policy: Policy, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="'upside_down' cannot be saved"):
            save_bundle(with_extra(policy, UpsideDown("front")), tmp_path / "bundle")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["letterbox(", "to_network_range", "max_action_dim", "max_state_dim", "tokenizer("])
def test_training_and_plugins_redo_nothing_of_the_list(word: str) -> None:
    files = [*(ROOT / "src" / "smolpilot" / "training").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    assert len(files) > 40
    assert [str(path) for path in files if word in path.read_text(encoding="utf-8")] == []
