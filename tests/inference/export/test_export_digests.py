"""An exported folder is compared with its digests by the example in it, with NumPy and hashlib alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.evaluation.offline.policy_frames import recorded_frames
from smolpilot.inference.export.exporting import export_policy
from smolpilot.smolvla import Policy

from ..helpers_engine import load_example

FILES = [
    "policy.json",
    "tokenizer.json",
    *(f"{n}.onnx{e}" for n in ("vision", "prefix", "denoise") for e in ("", ".data")),
]


@pytest.fixture(scope="module")
def exported(policy: Policy, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    export_policy(policy, folder, recorded_frames(policy, tiny_dataset, 1))
    return folder


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "out"))


def test_anyone_can_compare_them(exported: Path) -> None:
    digests = json.loads((exported / "policy.json").read_text())["digests"]
    assert sorted([*digests, "policy.json"]) == sorted(FILES)
    for name, digest in digests.items():
        assert hashlib.blake2b((exported / name).read_bytes(), digest_size=32).hexdigest() == digest
    load_example(exported).ExportedPolicy(exported)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_an_error_that_names_it(folder: Path, name: str) -> None:
    policy = load_example(folder).ExportedPolicy
    whole = (folder / name).read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 3):
        content = bytearray(whole)
        content[place] ^= 4
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged, or was changed|Expecting|Invalid|utf-8|Extra") as caught:
            policy(folder)
        assert name == "policy.json" or name in str(caught.value)
    (folder / name).write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"is damaged, or was changed|Expecting|Unterminated"):
        policy(folder)


@pytest.mark.parametrize("key", ["state", "action", "num_steps", "slots", "digests", "digest"])
def test_the_transforms_are_under_the_digests(folder: Path, key: str) -> None:
    facts = json.loads((folder / "policy.json").read_text())
    changed = {
        "state": {**facts["state"], "scale": facts["action"]["scale"]},
        "num_steps": 9,
        "slots": facts["slots"][::-1],
    }
    changed |= {"action": {**facts["action"], "offset": facts["state"]["offset"]}, "digests": {}, "digest": "0" * 64}
    (folder / "policy.json").write_text(json.dumps(facts | {key: changed[key]}))
    with pytest.raises(ValueError, match=r"policy\.json is damaged, or was changed"):
        load_example(folder).ExportedPolicy(folder)


def test_the_program_says_it_in_one_line(folder: Path) -> None:
    data = folder / "denoise.onnx.data"
    data.write_bytes(data.read_bytes()[:-8] + b"damaged!")
    done = subprocess.run([sys.executable, str(folder / "example.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {data} is damaged, or was changed")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
