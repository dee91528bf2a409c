"""Digests of a bundle: any damage is found and named, what changes one renews them, `seal` lets a change be."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import load_policy, new_policy, save_bundle
from smolpilot.smolvla.checkpoint.sealing import NoDigestsWarning

HEAD = "model.action_out_proj.weight"


@pytest.fixture(scope="module")
def saved(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, seed=3, device="cpu")
    return save_bundle(policy, tmp_path_factory.mktemp("sealed") / "bundle")


@pytest.fixture
def bundle(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def files(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


def flip(path: Path, place: float) -> None:
    """One bit, at a share of the file's length."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2))


def test_every_file_is_under_the_digests(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digests = json.loads((bundle / "smolpilot.json").read_text())["digests"]
    assert sorted(digests) == files(bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_policy(bundle, device="cpu").report.digests == f"{len(digests)} files, all as they were written"
    assert main(["bundle", str(bundle)]) == 0
    assert f"digests       {len(digests)} files" in capsys.readouterr().out


def test_a_flipped_bit_anywhere_is_refused_and_the_file_named(bundle: Path) -> None:
    """Start (a header), end (numbers), and places between, in every file."""
    for name in files(bundle):
        whole = (bundle / name).read_bytes()
        for place in (0.0, 0.6, 1.0):
            flip(bundle / name, place)
            if name == "smolpilot.json" and place == 1.0:  # its last byte is a line end: any space would do
                flip(bundle / name, 0.95)
            with pytest.raises(CheckpointError, match=Path(name).name.replace(".", r"\.")):
                load_policy(bundle, device="cpu")
            (bundle / name).write_bytes(whole)
    load_policy(bundle, device="cpu")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("smolpilot.json", "camera_map", {"front": "wrist", "wrist": "front"}),
        ("smolpilot.json", "instructions", ["touch the green block"]),
        ("smolpilot.json", "lineage", {}),
        ("config.json", "num_steps", 9),
        ("config.json", "n_action_steps", 3),
        ("vlm/tokenizer_config.json", "padding_side", "left"),
    ],
)
def test_values_that_would_load_are_refused(bundle: Path, name: str, key: str, value: object) -> None:
    edit(bundle / name, lambda values: values.update({key: value}))
    with pytest.raises(CheckpointError, match=rf"not as the bundle was written \(changed: {name}\)") as caught:
        load_policy(bundle, device="cpu")
    assert f"smolpilot bundle seal {bundle}" in caught.value.fix


def statistics(bundle: Path) -> None:
    (file,) = bundle.glob("*unnormalizer*.safetensors")
    save_file({key: value * 1000 for key, value in load_file(file).items()}, file)


def swapped(bundle: Path) -> None:
    """Two files of one kind in each other's place."""
    before, after = (next(bundle.glob(f"policy_{which}processor_*.safetensors")) for which in ("pre", "post"))
    values = load_file(before)
    save_file({key: value + 1 for key, value in values.items()}, before)
    shutil.copy(before, after)


def robot(bundle: Path) -> None:
    path = bundle / "robot.yaml"
    path.write_text(path.read_text().replace("rate: 10", "rate: 20"))


