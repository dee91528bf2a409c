"""Which camera fills which slot: by the map that was typed, the policy's own, equal names, the only possibility."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.smolvla.transforms.camera_slots import TYPED, resolve_camera_map

from .helpers_transforms import frame, transforms

SLOTS = ["camera1", "camera2", "camera3"]


@pytest.mark.parametrize(
    ("cameras", "slots", "options", "expected"),
    [
        # Equal names, in the order of the slots.
        (["front", "wrist"], ["wrist", "front"], {}, {"wrist": "wrist", "front": "front"}),
        # LeRobot's names of one camera.
        (["image"], ["observation.image"], {}, {"image": "observation.image"}),
        (["observation.image"], ["image"], {}, {"observation.image": "image"}),
        (["image", "image2"], ["image2", "observation.image"], {}, {"image2": "image2", "image": "observation.image"}),
        # The policy's own map, which may exchange names, before equal names.
        (["a", "b"], ["a", "b"], {"saved": {"a": "b", "b": "a"}}, {"b": "a", "a": "b"}),
        (["front", "wrist"], ["camera1", "camera2"], {"saved": {"front": "camera2", "wrist": "camera1"}},
         {"wrist": "camera1", "front": "camera2"}),
        # A camera that the policy was trained without.
        (["front", "side"], ["front"], {"saved": {"front": "front", "side": None}}, {"front": "front", "side": None}),
        # What was typed comes first; the rest is as without it.
        (["front", "wrist"], ["front", "wrist"], {"given": {"front": "wrist", "wrist": "front"}},
         {"wrist": "front", "front": "wrist"}),
        (["front", "wrist"], ["camera1", "camera2"],
         {"saved": {"front": "camera2", "wrist": "camera1"}, "given": {"front": "camera1", "wrist": "camera2"}},
         {"front": "camera1", "wrist": "camera2"}),
        (["front", "wrist", "side"], ["front", "camera2"], {"given": {"side": "camera2", "wrist": None}},
         {"front": "front", "side": "camera2", "wrist": None}),
        (["front"], ["camera1"], {"given": {"front": "observation.images.camera1"}}, {"front": "camera1"}),
        # One possibility.
        (["front"], ["camera1"], {}, {"front": "camera1"}),
        (["front"], SLOTS, {"fine_tuning": True}, {"front": "camera1"}),
        (["front", "top"], ["front", "camera2"], {"fine_tuning": True}, {"front": "front", "top": "camera2"}),
        # More cameras than slots, or fewer when fine-tuning.
        (["front", "side"], ["front"], {}, {"front": "front", "side": None}),
        (["front", "side"], ["front"], {"fine_tuning": True}, {"front": "front", "side": None}),
        (["camera1", "camera3"], SLOTS, {"fine_tuning": True}, {"camera1": "camera1", "camera3": "camera3"}),
        (["front", "wrist"], SLOTS, {"fine_tuning": True, "given": {"front": "camera3", "wrist": "camera1"}},
         {"wrist": "camera1", "front": "camera3"}),
        # A further slot, only where it is asked for.
        (["front", "side"], ["front"], {"fine_tuning": True, "given": {"side": "new"}},
         {"front": "front", "side": "side"}),
        # A policy from scratch takes every name.
        (["front", "wrist"], None, {}, {"front": "front", "wrist": "wrist"}),
        (["front", "wrist"], None, {"given": {"front": "main", "wrist": None}}, {"front": "main", "wrist": None}),
    ],
)  # fmt: skip
def test_pairs(cameras: list[str], slots: list[str] | None, options: dict[str, Any], expected: dict[str, Any]) -> None:
    found = resolve_camera_map(cameras, slots, **options).map
    assert found == expected
    assert list(found) == list(expected)  # every verb prints the same line


@pytest.mark.parametrize(
    ("cameras", "slots", "options", "words", "fix"),
    [
        (["front", "wrist"], ["camera1", "camera2"], {}, "No name says which camera fills which slot",
         "--camera-map front=camera1 wrist=camera2"),
        (["front", "wrist"], SLOTS, {"fine_tuning": True}, "No name says", "--camera-map front=camera1 wrist=camera2"),
        (["a", "b", "c"], ["x", "y"], {}, "No name says", "--camera-map a=x b=y c=none"),
        (["front", "top", "side"], ["front", "camera2"], {}, "'top', 'side'", "front=front top=camera2 side=none"),
        (["top"], ["front"], {"saved": {"front": "front"}, "given": {"top": None}},
         "No camera is mapped to slot 'front'", "--camera-map"),
        (["front", "top"], ["front", "wrist"], {}, "'top'.*'wrist'", "--camera-map front=front top=wrist"),
        (["front", "wrist"], SLOTS, {}, "sees 3 cameras .*has 2", "smolpilot train"),
        (["front"], ["front", "wrist"], {}, "No camera is mapped to slot 'wrist'", "smolpilot train"),
        (["front", "wrist"], SLOTS, {"given": {"front": "camera3", "wrist": "camra1"}},
         "'camra1', which is no camera slot", "Did you mean 'camera1'"),
        (["front", "wrist"], SLOTS, {"given": {"wrist": "camra1"}, "fine_tuning": True}, "'camra1'", "wrist=new"),
        (["front"], ["camera1"], {"given": {"front": "new"}}, "'new', which is no camera slot", "front=camera1"),
        (["front", "wrist"], SLOTS, {"given": {"frnot": "camera1"}}, "names 'frnot', which the dataset does not have",
         "Did you mean 'front'"),
        (["a", "b"], ["x", "y"], {"given": {"a": "x", "b": "x"}}, "'a' and 'b' are both mapped to slot 'x'", "b=y"),
        (["a"], ["x"], {"given": {"a": "x", "observation.images.a": "x"}}, "names 'a' twice", "one slot"),
        (["a", "b"], ["x"], {"given": {"a": "x"}, "fine_tuning": True}, "says nothing about the dataset's camera 'b'",
         "b=new or b=none"),
        (["a"], ["x"], {"given": {"a": None}, "fine_tuning": True}, "uses no camera", "--camera-map"),
        (["a", "b"], None, {"given": {"a": "x"}}, "says nothing about the dataset's camera 'b'", "b=none"),
        (["a", "b"], None, {"given": {"a": "x", "b": "x"}}, "both mapped to slot 'x'", "slot"),
        ([], ["x"], {}, "The dataset has no camera", ""),
        (["a"], ["x", "y"], {"given": {"a": "x"}, "owner": TYPED}, "No camera is mapped to slot 'y'; the map has 'a'",
         "--camera-map CAMERA=SLOT for each of 'x', 'y'"),
    ],
)  # fmt: skip
def test_what_is_asked_or_refused(
    cameras: list[str], slots: list[str] | None, options: dict[str, Any], words: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        resolve_camera_map(cameras, slots, **options)
    assert fix in caught.value.fix


@pytest.mark.parametrize("fine_tuning", [False, True])
def test_the_map_that_a_fix_names_works(fine_tuning: bool) -> None:
    cameras = ["front", "wrist", "side", "top"]
    with pytest.raises(UsageError) as caught:
        resolve_camera_map(cameras, SLOTS, fine_tuning=fine_tuning)
    words = caught.value.fix.split("--camera-map ")[1].split(" (")[0].split()
    given = {camera: None if slot == "none" else slot for camera, slot in (word.split("=") for word in words)}
    found = resolve_camera_map(cameras, SLOTS, given=given, fine_tuning=fine_tuning)
    assert found.map == {"front": "camera1", "wrist": "camera2", "side": "camera3", "top": None}


@pytest.mark.parametrize(
    ("cameras", "slots", "options", "said"),
    [
        (["front", "side"], ["front"], {"fine_tuning": True}, "camera 'side' is not used"),
        (["front", "side"], ["front"], {}, "camera 'side' is not used"),
        (["front"], ["front", "wrist"], {"fine_tuning": True}, "slot 'wrist' of the policy stays empty"),
        (["top"], ["front"], {}, "'top' fills slot 'front', since there is one camera"),
        (["a"], ["b"], {"saved": {"a": "b"}}, "own camera map is kept"),
        (["a", "c"], ["b"], {"saved": {"a": "b", "c": None}}, "'c' is not used, as in the policy's own map"),
    ],
)
def test_what_was_decided_is_said(cameras: list[str], slots: list[str], options: dict[str, Any], said: str) -> None:
    found = resolve_camera_map(cameras, slots, **options)
    assert any(said in text for text in (*found.notes, *found.warnings))


def test_typing_the_result_gives_the_same() -> None:
    """What a run saves of its map (`config.yaml`) is a map that the next run can be given."""
    first = resolve_camera_map(
        ["front", "side", "top"], ["camera1"], given={"front": "camera1", "side": "new", "top": None}, fine_tuning=True
    )
    assert first.options == {"front": "camera1", "side": "new", "top": "none"}
    given = {camera: None if slot == "none" else slot for camera, slot in first.options.items()}
    again = resolve_camera_map(["front", "side", "top"], ["camera1"], given=given, fine_tuning=True)
    assert again.map == first.map
    # The child has the slot: there `new` is that one, not one more.
    child = resolve_camera_map(["front", "side", "top"], ["camera1", "side"], given=given, fine_tuning=True)
    assert (child.map, child.new) == (first.map, [])


@pytest.mark.parametrize("camera", ["observation.image", "image"])
@pytest.mark.parametrize("key", ["observation.image", "observation.images.image"])
def test_a_frame_may_spell_the_camera_either_way(camera: str, key: str) -> None:
    lists = transforms(camera_map={camera: "front", "wrist": "wrist"})
    given = frame()
    expected = transforms().inputs([given])
    given[key] = given.pop("observation.images.front")
    given[f"{key}_padding_mask"] = False
    found = lists.inputs([given])
    assert torch.equal(found.images, expected.images)
    assert found.image_masks.tolist() == [[False, True]]
    given["observation.image_2"] = given.pop(key)
    with pytest.raises(TransformError, match="lacks camera"):
        lists.inputs([given])
