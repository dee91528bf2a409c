"""Tokenizers of strangers: what the network has no row for, what panics and what makes nothing is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import TransformError
from smolpilot.smolvla import load_policy

from .helpers_transforms import frame

SPLIT = {"type": "Split", "pattern": {"Regex": r"(z+)+$"}, "behavior": "Isolated", "invert": False}
SLOW = {**SPLIT, "pattern": {"Regex": r"(.|.|.|.|.|.|.|.)*\d"}}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [99_999_999], "tokens": ["<s>"]}},
}

REFUSED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "number_beyond_the_embedding": (lambda v: v["model"]["vocab"].update(a=320), "token numbers below 320"),
    "largest_number": (lambda v: v["model"]["vocab"].update(a=2**32 - 1), "numbers up to 4294967295"),
    "number_only_around_a_text": (lambda v: v.update(post_processor=TEMPLATE), "token 99999999, which is none of its"),
    "empty": (lambda v: v.update(model={**v["model"], "vocab": {}}, added_tokens=[]), "makes no token"),
    "panic_on_reading": (
        lambda v: v.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "cannot be read: Pre",
    ),
    "panic_on_any_text": (lambda v: v.update(pre_tokenizer=SLOW), "makes no tokens of a text"),
    "no_word_for_a_text": (
        lambda v: v.update(model={"type": "WordLevel", "unk_token": "?", "vocab": {"x": 0}}), "makes no tokens of",
    ),
    "another_type": (lambda v: v.update(model=5), "cannot be read"),
}  # fmt: skip


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("case", REFUSED)
def test_refused_on_loading(case: str, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = REFUSED[case]
    edit(bundle / "vlm" / "tokenizer.json", change)
    assert main(["bundle", str(bundle)]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_the_last_row_may_be_used(bundle: Path) -> None:
    edit(bundle / "vlm" / "tokenizer.json", lambda v: v["model"]["vocab"].update(a=319))
    assert load_policy(bundle, device="cpu").tokenizer.largest_id == 319


@pytest.mark.filterwarnings("ignore")
def test_a_panic_on_one_text_only(bundle: Path) -> None:
    """The pattern is slow on this text alone; the library gives up on it, and the policy says so."""
    edit(bundle / "vlm" / "tokenizer.json", lambda v: v.update(pre_tokenizer=SPLIT))
    policy = load_policy(bundle, device="cpu")
    assert policy.predict_chunk(frame()).shape == (12, 3)
    with pytest.raises(TransformError, match=r"The tokenizer fails on 'z+ ?b'.*retry-limit"):
        policy.predict_chunk({**frame(), "task": "z" * 40 + "b"})


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_files_beyond_any_tokenizers_size_are_not_read(
    name: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (bundle / "vlm" / name).open("r+b" if (bundle / "vlm" / name).exists() else "wb") as file:
        file.truncate(100_000_000)  # a hole: nothing is written
    assert main(["bundle", str(bundle)]) == 1
    said = capsys.readouterr().err
    assert f"{bundle / 'vlm' / name} has 100 MB." in said
    assert "at most 64 MB" in said


def test_a_link_out_of_the_folder_is_not_followed(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a bundle made from this one would carry along."""
    secret = tmp_path / "id_rsa"
    secret.write_text("secret")
    (bundle / "vlm" / "merges.txt").symlink_to(secret)
    assert main(["bundle", str(bundle)]) == 1
    assert f"merges.txt is a link to {secret}" in capsys.readouterr().err


def test_links_of_the_hubs_cache_are_followed(bundle: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--some-org--some-model"
    (repo / "blobs").mkdir(parents=True)
    snapshot = repo / "snapshots" / "abc"
    snapshot.parent.mkdir()
    bundle.rename(snapshot)
    for number, path in enumerate((snapshot / "vlm").iterdir()):
        path.rename(repo / "blobs" / str(number))
        path.symlink_to(Path("..", "..", "..", "blobs", str(number)))
    assert load_policy(snapshot, device="cpu").predict_chunk(frame()).shape == (12, 3)


@pytest.mark.parametrize("value", [5, [], {"content": 5}, {"content": "no such token"}, None])
def test_special_tokens_of_another_form(value: object, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        edit(bundle / "vlm" / name, lambda v: v.update(pad_token=value))
    assert main(["bundle", str(bundle)]) == 1
    assert "names no pad_token" in capsys.readouterr().err
