"""--camera-map in every verb that pairs cameras with a policy; the order in which the network sees them, by actions."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from smolpilot.cli.main import main
from smolpilot.common.errors import ProfileError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.environments.tabletop import TabletopEnv
from smolpilot.robots import RobotProfile
from smolpilot.smolvla import Policy, adapt_policy, load_policy, new_policy, save_bundle, seal_bundle

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = {"chunk_size": 4, "n_action_steps": 2, "num_steps": 2}
TYPED = ["--camera-map", "top=camera2", "side=camera1"]
SAID = "side -> camera1, top -> camera2"
TEXTS = ("config.json", "policy_preprocessor.json", "policy_postprocessor.json")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short episodes of the tabletop."""
    path = tmp_path_factory.mktemp("data") / "tabletop"
    env = TabletopEnv()
    names = [joint.name for joint in RobotProfile.load("tabletop").joints]
    sizes = {"top": (64, 64), "side": (64, 64)}
    with DatasetWriter(path, fps=10, state_names=names, action_names=names, cameras=sizes) as writer:
        for episode in range(2):
            frame, _ = env.reset(seed=episode)
            start = frame[STATE]
            for step in range(6):
                action = start + np.float32(0.05 * np.sin(step + episode))
                writer.add_frame({**frame, ACTION: action})
                frame, *_ = env.step(action)
            writer.end_episode()
    return path