def shards(bundle: Path) -> None:
    """Whole weights of another policy under the name that is read after the first."""
    (bundle / "model.safetensors").rename(bundle / "model-00001-of-00001.safetensors")
    names = load_file(bundle / "model-00001-of-00001.safetensors")
    listed = dict.fromkeys(names, "model-00001-of-00001.safetensors")
    (bundle / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "statistics": (statistics, "changed: policy_postprocessor_step_0_unnormalizer_processor.safetensors"),
    "both statistics": (swapped, "changed: policy_postprocessor_step_0.*, policy_preprocessor_step_5"),
    "robot": (robot, "changed: robot.yaml"),
    "robot gone": (lambda b: (b / "robot.yaml").unlink(), "missing: robot.yaml"),
    "processor gone": (lambda b: (b / "policy_postprocessor.json").unlink(), "missing: policy_postprocessor.json"),
    "a file more": (lambda b: shutil.copy(b / "vlm/config.json", b / "vlm/added_tokens.json"), "added: vlm/added_tok"),
    "another weight file": (shards, "missing: model.safetensors; added: model-00001-of-00001.safetensors"),
    "torn weights": (lambda b: (b / "model.safetensors").write_bytes(b"x" * 99), "changed: model.safetensors"),
    "a digest": (
        lambda b: edit(b / "smolpilot.json", lambda v: v["digests"].update({"config.json": "0" * 32})),
        "changed: smolpilot.json",
    ),
    "a digest gone": (
        lambda b: edit(b / "smolpilot.json", lambda v: v["digests"].pop("config.json")),
        "changed: smolpilot.json",
    ),
    "no digest of itself": (
        lambda b: edit(b / "smolpilot.json", lambda v: v["digests"].pop("smolpilot.json")),
        "changed: smolpilot.json",
    ),
    "odd digests": (lambda b: edit(b / "smolpilot.json", lambda v: v.update(digests={"a": 5})), "changed: smolpilot.j"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_every_kind(bundle: Path, kind: str) -> None:
    harm, words = DAMAGE[kind]
    harm(bundle)
    with pytest.raises(CheckpointError, match=words):
        load_policy(bundle, device="cpu", need_weights=False)


def test_what_is_wrong_is_said_beside_which_file(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(bundle / "model.safetensors")
    weights[HEAD][0, 0] = float("nan")
    save_file(weights, bundle / "model.safetensors")
    assert main(["bundle", str(bundle)]) == 1
    said = capsys.readouterr().err
    assert "changed: model.safetensors" in said
    assert f"{HEAD}: 1 NaN of" in said
    # Such a change cannot be meant.
    assert main(["bundle", "seal", str(bundle)]) == 1
    assert f"{HEAD}: 1 NaN of" in capsys.readouterr().err
    assert main(["bundle", str(bundle)]) == 1


def test_no_verb_runs_a_damaged_bundle(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(bundle / "model.safetensors")
    weights[HEAD][0, 0] += 0.25
    save_file(weights, bundle / "model.safetensors")
    path, data = str(bundle), str(tiny_dataset)
    verbs = [
        ["bundle", path, "--json"],
        ["preflight", "--dataset", data, "--policy", path, "--json"],
        ["train", "--dataset", data, "--policy", path, "--out", str(tmp_path / "run"), "--steps", "1"],
        ["eval", path, "--dataset", data, "--out", str(tmp_path / "eval")],
        ["eval", path, "--dataset", data, "--out", str(tmp_path / "eval"), "--engine", "fast"],
        ["bench", path],
        ["export", path, "--out", str(tmp_path / "export")],
        ["rollout", path, "--out", str(tmp_path / "rollout")],
    ]
    for verb in verbs:
        assert main(verb) == 1, verb
        assert "(changed: model.safetensors)" in "".join(capsys.readouterr()), verb
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_seal_says_what_changed_and_makes_it_the_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(bundle / "config.json", lambda values: values.update(n_action_steps=3))
    (bundle / "robot.yaml").unlink()
    assert main(["bundle", str(bundle)]) == 1
    assert main(["bundle", "seal", str(bundle)]) == 0
    assert "changed: config.json; missing: robot.yaml" in capsys.readouterr().out
    loaded = load_policy(bundle, device="cpu")
    assert loaded.n_action_steps == 3
    assert loaded.profile is None
    assert main(["bundle", "seal", str(bundle)]) == 0
    assert "nothing had changed" in capsys.readouterr().out
    # What else the bundle says stays.
    assert json.loads((bundle / "smolpilot.json").read_text())["lineage"]["dataset"]["name"] == "tiny"


def test_seal_refuses_what_is_no_bundle(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "seal", str(tmp_path / "nowhere")]) == 2
    assert "no bundle at" in capsys.readouterr().err
    (bundle / "smolpilot.json").unlink()
    before = files(bundle)
    assert main(["bundle", "seal", str(bundle)]) == 1
    assert "it has no smolpilot.json" in capsys.readouterr().err
    assert files(bundle) == before


@pytest.mark.parametrize("kind", ["an older bundle", "LeRobot's"])
def test_without_digests_it_loads_and_one_line_says_so(
    kind: str, bundle: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "LeRobot's":
        (bundle / "smolpilot.json").unlink()
    else:
        edit(bundle / "smolpilot.json", lambda values: values.pop("digests"))
    with pytest.warns(NoDigestsWarning) as said:
        main(["preflight", "--dataset", str(tiny_dataset), "--policy", str(bundle)])
    lines = {str(one.message) for one in said if one.category is NoDigestsWarning}
    assert len(lines) == 1
    assert str(bundle) in lines.pop()
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["bundle", str(bundle)]) == 0
    assert "digests       none" in capsys.readouterr().out
    if kind == "an older bundle":
        assert main(["bundle", "seal", str(bundle)]) == 0
        assert "it had no digests" in capsys.readouterr().out
        flip(bundle / "vlm" / "tokenizer.json", 0.5)
        assert main(["bundle", str(bundle)]) == 1


def test_localize_renews_what_it_changes_and_hides_no_damage(bundle: Path, tmp_path: Path) -> None:
    assert main(["bundle", "localize", str(bundle)]) == 0
    load_policy(bundle, device="cpu")
    moved = bundle.rename(tmp_path / "moved")
    assert main(["bundle", "localize", str(moved)]) == 0
    load_policy(moved, device="cpu")
    edit(moved / "config.json", lambda values: values.update(num_steps=9))
    before = (moved / "smolpilot.json").read_bytes()
    assert main(["bundle", "localize", str(moved)]) == 1
    assert (moved / "smolpilot.json").read_bytes() == before


@pytest.mark.parametrize("left", [1, 2, 3])
def test_localize_killed_between_its_files_leaves_a_whole_bundle(
    bundle: Path, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import smolpilot.smolvla.checkpoint.sealing as module

    write = module.write_text_atomic  # type: ignore[attr-defined]
    done: list[Path] = []

    def killed(path: Path, text: str) -> None:
        if len(done) == left:
            raise KeyboardInterrupt
        done.append(path)
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_text_atomic", killed)
        assert main(["bundle", "localize", str(bundle)]) == 130
    assert len(done) == left
    load_policy(bundle, device="cpu")
    assert main(["bundle", "localize", str(bundle)]) == 0
    assert all(isinstance(one, str) for one in json.loads((bundle / "smolpilot.json").read_text())["digests"].values())
    load_policy(bundle, device="cpu")


def test_the_base_of_an_adapter_is_compared_too(bundle: Path, tmp_path: Path) -> None:
    from smolpilot.smolvla.checkpoint.lora_adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / ADAPTER_CONFIG).write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, "base_model_name_or_path": str(bundle)})
    )
    tensors = {"lora_A.weight": torch.zeros(2, 48), "lora_B.weight": torch.zeros(32, 2)}
    prefix = f"base_model.model.{HEAD.removesuffix('.weight')}"
    save_file({f"{prefix}.{name}": value for name, value in tensors.items()}, adapter / ADAPTER_WEIGHTS)
    assert load_policy(adapter, device="cpu").report.kind == "LoRA adapter"
    flip(bundle / "model.safetensors", 1.0)
    with pytest.raises(CheckpointError, match=r"changed: model\.safetensors"):
        load_policy(adapter, device="cpu")
