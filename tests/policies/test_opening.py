"""`open_policy`: which policy a text names, and what the options and the embodiment do to it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from smolpilot.common.errors import CheckpointError, SmolpilotError, TransformError, UsageError
from smolpilot.contracts import Embodiment, Policy, PolicyOptions
from smolpilot.datasets import open_dataset
from smolpilot.policies import open_policy
from smolpilot.policies import smolvla as factory
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.smolvla.create import randomize_weights

from ..helpers_packages import install_package

CPU = PolicyOptions(device="cpu")
STRANGER = """
from smolpilot.contracts import Policy, PolicySpec

class Echo(Policy):
    def __init__(self, source, options, embodiment):
        self.given = source, options, embodiment

    @property
    def spec(self):
        return PolicySpec("echo", 1, 1, chunk_size=4, n_action_steps=2)

def none(source, options, embodiment):
    return object()

class Loose:
    spec = predict = reset = close = "a text"
    def __init__(self, *given):
        pass
"""


@pytest.fixture(scope="module")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("saved") / "bundle")


@pytest.fixture(scope="module")
def frame(tiny_dataset: Path) -> dict[str, Any]:
    return dict(open_dataset(tiny_dataset)[3])


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"smolpilot.policies": {name: f"stranger_policies:{target}" for name, target in
                                     {"echo": "Echo", "none": "none", "loose": "Loose"}.items()}}  # fmt: skip
    monkeypatch.syspath_prepend(install_package(tmp_path / "package", "stranger_policies", STRANGER, points))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Which factory was asked for what, in place of opening it."""
    calls: list[tuple[str, Any]] = []
    for module, name in (("onnx", "open_onnx"), ("lerobot", "open_lerobot"), ("smolvla", "open_smolvla")):

        def made(source: Any, options: Any, embodiment: Any, kind: str = module) -> str:
            calls.append((kind, source))
            return kind

        monkeypatch.setitem(sys.modules, f"smolpilot.policies.{module}", SimpleNamespace(**{name: made}))
    return calls


def checkpoint(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"type": kind}))
    return folder


