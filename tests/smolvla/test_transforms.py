"""The transform list: what goes in, what comes back, what is refused."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smolpilot.common.errors import ProfileError, TransformError
from smolpilot.robots import Joint, JointLayout, RobotProfile
from smolpilot.robots.layout import FrameLayout, to_policy_order
from smolpilot.smolvla.transforms.instruction import UntrainedInstructionWarning
from smolpilot.smolvla.transforms.normalize import Normalizer

from .helpers_transforms import frame, statistics, tiny_config, transforms


def profile(names: list[str], units: list[Any] | None = None) -> RobotProfile:
    units = units or ["deg"] * len(names)
    joints = [
        Joint(name=name, unit=unit, position_limits=None, velocity_limit=None)
        for name, unit in zip(names, units, strict=True)
    ]
    return RobotProfile(name="toy", description="a toy", rate=10, joints=joints)


class TestWayThere:
    def test_shapes_and_types(self) -> None:
        inputs = transforms().inputs([frame(seed=i) for i in range(3)])
        assert inputs.images.shape == (3, 2, 3, 64, 64)
        assert inputs.image_masks.dtype == inputs.token_mask.dtype == torch.bool
        assert inputs.state.shape == (3, 32)
        assert inputs.tokens.dtype == torch.int64
        assert inputs.actions is None

    def test_state_is_normalized_then_padded_with_zeros(self) -> None:
        stats = statistics()
        one = frame()
        state = transforms(stats=stats).inputs([one]).state[0]
        expected = (one["observation.state"] - stats["observation.state"]["mean"]) / stats["observation.state"]["std"]
        np.testing.assert_allclose(state[:3], expected, rtol=1e-5)
        assert torch.equal(state[3:], torch.zeros(29))

    def test_targets_are_normalized_padded_and_come_back(self) -> None:
        chunk = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
        pad = torch.arange(12) > 8
        lists = transforms()
        inputs = lists.inputs([frame(action=chunk, action_is_pad=pad), frame(action=chunk)])
        assert inputs.actions is not None
        assert inputs.action_is_pad is not None
        assert inputs.actions.shape == (2, 12, 32)
        assert torch.equal(inputs.action_is_pad[0], pad)
        assert not inputs.action_is_pad[1].any()
        torch.testing.assert_close(lists.actions(inputs.actions)[1], torch.from_numpy(chunk), rtol=0, atol=1e-5)

    def test_letterbox_pads_top_and_left_with_black(self) -> None:
        one = frame()
        one["observation.images.front"] = torch.ones(3, 48, 64)
        image = transforms().inputs([one]).images[0, 0]
        assert torch.equal(image[:, :16], torch.full((3, 16, 64), -1.0))
        assert torch.equal(image[:, 16:], torch.ones(3, 48, 64))

    def test_uint8_image_equals_its_float_twin(self) -> None:
        raw = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        as_float = torch.from_numpy(raw).permute(2, 0, 1).float() / 255
        both = [frame() | {"observation.images.front": image} for image in (raw, as_float)]
        images = transforms().inputs(both).images
        assert torch.equal(images[0], images[1])

    def test_pictures_of_different_sizes_share_a_batch(self) -> None:
        small = frame() | {"observation.images.front": torch.rand(3, 30, 20)}
        images = transforms().inputs([frame(), small]).images
        assert torch.equal(images[1:], transforms().inputs([small]).images)

    def test_empty_cameras_come_last_masked_and_at_minus_one(self) -> None:
        shapes = {"empty_camera_0": (3, 48, 64), "front": (3, 48, 64), "wrist": (3, 48, 64)}
        config = tiny_config(empty_cameras=1)
        config = type(config)(**{**config.__dict__, "image_shapes": shapes})
        inputs = transforms(config).inputs([frame()])
        assert inputs.image_masks.tolist() == [[True, True, False]]
        assert torch.equal(inputs.images[0, 2], torch.full((3, 64, 64), -1.0))
        assert inputs.images[0, 0].max() > -1

    def test_camera_masked_per_sample_by_any_truth_value(self) -> None:
        frames = [
            frame() | {"observation.images.wrist_padding_mask": value} for value in (torch.tensor(0.0), 1, np.True_)
        ]
        assert transforms().inputs(frames).image_masks.tolist() == [[True, False], [True, True], [True, True]]

    def test_camera_map_puts_each_camera_into_its_slot(self) -> None:
        one = frame(cameras=("left", "right", "spare"))
        lists = transforms(camera_map={"right": "front", "left": "wrist", "spare": None})
        images = lists.inputs([one]).images[0]
        straight = transforms().inputs(
            [
                frame(
                    **{
                        "observation.images.front": one["observation.images.right"],
                        "observation.images.wrist": one["observation.images.left"],
                    }
                )
            ]
        )
        assert torch.equal(images, straight.images[0])

    def test_default_instruction_of_the_robot(self) -> None:
        robot = profile(["a", "b", "c"]).model_copy(update={"default_instruction": "touch it"})
        without = frame()
        del without["task"]
        lists = transforms(profile=robot)
        assert torch.equal(lists.inputs([without]).tokens, lists.inputs([frame()]).tokens)

    def test_list_survives_pickling(self) -> None:
        lists = transforms()
        again = pickle.loads(pickle.dumps(lists))
        assert torch.equal(again.inputs([frame()]).images, lists.inputs([frame()]).images)

    def test_describe_names_every_transform_in_order(self) -> None:
        text = transforms().describe()
        names = [transform.name for transform in transforms()]
        assert names == ["joints", "cameras", "normalize", "pad", "instruction"]
        assert all(name in text for name in names)


class TestJointOrder:
    ROBOT = profile(["a", "b", "c"], ["deg", "deg", "m"])
    SOURCE = FrameLayout(
        JointLayout(("c", "a", "b"), ("m", "rad", "deg")), JointLayout(("c", "a", "b"), ("m", "rad", "deg"))
    )

    def test_frames_of_another_order_and_unit_give_the_same_inputs(self) -> None:
        stats = statistics()
        own = np.array([90.0, 10.0, 0.2], dtype=np.float32)
        recorded = np.array([0.2, np.pi / 2, 10.0], dtype=np.float32)
        straight = transforms(stats=stats, profile=self.ROBOT)
        mapped = straight.for_source(self.SOURCE)
        ours = straight.inputs([frame() | {"observation.state": own}]).state
        theirs = mapped.inputs([frame() | {"observation.state": recorded}]).state
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)

    def test_actions_come_back_in_the_source_order_and_unit(self) -> None:
        lists = transforms(profile=self.ROBOT)
        chunk = torch.randn(2, 12, 32)
        own, back = lists.actions(chunk), lists.for_source(self.SOURCE).actions(chunk)
        expected = torch.stack([own[..., 2], torch.deg2rad(own[..., 0]), own[..., 1]], dim=-1)
        torch.testing.assert_close(back, expected, rtol=1e-5, atol=1e-6)

    def test_statistics_move_with_the_joints(self) -> None:
        stats = statistics()
        moved = to_policy_order(stats, self.SOURCE, self.ROBOT)["action"]
        given = stats["action"]
        np.testing.assert_allclose(moved["std"][2], given["std"][0])
        np.testing.assert_allclose(moved["std"][0], np.rad2deg(given["std"][1]))
        np.testing.assert_allclose(moved["mean"][1], given["mean"][2])

    def test_unknown_joint_is_refused(self) -> None:
        source = FrameLayout(JointLayout(("a", "b", "elbow")), JointLayout(("a", "b", "c")))
        with pytest.raises(ProfileError, match="elbow"):
            transforms(profile=self.ROBOT).for_source(source)

    def test_profile_of_another_size_is_refused(self) -> None:
        with pytest.raises(ProfileError, match="2 state and 2 action"):
            transforms(profile=profile(["a", "b"]))


class TestRefusals:
    @pytest.mark.parametrize(
        ("image", "words"),
        [
            (torch.rand(3, 8, 8) * 255, "divide it by 255"),
            (torch.rand(3, 8, 8) * 2 - 1, "normalization"),
            (torch.full((3, 8, 8), float("nan")), "nan"),
            (torch.rand(8, 8, 3), "permute"),
            (torch.randint(0, 255, (3, 8, 8), dtype=torch.uint8), r"\[h, w, 3\]"),
            (torch.randint(0, 255, (8, 8, 3)), "int64"),
            (torch.rand(1, 3, 8, 8), r"\[1, 3, 8, 8\]"),
            (torch.rand(1, 8, 8), r"\[1, 8, 8\]"),
            ("image.png", "str"),
        ],
    )
    def test_images(self, image: object, words: str) -> None:
        with pytest.raises(TransformError, match=words) as caught:
            transforms().inputs([frame() | {"observation.images.front": image}])
        assert "camera 'front'" in str(caught.value)

    def test_missing_and_unknown_camera_are_both_named(self) -> None:
        with pytest.raises(TransformError) as caught:
            transforms().inputs([frame(cameras=("front", "wirst"))])
        assert "lacks camera 'wrist'" in str(caught.value)
        assert "camera 'wirst', which the policy does not know" in str(caught.value)

    def test_nan_names_the_joint(self) -> None:
        bad = frame() | {"observation.state": np.array([0, np.nan, 0], dtype=np.float32)}
        with pytest.raises(TransformError, match="'b'"):
            transforms(profile=profile(["a", "b", "c"])).inputs([bad])
        with pytest.raises(TransformError, match="dimension 1"):
            transforms().inputs([bad])

    def test_infinite_action_names_the_joint(self) -> None:
        chunk = torch.zeros(12, 3)
        chunk[4, 2] = torch.inf
        with pytest.raises(TransformError, match=r"infinite for joint dimension 2"):
            transforms().inputs([frame(action=chunk)])

    @pytest.mark.parametrize("feature", ["observation.state", "action"])
    @pytest.mark.parametrize("statistic", ["mean", "std"])
    def test_missing_statistic(self, feature: str, statistic: str) -> None:
        stats = statistics()
        del stats[feature][statistic]
        with pytest.raises(TransformError, match="--policy-stats-from") as caught:
            transforms(stats=stats)
        assert feature in str(caught.value)
        assert statistic in str(caught.value)

    def test_statistics_under_another_name_do_not_pass_through(self) -> None:
        stats = statistics()
        stats["so100.buffer.action"] = stats.pop("action")
        with pytest.raises(TransformError, match="--policy-stats-from"):
            transforms(stats=stats)

    def test_statistics_of_another_size_or_not_finite(self) -> None:
        with pytest.raises(TransformError, match="has 4 values"):
            transforms(stats=statistics(4, 3))
        stats = statistics()
        stats["action"]["std"][1] = np.inf
        with pytest.raises(TransformError, match="std of 'action' is infinite for joint 1"):
            transforms(stats=stats)

    @pytest.mark.parametrize(
        ("camera_map", "words"),
        [
            ({"front": "front"}, "No camera is mapped to slot 'wrist'"),
            ({"front": "front", "wrist": "wirst"}, "Did you mean 'wrist'"),
            ({"front": "front", "wrist": "wrist", "side": "wrist"}, "both mapped to slot 'wrist'"),
            ({}, "No camera is mapped"),
        ],
    )
    def test_camera_maps(self, camera_map: dict[str, str], words: str) -> None:
        with pytest.raises(TransformError, match=words):
            transforms(camera_map=camera_map)

    def test_frame_without_state_or_task(self) -> None:
        for key in ("observation.state", "task"):
            lacking = frame()
            del lacking[key]
            with pytest.raises(TransformError, match=key):
                transforms().inputs([lacking])

    def test_state_of_wrong_size(self) -> None:
        with pytest.raises(TransformError, match="has 4 values"):
            transforms().inputs([frame(state=4)])
        with pytest.raises(TransformError, match=r"shape \[1, 3\]"):
            transforms().inputs([frame() | {"observation.state": np.zeros((1, 3))}])

    def test_chunk_of_wrong_length_says_how_to_open_the_dataset(self) -> None:
        with pytest.raises(TransformError, match="chunk_size=12"):
            transforms().inputs([frame(action=np.zeros((50, 3)))])

    def test_one_frame_in_place_of_a_list(self) -> None:
        with pytest.raises(TransformError, match=r"inputs\(\[frame\]\)"):
            transforms().inputs(frame())  # type: ignore[arg-type]

    def test_image_normalization_is_refused_by_name(self) -> None:
        config = tiny_config(normalization_mapping={"VISUAL": "MEAN_STD", "STATE": "IDENTITY", "ACTION": "IDENTITY"})
        with pytest.raises(TransformError, match="MEAN_STD"):
            transforms(config)

    def test_more_joints_than_the_policy_takes(self) -> None:
        with pytest.raises(TransformError, match="max_state_dim"):
            transforms(tiny_config(state=33))


class TestInstruction:
    def test_untrained_instruction_warns_once_with_the_nearest(self) -> None:
        lists = transforms(instructions=["touch the red block", "open the drawer"])
        with pytest.warns(UntrainedInstructionWarning, match="touch the red block"):
            lists.inputs([frame(task="touch the blue block")])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lists.inputs([frame(task="touch the blue block")])
            lists.inputs([frame(task="open the drawer\n")])

    def test_empty_and_overlong_instructions_are_refused(self) -> None:
        for text, words in (
            ("", "instruction is ''"),
            ("  ", "instruction is '  '"),
            (None, "no 'task'"),
            (3, "instruction is 3"),
        ):
            with pytest.raises(TransformError, match=words):
                transforms().inputs([frame(task=text)])
        with pytest.raises(TransformError, match="at most 48"):
            transforms(tiny_config(tokenizer_max_length=48)).inputs([frame(task="x" * 48)])


MODES = st.sampled_from(["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10"])


@st.composite
def _feature(draw: st.DrawFn) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    """Statistics of 1 to 64 joints of any size, some constant, and values within a few sigmas."""
    dim = draw(st.integers(1, 64))
    finite: Any = {"allow_nan": False, "allow_infinity": False}
    mean = draw(hnp.arrays(np.float64, dim, elements=st.floats(-1e4, 1e4, **finite)))
    std = draw(hnp.arrays(np.float64, dim, elements=st.one_of(st.just(0.0), st.floats(1e-6, 1e4, **finite))))
    sigmas = draw(hnp.arrays(np.float64, (3, dim), elements=st.floats(-4, 4, **finite)))
    low, high = mean - 3 * std, mean + 3 * std
    stats = {"mean": mean, "std": std, "min": low, "max": high, "q01": low, "q99": high, "q10": low, "q90": high}
    return stats, mean + sigmas * std


@settings(max_examples=150, deadline=None)
@given(data=_feature(), mode=MODES)
def test_normalization_round_trip(data: tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]], mode: str) -> None:
    """Within 1e-5 of the scale of a joint: the largest of its value, mean, std and 1e-2."""
    stats, values = data
    normalizer = Normalizer("action", mode, {"action": stats}, values.shape[-1])
    there = normalizer.forward(torch.from_numpy(values).float())
    back = normalizer.backward(there)
    scale = np.maximum.reduce(
        [np.abs(values).max(axis=0), np.abs(stats["mean"]), stats["std"], np.full(len(stats["std"]), 1e-2)]
    )
    assert torch.isfinite(there).all()
    assert (np.abs(back.numpy() - values) <= 1e-5 * scale).all()


@settings(max_examples=50, deadline=None)
@given(data=_feature(), mode=MODES, output=st.floats(-10, 10))
def test_constant_joint_returns_its_mean_whatever_the_network_says(
    data: tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]], mode: str, output: float
) -> None:
    stats, values = data
    constant = stats["std"] == 0
    normalizer = Normalizer("action", mode, {"action": stats}, values.shape[-1])
    back = normalizer.backward(torch.full((values.shape[-1],), output)).numpy()
    np.testing.assert_allclose(back[constant], stats["mean"][constant], rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(state=st.integers(1, 64), action=st.integers(1, 64), seed=st.integers(0, 100))
def test_padding_and_crop_for_any_number_of_joints(state: int, action: int, seed: int) -> None:
    config = tiny_config(state, action, max_state_dim=64, max_action_dim=64)
    lists = transforms(config, statistics(state, action, seed))
    chunk = np.random.default_rng(seed).normal(size=(12, action)).astype(np.float32)
    inputs = lists.inputs([frame(state, seed=seed, action=chunk)])
    assert inputs.actions is not None
    assert torch.equal(inputs.state[:, state:], torch.zeros(1, 64 - state))
    assert torch.equal(inputs.actions[..., action:], torch.zeros(1, 12, 64 - action))
    torch.testing.assert_close(lists.actions(inputs.actions)[0], torch.from_numpy(chunk), rtol=1e-5, atol=1e-5)
