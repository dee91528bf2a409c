"""Adapters of strangers: numbers, patterns and names that must neither hang, nor fetch, nor change an action unseen."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from smolpilot.cli.main import main
from smolpilot.common.errors import CheckpointError
from smolpilot.smolvla import load_policy

Q = "model.vlm_with_expert.lm_expert.layers.0.self_attn.q_proj"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def base(saved: Path) -> Path:
    return saved


def write(folder: Path, base: Path, tensors: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    folder.mkdir()
    out, inp = load_file(base / "model.safetensors")[f"{Q}.weight"].shape
    pair = {"A": torch.ones(2, inp), "B": torch.ones(out, 2)}
    plain = {f"base_model.model.{Q}.lora_{part}.weight": value for part, value in pair.items()}
    save_file(tensors if tensors is not None else plain, folder / "adapter_model.safetensors")
    values = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    for path in (base / "config.json", *base.glob("policy_*")):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lora_alpha", float("nan"), "a number from 1e-06"), ("lora_alpha", float("inf"), "a number from 1e-06"),
        ("lora_alpha", 0, "a number from 1e-06"), ("lora_alpha", "8", "a number from 1e-06"),
        ("r", 0, "1 to 100,000"), ("r", -2, "1 to 100,000"), ("r", 10**30, "1 to 100,000"), ("r", 2.0, "1 to 100,000"),
        ("use_rslora", "false", "true or false"), ("use_dora", "x", "plain LoRA"), ("use_dora", [1], "plain LoRA"),
        ("rank_pattern", {"q_proj": 0}, "1 to 100,000"), ("rank_pattern", [1], "an object"),
        ("alpha_pattern", {"q_proj": float("nan")}, "a number from 1e-06"),
        ("init_lora_weights", 5, "true or false, or a text"), ("base_model_name_or_path", 5, "a text"),
        ("base_model_name_or_path", "\0", "does not exist"), ("base_model_name_or_path", "~nobody/x", "does not exist"),
        ("base_model_name_or_path", "x" * 5_000, "does not exist"), ("revision", {}, "a text"),
        ("peft_type", ["LORA"], "a text"),
    ],
)  # fmt: skip
def test_settings_out_of_range(
    key: str, value: Any, expected: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "adapter", base, **{key: value})
    assert main(["bundle", str(folder)]) == 1
    said = capsys.readouterr().err
    assert key in said
    assert expected in said
    assert "Traceback" not in said


def test_depth(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "adapter", base)
    (folder / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "x": {DEEP}}}')
    assert main(["bundle", str(folder)]) == 1
    assert "adapter_config.json is no valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", [r"(\w+\.?)+!", r"(.*)*(.*)*(.*)*!", r"((a|b|.)*)*Z", "(_|[a-z_.0-9])*!"])
@pytest.mark.parametrize("option", ["alpha_pattern", "rank_pattern"])
def test_a_pattern_takes_no_time(option: str, pattern: str, base: Path, tmp_path: Path) -> None:
    """With Python's own engine each of these goes on for longer than the universe has."""
    settings: dict[str, Any] = {option: {pattern: 2}}
    policy = load_policy(write(tmp_path / "adapter", base, **settings), device="cpu")
    weights = load_file(base / "model.safetensors")[f"{Q}.weight"]
    merged = policy.model.get_parameter("expert.layers.0.self_attn.q_proj.weight").data
    torch.testing.assert_close(merged, weights + 4 / 2 * 2)  # matched by none: alpha 4, rank 2


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("q_proj", True), (r".*layers\.0\.self_attn\.q_proj", True), ("proj", False), ("q_pro", False),
        (r"layers\.1\.self_attn\.q_proj", False), (r"layers\.(0|2)\..*\.(q|v)_proj", True), ("k_proj|q_proj", True),
        (r"^model\.vlm_with_expert\.lm_expert\.layers\.\d+\..*", True), (r"[a-z_]*q_proj", True), (r"\w+_proj", True),
        ("a)|(model", False), ("layers)|(x", True), ("q", False), (r"Q_PROJ", False), (r"[^v]_proj", True),
    ],
)  # fmt: skip
def test_patterns_match_as_in_peft(pattern: str, matches: bool, base: Path, tmp_path: Path) -> None:
    assert bool(re.match(rf"(.*\.)?({pattern})$", Q)) == matches  # as peft has it
    alpha = 8 if matches else 4
    policy = load_policy(write(tmp_path / "adapter", base, alpha_pattern={pattern: 8, "proj": 16}), device="cpu")
    weights = load_file(base / "model.safetensors")[f"{Q}.weight"]
    merged = policy.model.get_parameter("expert.layers.0.self_attn.q_proj.weight").data
    torch.testing.assert_close(merged, weights + alpha / 2 * 2)


