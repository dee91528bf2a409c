"""Every kind of feature that LeRobot 0.6.1 itself writes: samples as LeRobot gives them, and every dataset verb."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.datasets import open_dataset

pytestmark = pytest.mark.oracle

FPS, LENGTHS = 10, (9, 11, 8)
HWC = ["height", "width", "channels"]
JOINTS = {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]}


def number(dtype: str, *shape: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "names": None}


def camera(dtype: str, *, depth: bool = False, first: bool = False) -> dict[str, Any]:
    shape, names = ((3, 48, 64), [HWC[2], *HWC[:2]]) if first else ((48, 64, 1 if depth else 3), HWC)
    return {"dtype": dtype, "shape": shape, "names": names, **({"info": {"is_depth_map": True}} if depth else {})}


def image(n: int) -> npt.NDArray[Any]:
    picture = np.full((48, 64, 3), 60 + 3 * (n % 40), np.uint8)
    picture[10:22, 3 * n % 50 : 3 * n % 50 + 12] = (220, 40, 40)
    return picture


def depth(n: int) -> npt.NDArray[Any]:
    y, x = np.mgrid[:48, :64]
    return (600 + 300 * np.sin((x + n) / 20) + 2 * y).astype(np.uint16)[..., None]


NUMBERS: dict[str, tuple[dict[str, Any], Callable[[int], Any]]] = {
    "flag": (number("bool", 1), lambda n: np.array([n % 3 == 0])),
    "flags": (number("bool", 2), lambda n: np.array([n % 2 == 0, True])),
    "int8": (number("int8", 1), lambda n: np.array([n], np.int8)),
    "uint8": (number("uint8", 3), lambda n: np.array([n, 1, 2], np.uint8)),
    "int32": (number("int32", 1), lambda n: np.array([n], np.int32)),
    "int64": (number("int64", 2), lambda n: np.array([n, -n])),
    "float16": (number("float16", 2), lambda n: np.array([n / 8, 1], np.float16)),
    "float64": (number("float64", 1), lambda n: np.array([n / 7])),
    "vector64": (number("float64", 4), lambda n: np.arange(4) * n / 3.0),
    "next.reward": (number("float32", 1), lambda n: np.array([n / 7], np.float32)),
    "observation.environment_state": (number("float32", 5), lambda n: np.full(5, n / 3, np.float32)),
    "one_by_one": (number("float32", 1, 1), lambda n: np.array([[n]], np.float32)),
    "matrix": (number("float32", 4, 4), lambda n: (np.eye(4) * n).astype(np.float32)),
    "whole_matrix": (number("int64", 2, 2), lambda n: np.array([[n, 1], [2, 3]])),
    "tensor3": (number("float32", 2, 3, 2), lambda n: (np.arange(12).reshape(2, 3, 2) * n).astype(np.float32)),
    "tensor4": (number("float64", 2, 2, 2, 2), lambda n: np.arange(16).reshape(2, 2, 2, 2) * n / 3.0),
    "subtask_index": (number("int64", 1), lambda n: np.array([n % 2])),
    "note": ({"dtype": "string", "shape": (1,), "names": None}, lambda n: f"frame {n}"),
}
LANGUAGE = {"dtype": "language", "shape": (1,), "names": None}
KINDS: dict[str, dict[str, tuple[dict[str, Any], Callable[[int], Any]]]] = {
    "numbers": NUMBERS,
    "images": {
        "observation.images.top": (camera("image"), image),
        "observation.images.mm": (camera("image", depth=True), depth),
        "observation.images.meters": (
            camera("image", depth=True),
            lambda n: (depth(n) / 1000).astype(np.float32),
        ),
    },
    "videos": {
        "observation.images.top": (camera("video", first=True), image),
        "observation.images.depth": (camera("video", depth=True), depth),
    },
    "language": {
        "observation.images.top": (camera("video"), image),
        "language_persistent": (LANGUAGE, lambda n: None),
        "language_events": (LANGUAGE, lambda n: None),
    },
}


def write(root: Path, kind: str) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {key: described for key, (described, _) in KINDS[kind].items()}
    dataset = LeRobotDataset.create(
        "test/kinds",
        fps=FPS,
        features={"observation.state": JOINTS, "action": JOINTS, **features},
        root=root,
        robot_type="toy",
    )
    count = 0
    for episode, length in enumerate(LENGTHS):
        for _ in range(length):
            state = np.sin(np.arange(3) + count / 5 + episode).astype(np.float32)
            frame = {"observation.state": state, "action": (state * 0.9).astype(np.float32)}
            frame |= {key: value(count) for key, (_, value) in KINDS[kind].items()}
            dataset.add_frame({**frame, "task": ("push", "pull")[episode % 2]})
            count += 1
        dataset.save_episode()
    dataset.finalize()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The dataset of a kind, written once by LeRobot."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    folder = tmp_path_factory.mktemp("kinds")

    def find(kind: str) -> Path:
        if not (folder / kind).exists():
            write(folder / kind, kind)
        return folder / kind

    return find


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_lerobot_but_for_what_is_left_out(
    written: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    root = written(kind)
    theirs = LeRobotDataset("test/kinds", root=root, video_backend="pyav")
    ours = open_dataset(root, chunk_size=1)
    expected_out = {
        key
        for key, (described, _) in KINDS[kind].items()
        if described["dtype"] == "language" or (described.get("info") or {}).get("is_depth_map")
    }
    assert set(ours.meta.left_out) == expected_out
    assert len(ours) == len(theirs)
    for i in (0, 12, len(ours) - 1):
        mine, other = ours[i], theirs[i]
        assert set(mine) - {"action_is_pad"} == set(other) - expected_out
        for key in set(other) - expected_out:
            value = mine[key][0] if key == "action" else mine[key]
            if isinstance(other[key], str):
                assert value == other[key]
                continue
            assert value.dtype == other[key].dtype, key
            assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("kind", KINDS)
def test_every_dataset_verb_takes_it(
    written: Callable[[str], Path], kind: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    root, out = str(written(kind)), tmp_path
    commands = [
        ["info", root],
        ["stats", root],
        ["stats", root, "--recompute"],
        ["check", root],
        ["repair", root, str(out / "repaired")],
        ["convert", root, str(out / "v21"), "--to", "v2.1"],
        ["convert", str(out / "v21"), str(out / "v30"), "--to", "v3.0"],
        ["compare", root, str(out / "v30")],
        ["exclude", root, str(out / "fewer"), "--episodes", "1"],
        ["split", root, str(out / "parts"), "--parts", "a=0", "b=1-2"],
        ["merge", str(out / "merged"), root, str(out / "fewer")],
        ["tasks", root],
        ["tasks", root, str(out / "renamed"), "--rename", "0=push it"],
        ["view", root, "--no-check", "--out", str(out / "page")],
    ]
    failed = {}
    for command in commands:
        code = main(["dataset", *command])
        said = capsys.readouterr()
        if code:
            failed[" ".join(command[:1] + command[2:])] = (said.out + said.err)[-500:]
    assert main(["preflight", "--dataset", root]) == 0
    assert not failed
    for name in ("v21", "v30", "fewer", "merged", "renamed"):
        copied = open_dataset(out / name)
        assert copied.meta.left_out == open_dataset(root).meta.left_out
        assert copied.meta.features.keys() == open_dataset(root).meta.features.keys()