@pytest.fixture(scope="module")
def bundle(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    profile = RobotProfile.load("tabletop")
    policy = new_policy(
        "tiny", meta=open_dataset(recording).meta, profile=profile, overrides=SMALL, seed=5, device="cpu"
    )
    for parameter in policy.model.parameters():
        # Wide enough that another order of the cameras is another action.
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return save_bundle(policy, tmp_path_factory.mktemp("bundles") / "bundle")


def lerobots(bundle: Path, folder: Path, slots: dict[str, str], rename: dict[str, str] | None = None) -> Path:
    """The policy as LeRobot saves it, with other names of the slots, and the rename map of its training inside."""
    shutil.copytree(bundle, folder)
    (folder / "smolpilot.json").unlink()
    for name in TEXTS:
        text = (folder / name).read_text()
        for old, new in slots.items():
            text = text.replace(f'"observation.images.{old}"', f'"{new}"')
        (folder / name).write_text(text)
    values = json.loads((folder / "policy_preprocessor.json").read_text())
    keys = {f"observation.images.{camera}": f"observation.images.{slot}" for camera, slot in (rename or {}).items()}
    values["steps"][0]["config"]["rename_map"] = keys
    (folder / "policy_preprocessor.json").write_text(json.dumps(values))
    return folder


NUMBERED = {"top": "observation.images.camera1", "side": "observation.images.camera2"}


def verbs(policy: Path, recording: Path, out: Path) -> dict[str, list[str]]:
    data = ["--dataset", str(recording)]
    return {
        "eval": ["eval", str(policy), *data, "--episodes", "1", "--max-frames", "2", "--out", str(out / "eval")],
        "preflight": ["preflight", *data, "--robot", "tabletop", "--policy", str(policy), "--json"],
        "train": ["train", *data, "--robot", "tabletop", "--policy", str(policy), "--steps", "1", "--batch-size", "2",
                  "--cache", "none", "--device", "cpu", "--workers", "0", "--norm-stats", "dataset", "--held-out", "0",
                  "--out", str(out / "run")],
        "export": ["export", str(policy), *data, "--frames", "1", "--out", str(out / "export")],
        "bench": ["bench", str(policy), *data, "--engine", "plain", "--repeats", "1", "--device", "cpu"],
        "rollout": ["rollout", str(policy), "--episodes", "1", "--video-episodes", "0", "--device", "cpu",
                    "--out", str(out / "rollout")],
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["eval", "preflight", "train", "export", "bench", "rollout"])
def test_every_verb_asks_for_the_map_and_prints_the_one_it_got(
    verb: str, recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = lerobots(bundle, tmp_path / "policy", NUMBERED)
    args = verbs(policy, recording, tmp_path)[verb]
    assert main(args) == (1 if verb == "preflight" else 2)
    asked = "".join(capsys.readouterr())
    assert "No name says which camera fills which slot" in asked
    assert "--camera-map top=camera1 side=camera2" in asked
    assert main([*args, "--camera-map", "top=camera2", "side=camra1"]) == (1 if verb == "preflight" else 2)
    assert "Did you mean 'camera1'" in "".join(capsys.readouterr())
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]  # nothing half-made
    if verb != "train":  # below
        assert main([*args, *TYPED]) == 0
        assert SAID in "".join(capsys.readouterr())


def chunk(policy: Policy, recording: Path) -> torch.Tensor:
    """Of a recorded frame, with fixed noise."""
    frame = open_dataset(recording, chunk_size=4)[3]
    noise = torch.randn(4, policy.config.max_action_dim, generator=torch.Generator().manual_seed(0))
    return policy.predict_chunk({key: frame[key] for key in frame if key.startswith("observation.")} |
                                {"task": frame["task"]}, noise)  # fmt: skip


@pytest.mark.parametrize("own", [False, True])
def test_a_parents_camera_order_is_its_childs(
    own: bool, recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LeRobot's rename map, or the camera map of our own bundle: the child sees the same views in the same places."""
    folder = lerobots(bundle, tmp_path / "lerobot", NUMBERED, rename={"top": "camera2", "side": "camera1"})
    parent = load_policy(folder, device="cpu")
    if own:
        folder = save_bundle(parent, tmp_path / "own")
        # Only our own map says it.
        values = json.loads((folder / "policy_preprocessor.json").read_text())
        values["steps"][0]["config"]["rename_map"] = {}
        (folder / "policy_preprocessor.json").write_text(json.dumps(values))
        seal_bundle(folder)
    args = verbs(folder, recording, tmp_path)["train"]
    args[args.index("--norm-stats") + 1] = "parent"
    assert main([*args, "--lr", "1e-12"]) == 0
    assert SAID in capsys.readouterr().out
    child = load_policy(tmp_path / "run", device="cpu")
    expected = chunk(parent, recording)
    torch.testing.assert_close(chunk(child, recording), expected, rtol=0, atol=1e-5)
    assert list(child.transforms_config.camera_map.items()) == [("side", "camera1"), ("top", "camera2")]
    exchanged = load_policy(folder, device="cpu", camera_map={"top": "camera1", "side": "camera2"})
    assert (chunk(exchanged, recording) - expected).abs().max() > 1e-3
    if not own:
        assert main(verbs(tmp_path / "run", recording, tmp_path)["preflight"]) == 0
        assert SAID in "".join(capsys.readouterr())


def test_one_camera_under_lerobots_names_needs_no_option(
    recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `observation.image` of PushT, which the dataset calls `image`: here `observation.side`."""
    policy = lerobots(bundle, tmp_path / "policy", {"side": "observation.side"})
    assert main(verbs(policy, recording, tmp_path)["export"]) == 0
    assert "top -> top, side -> observation.side" in capsys.readouterr().out
    child = adapt_policy(load_policy(policy, device="cpu"), meta=open_dataset(recording).meta)
    assert child.transforms_config.camera_map == {"top": "top", "side": "observation.side"}
    torch.testing.assert_close(chunk(child, recording), chunk(load_policy(bundle, device="cpu"), recording))
    values = json.loads((save_bundle(child, tmp_path / "child") / "config.json").read_text())
    assert "observation.side" in values["input_features"]  # LeRobot's own key stays


def test_a_dropped_camera_is_said(
    recording: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verbs(bundle, recording, tmp_path)["train"], "--camera-map", "top=top", "side=none"]) == 0
    assert "top -> top, side -> not used" in capsys.readouterr().out
    child = load_policy(tmp_path / "run", device="cpu")
    assert child.config.cameras == ["top"]
    # The child's own map leaves the camera out, too; its own child may get the slot back.
    assert main(verbs(tmp_path / "run", recording, tmp_path)["preflight"]) == 0
    assert "top -> top, side -> not used" in capsys.readouterr().out
    again = adapt_policy(child, meta=open_dataset(recording).meta, camera_map={"side": "new"})
    assert again.config.cameras == ["top", "side"]


def test_the_cameras_of_a_shipped_profile_are_an_example(recording: Path, bundle: Path, tmp_path: Path) -> None:
    """Names of cameras are the user's choice: a dataset with others trains, and the bundle says which it has."""
    meta = open_dataset(recording).meta
    profile = RobotProfile.load("tabletop")
    renamed = dataclasses.replace(meta, cameras={"laptop": meta.cameras["top"], "phone": meta.cameras["side"]})
    parent = load_policy(bundle, device="cpu")
    child = adapt_policy(parent, meta=renamed, profile=profile, camera_map={"laptop": "top", "phone": "side"})
    assert child.profile is not None
    assert child.profile.camera_names == ["laptop", "phone"]
    assert child.profile.joints == profile.joints
    mine = profile.model_copy(update={"name": "mine"})
    with pytest.raises(ProfileError, match="camera 'laptop'"):
        adapt_policy(parent, meta=renamed, profile=mine, camera_map={"laptop": "top", "phone": "side"})