@pytest.mark.parametrize(
    "pattern", [r"(?=q)q_proj", r"(q)_proj\1", "(", "*", "q" * 501, "(a{1000}){1000}", "q_proj{1}"]
)
def test_patterns_that_are_refused(
    pattern: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", str(write(tmp_path / "adapter", base, rank_pattern={pattern: 2}))]) == 1
    said = capsys.readouterr().err
    assert "of rank_pattern in" in said
    assert "merge_and_unload" in said


def test_more_patterns_than_any_adapter_has(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patterns = {f"{'x' * 400}{number}": 2 for number in range(250)}
    assert main(["bundle", str(write(tmp_path / "adapter", base, rank_pattern=patterns))]) == 1
    assert "has 250 patterns in rank_pattern for 1 modules" in capsys.readouterr().err


def test_thin_matrices_whose_product_fills_the_memory(base: Path, tmp_path: Path) -> None:
    tensors = {
        f"base_model.model.{Q}.lora_A.weight": torch.zeros(2, 1_000_000),
        f"base_model.model.{Q}.lora_B.weight": torch.zeros(1_000_000, 2),
    }
    with pytest.raises(CheckpointError, match=r"as \[1000000, 2\] x \[2, 1000000\], the base as"):
        load_policy(write(tmp_path / "adapter", base, tensors), device="cpu")


@pytest.mark.parametrize("shape", [(), (0, 48), (2,), (2, 3, 4)])
def test_parts_of_other_shapes(shape: tuple[int, ...], base: Path, tmp_path: Path) -> None:
    tensors = {
        f"base_model.model.{Q}.lora_A.weight": torch.zeros(shape),
        f"base_model.model.{Q}.lora_B.weight": torch.zeros(64, 2),
    }
    with pytest.raises(CheckpointError, match=r"has model\.vlm_with_expert.*q_proj"):
        load_policy(write(tmp_path / "adapter", base, tensors), device="cpu")


class TestNoLookUp:
    """A hub id in a file is no leave to ask the hub: the user named a folder."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
        """What asks for a name or opens a connection, with an empty cache and the network allowed."""
        asked: list[Any] = []

        def refuse(*args: Any, **_: Any) -> None:
            asked.append(args)
            raise OSError("no network in this test")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        return asked

    @pytest.mark.parametrize("revision", [None, "v1.0; rm x"])
    def test_base_of_an_adapter(
        self, revision: str | None, base: Path, tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        name: dict[str, Any] = {"base_model_name_or_path": "some-org/some-model", "revision": revision}
        folder = write(tmp_path / "adapter", base, **name)
        assert main(["bundle", str(folder)]) == 1
        assert asked == []
        said = capsys.readouterr().err
        assert "'some-org/some-model' (base_model_name_or_path), which is not in the hub's cache" in said
        more = " --revision 'v1.0; rm x'" if revision else ""
        assert f"`hf download some-org/some-model{more}`" in said

    def test_base_in_the_cache(self, base: Path, tmp_path: Path, asked: list[Any]) -> None:
        """What `hf download` leaves there, as the message says."""
        repo = tmp_path / "cache" / "models--some-org--some-model"
        shutil.copytree(base, repo / "snapshots" / "abc")
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("abc")
        policy = load_policy(write(tmp_path / "adapter", base, base_model_name_or_path="some-org/some-model"))
        assert asked == []
        assert "merged into some-org/some-model" in "\n".join(policy.report.notes)

    @pytest.mark.parametrize("name", ["some-org/some-model", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "a b/c\n"])
    def test_vision_language_model(
        self, name: str, base: Path, tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "bundle"
        shutil.copytree(base, folder)
        shutil.rmtree(folder / "vlm")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vlm_model_name": name}))
        assert main(["bundle", str(folder)]) == 1
        assert asked == []
        said = capsys.readouterr().err
        assert name.rstrip() in said
        assert "hf download" in said

    def test_tokenizer_name(self, base: Path, tmp_path: Path, asked: list[Any]) -> None:
        folder = tmp_path / "bundle"
        shutil.copytree(base, folder)
        steps = json.loads((folder / "policy_preprocessor.json").read_text())
        steps["steps"][3]["config"]["tokenizer_name"] = "some-org/some-tokenizer"
        (folder / "policy_preprocessor.json").write_text(json.dumps(steps))
        assert main(["bundle", str(folder)]) == 0
        assert asked == []