class TestWhatIsNamed:
    def test_a_bundle_and_the_run_above_it(self, saved: Path, tmp_path: Path, frame: dict[str, Any]) -> None:
        shutil.copytree(saved, tmp_path / "run" / "checkpoints" / "best")
        expected = load_policy(saved, device="cpu").predict([frame], seeds=[1])
        for place in (saved, tmp_path / "run"):
            policy = open_policy(str(place), CPU)
            assert isinstance(policy, Policy)
            assert policy.spec.facts.source == str(place)
            assert np.array_equal(policy.predict([frame], seeds=[1]), expected)

    def test_folders_by_their_files(self, asked: list[tuple[str, Any]], tmp_path: Path) -> None:
        act = checkpoint(tmp_path / "act" / "checkpoints" / "last" / "pretrained_model", "act")
        ours = checkpoint(tmp_path / "ours", "smolvla")
        export = tmp_path / "export"
        export.mkdir()
        (export / "policy.json").write_text("{}")
        adapter = tmp_path / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
        nameless = checkpoint(tmp_path / "nameless", "smolvla")
        (nameless / "config.json").write_text("{}")
        for source in (act.parents[2], act, ours, export, adapter, nameless):
            open_policy(str(source), CPU)
        assert asked == [
            ("lerobot", act.resolve()), ("lerobot", act.resolve()), ("smolvla", str(ours)), ("onnx", export),
            ("smolvla", str(adapter)), ("smolvla", str(nameless)),
        ]  # fmt: skip

    def test_a_hub_id_is_smolvla(self, asked: list[tuple[str, Any]]) -> None:
        open_policy("somebody/their_policy")
        assert asked == [("smolvla", "somebody/their_policy")]

    def test_a_name_with_and_without_a_source(self, stranger: None) -> None:
        body = Embodiment("the arm")
        assert open_policy("echo", CPU, body).given == ("", CPU, body)  # type: ignore[attr-defined]
        assert open_policy("echo:host:8000/a").given[0] == "host:8000/a"  # type: ignore[attr-defined]

    def test_a_folder_goes_before_a_name(
        self, stranger: None, asked: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint(tmp_path / "echo", "smolvla")
        monkeypatch.chdir(tmp_path)
        open_policy("echo")
        assert asked == [("smolvla", "echo")]
        assert open_policy("echo:").spec.name == "echo"

    def test_what_a_stranger_makes_is_looked_at(self, stranger: None) -> None:
        with pytest.raises(SmolpilotError, match=r"'none' makes is no policy: the object has no spec and no predict"):
            open_policy("none")
        with pytest.raises(SmolpilotError, match="'loose' makes is no policy: the Loose has a spec that is a str"):
            open_policy("loose")


class TestWhatIsNoPolicy:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (
                "hold-stat",
                r"at hold-stat, and no policy goes by that name[\s\S]*Did you mean 'hold-state'",
            ),
            ("hold-stat:x", r"Unknown policy 'hold-stat'\.\nFix: Did you mean 'hold-state'"),
            ("./runs/first", r"There is no checkpoint at \./runs/first\.[\s\S]*mean-action[\s\S]*check the path"),
            ("a\x00b", r"There is no checkpoint at a\\x00b\."),
            ("", r"No policy is named\.\nExpected: a checkpoint folder"),
        ],
    )
    def test_texts(self, source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match=message):
            open_policy(source)

    def test_folders_say_what_they_hold(self, tiny_dataset: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="holds no checkpoint: it is a LeRobot dataset"):
            open_policy(tiny_dataset)
        with pytest.raises(CheckpointError, match="holds no checkpoint: it is empty"):
            open_policy(tmp_path)
        for name in "edbca":
            (tmp_path / name).mkdir()
        with pytest.raises(CheckpointError, match="holds no checkpoint: it holds a, b, c and 2 more"):
            open_policy(tmp_path)
        (tmp_path / "policy.json").write_text("{}")
        with pytest.raises(CheckpointError, match="it is an ONNX export, which `load_policy` does not read"):
            load_policy(tmp_path)

    def test_files(self, saved: Path) -> None:
        with pytest.raises(UsageError, match=r"config.json is a file\."):
            open_policy(saved / "config.json")

    def test_damaged_files(self, tmp_path: Path) -> None:
        broken = checkpoint(tmp_path / "broken", "act")
        (broken / "config.json").write_text('{"type": "ac')
        with pytest.raises(CheckpointError, match=r"config.json is no valid JSON"):
            open_policy(broken)

    def test_nothing_heavy_is_loaded_for_an_error(self, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom smolpilot.policies import open_policy\n"
            "from smolpilot.common.errors import SmolpilotError\n"
            "for source in ('hold-stat', '.', './nothing'):\n"
            "    try: open_policy(source)\n    except SmolpilotError as error: print(type(error).__name__)\n"
            "print([name for name in ('torch', 'lerobot', 'onnxruntime') if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.split("\n")[:4] == ["UsageError", "CheckpointError", "UsageError", "[]"]


class TestSmolVLA:
    def test_cameras_are_paired_for_what_it_drives(self, saved: Path) -> None:
        body = Embodiment("the simulation", cameras=("front", "wrist", "ceiling"))
        facts = open_policy(saved, CPU, body).spec.facts
        assert facts.camera_map == {"front": "front", "wrist": "wrist", "ceiling": None}
        assert "the simulation's camera 'ceiling' is not used" in " ".join(facts.notes)
        swapped = PolicyOptions(device="cpu", camera_map={"front": "wrist", "wrist": "front"})
        for one in (Embodiment("the robot", cameras=("front", "wrist")), None):
            policy = open_policy(saved, swapped, one)
            assert policy.spec.facts.camera_map == {"wrist": "front", "front": "wrist"}
            assert policy.spec.cameras == ("wrist", "front")
        with pytest.raises(UsageError, match="No camera is mapped to slot 'wrist'; the robot has 'front'"):
            open_policy(saved, CPU, Embodiment("the robot", cameras=("front",)))
        with pytest.raises(UsageError, match=r"The robot has no camera\."):
            open_policy(saved, CPU, Embodiment("the robot"))

    def test_steps_and_untrained_weights(self, saved: Path, frame: dict[str, Any]) -> None:
        policy = open_policy(saved, PolicyOptions(device="cpu", num_steps=3, untrained=7))
        assert policy.spec.facts.num_steps == 3
        other = load_policy(saved, device="cpu")
        other.num_steps = 3
        trained = other.predict([frame], seeds=[0])
        randomize_weights(other, 7)
        found = policy.predict([frame], seeds=[0])
        assert np.array_equal(found, other.predict([frame], seeds=[0]))
        assert not np.array_equal(found, trained)

    def test_statistics_of_a_dataset(self, saved: Path, tiny_dataset: Path) -> None:
        policy = open_policy(saved, PolicyOptions(device="cpu", stats_from=tiny_dataset))
        assert policy.report.statistics["action"] == "dataset tiny"  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="There is no folder nowhere with a tokenizer"):
            open_policy(saved, PolicyOptions(device="cpu", tokenizer=Path("nowhere")))

    def test_by_the_engine(
        self, saved: Path, frame: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        body = Embodiment("the robot", cameras=("front", "wrist", "ceiling"))
        policy = open_policy(saved, PolicyOptions(device="cpu", engine="exact", num_steps=3), body)
        assert (policy.spec.name, policy.spec.facts.engine, policy.spec.facts.num_steps) == ("exact", "exact", 3)
        assert "'ceiling' is not used" in " ".join(policy.spec.facts.notes)
        plain = open_policy(saved, PolicyOptions(device="cpu", num_steps=3), body)
        assert np.array_equal(policy.predict([frame], seeds=[2]), plain.predict([frame], seeds=[2]))
        policy.close()

    def test_int8_is_calibrated_on_the_frames_of_the_caller(
        self, saved: Path, frame: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepared: list[dict[str, Any]] = []
        monkeypatch.setattr(factory, "prepare", lambda policy, **more: prepared.append({"policy": policy, **more}))
        asked: list[Policy] = []
        options = PolicyOptions(device="cpu", engine="int8", calibration=lambda policy: asked.append(policy) or [frame])
        open_policy(saved, options)
        assert asked[0].spec.cameras == ("front", "wrist")
        assert prepared == [{"policy": asked[0], "engine": "int8", "calibration": [frame]}]
        open_policy(saved, PolicyOptions(device="cpu", engine="fast", calibration=options.calibration))
        assert len(asked) == 1, "other modes need no frames"

    def test_options_that_make_no_sense(self, saved: Path) -> None:
        options: Any
        for options, error, message in [
            ({"engine": "fsat"}, UsageError, "There is no engine mode 'fsat'.\nFix: Did you mean 'fast'"),
            ({"engine": "fast", "untrained": 1}, UsageError, "--untrained replaces the plain network's weights"),
            ({"num_steps": 0}, UsageError, "num_steps is 0"),
            ({"device": "tpu"}, UsageError, "The device 'tpu' cannot be used here"),
            ({"camera_map": {"front": "wirst"}}, UsageError, "Did you mean 'wrist'"),
        ]:
            with pytest.raises(error, match=message):
                open_policy(saved, PolicyOptions(**{"device": "cpu", **options}))

    def test_a_profile_comes_from_the_checkpoint_only(self, saved: Path, tmp_path: Path) -> None:
        profile = load_policy(saved, device="cpu").profile
        bare = Path(shutil.copytree(saved, tmp_path / "bare"))
        for name in ("robot.yaml", "smolpilot.json"):
            (bare / name).unlink()
        body = Embodiment("the dataset", cameras=("front", "wrist"), profile=profile)
        spec = open_policy(bare, CPU, body).spec
        assert (spec.profile, spec.action_names, spec.action_units) == (None, (), ())
        assert spec.state_dim == 3

    def test_what_it_gives_fits_the_contract(self, saved: Path, frame: dict[str, Any]) -> None:
        policy = open_policy(saved, CPU)
        chunks = policy.predict([frame, frame], seeds=[0, 1])
        assert chunks.dtype == np.float32
        assert chunks.shape == (2, 12, 3)
        with pytest.raises(TransformError, match="lacks camera 'wrist'"):
            policy.predict([{key: value for key, value in frame.items() if not key.endswith("wrist")}])
        assert torch.is_grad_enabled()
