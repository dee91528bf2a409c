"""A frame cache of any size within few open files and maps; damage of any kind; what killed runs leave behind."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.atomic import atomic_folder, lock, scratch_folder, sweep, write_text_atomic
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import new_policy
from smolpilot.training.cache.block_store import BlockStore
from smolpilot.training.cache.frame_cache import FrameCache, cache_spec
from smolpilot.training.data.batches import Batches

ROWS = 4
FewFiles = Callable[[int], AbstractContextManager[None]]


def store(folder: Path, **more: int) -> BlockStore:
    return BlockStore(folder, (16,), torch.float32, **more)


def block(number: int) -> torch.Tensor:
    return torch.arange(ROWS * 16, dtype=torch.float32).reshape(ROWS, 16) + number


def name(number: int) -> str:
    return f"{number % 7:02d}{number:030d}"


def maps(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


def test_more_blocks_than_open_files_are_allowed(tmp_path: Path, few_files: FewFiles) -> None:
    with few_files(6):
        written = store(tmp_path)
        kept = []
        for number in range(40):
            written.write(name(number), block(number))
            kept.append(written.read(name(number), ROWS))
        again = store(tmp_path)
        kept += [again.read(name(number), ROWS) for number in range(40)]
    for number, found in enumerate(kept):
        assert found is not None
        assert torch.equal(found, block(number % 40))


def test_maps_are_bounded_and_the_numbers_stay(tmp_path: Path) -> None:
    """A process has 65,530 maps for everything."""
    made = store(tmp_path, maps=5)
    for number in range(20):
        made.write(name(number), block(number))
    for _ in range(2):
        for number in range(20):
            found = made.read(name(number), ROWS)
            assert found is not None
            assert torch.equal(found, block(number))
            del found
            assert maps(tmp_path) <= 5


def test_a_block_that_is_opened_again_is_verified_where_it_changed(tmp_path: Path) -> None:
    made = store(tmp_path, maps=1)
    for number in (0, 1):
        made.write(name(number), block(number))
    assert made.read(name(0), ROWS) is not None
    assert made.read(name(1), ROWS) is not None
    content = bytearray(made.path(name(0)).read_bytes())
    content[-1] ^= 1
    made.path(name(0)).write_bytes(content)
    assert made.read(name(0), ROWS) is None
    assert made.damaged == {name(0)}
    made.write(name(0), block(0))
    assert made.read(name(0), ROWS) is not None
    assert not made.damaged


def test_no_room_for_an_open_file_is_named_as_that(tmp_path: Path, few_files: FewFiles) -> None:
    made = store(tmp_path)
    made.write(name(1), block(1))
    with few_files(0), pytest.raises(OSError, match="Too many open files") as caught:
        made.read(name(1), ROWS)
    assert caught.value.errno == errno.EMFILE
    assert not made.damaged


def header(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    values = json.loads(content[:4096])
    change(values)
    return json.dumps(values).encode().ljust(4096) + content[4096:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "number": lambda c: c[:-1] + bytes([c[-1] ^ 1]),
    "torn": lambda c: c[:-1],
    "longer": lambda c: c + b"\0",
    "empty": lambda c: b"",
    "no header": lambda c: bytes(4096) + c[4096:],
    "a list": lambda c: b"[1, 2]".ljust(4096) + c[4096:],
    "a number": lambda c: b"7".ljust(4096) + c[4096:],
    "null": lambda c: b"null".ljust(4096) + c[4096:],
    "nested": lambda c: (b"[" * 2000 + b"]" * 2000).ljust(4096) + c[4096:],
    "nested value": lambda c: (b'{"rows": ' + b"[" * 2000 + b"]" * 2000 + b"}").ljust(4096) + c[4096:],
    "no UTF-8": lambda c: b'{"rows": "\xff"}'.ljust(4096) + c[4096:],
    "other rows": lambda c: header(c, lambda v: v.update(rows=8)),
    "no digest": lambda c: header(c, lambda v: v.pop("xxh3_128")),
    "digest of another kind": lambda c: header(c, lambda v: v.update(xxh3_128=[1])),
    "another block": lambda c: header(c, lambda v: v.update(name=name(9))),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_any_kind_is_no_block(tmp_path: Path, kind: str) -> None:
    made = store(tmp_path)
    made.write(name(3), block(3))
    path = made.path(name(3))
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    again = store(tmp_path)
    assert again.read(name(3), ROWS) is None
    assert again.damaged == {name(3)}


def test_a_block_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    made = store(tmp_path)
    for number in (0, 7):
        made.write(name(number), block(number))
    made.path(name(0)).replace(made.path(name(7)))
    again = store(tmp_path)
    assert again.read(name(7), ROWS) is None
    assert again.read(name(0), ROWS) is None
    assert again.damaged == {name(7)}, "what was never there is not damaged"


@pytest.mark.parametrize("whole", [True, False])
def test_blocks_of_earlier_versions_are_read(tmp_path: Path, whole: bool) -> None:
    made = store(tmp_path)
    content = block(2).numpy().tobytes()
    path = made.path(name(2))
    path.parent.mkdir(parents=True)
    text = json.dumps({"rows": ROWS, "bytes": len(content), "crc32": zlib.crc32(content) ^ (not whole)})
    path.write_bytes(text.encode().ljust(4096) + content)
    found = made.read(name(2), ROWS)
    assert (found is not None) == whole
    assert found is None or torch.equal(found, block(2))


@pytest.fixture
def cache(tiny_dataset: Path, tmp_path: Path) -> Callable[[], FrameCache]:
    frozen = {"train_expert_only": True, "freeze_vision_encoder": True, "chunk_size": 5, "n_action_steps": 5}
    dataset = open_dataset(tiny_dataset, episodes=[0, 1], chunk_size=5)
    policy = new_policy("tiny", meta=dataset.meta, seed=3, device="cpu", overrides=frozen)

    def made() -> FrameCache:
        caches: list[FrameCache] = []

        def make(own: Batches, rows: object) -> FrameCache:
            spec = cache_spec(policy, "vision", own.plans, own.token_width)
            caches.append(FrameCache(policy, dataset, own.plans, rows, spec, own.uncached, tmp_path / "cache"))  # type: ignore[arg-type]
            return caches[0]

        Batches(dataset, policy.transforms, torch.device("cpu"), chunk_size=5, cache=make)
        return caches[0]

    return made


def test_a_damaged_cache_is_made_anew_and_said(
    cache: Callable[[], FrameCache], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cache()
    assert first.build() == 2
    assert "damaged" not in capsys.readouterr().out, "nothing was there"
    rows = torch.arange(10).numpy()
    expected = first.fields(rows, torch.device("cpu"))["image_tokens"]
    paths = sorted((tmp_path / "cache").rglob("*.block"))
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    again = cache()
    assert again.build() == 1
    assert f"damaged, so computed anew: 1 block in {tmp_path / 'cache'}" in capsys.readouterr().out
    assert torch.equal(again.fields(rows, torch.device("cpu"))["image_tokens"], expected)
    # Emptied under a run that goes on.
    late = cache()
    for path in paths:
        path.unlink()
    assert torch.equal(late.fields(rows, torch.device("cpu"))["image_tokens"], expected)


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def this_machine(folder: Path) -> str:
    """As names of half-written files say it."""
    with atomic_folder(folder / "any") as beside:
        _, _, owner, _ = beside.name.split(".")
    (folder / "any").rmdir()
    return owner.rsplit("-", 2)[0]


def test_what_killed_runs_left_is_gone_after_the_next_build(
    cache: Callable[[], FrameCache], tmp_path: Path, dead: int
) -> None:
    cache().build()
    (path, *_) = sorted((tmp_path / "cache").rglob("*.block"))
    host = this_machine(tmp_path)
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    old = time.time() - 100_000
    partial = {
        "dead": f".other.block.{host}-{dead}-0123abcd.partial",
        "ended, and nobody asked": f".other.block.{host}-{ended.pid}-0123abcd.partial",
        "alive": f".other.block.{host}-{os.getppid()}-0123abcd.partial",
        "a later process has the number": f".other.block.{host}-{os.getpid()}-0123abcd.partial",
        "elsewhere, just written": ".other.block.elsewhere-12-0123abcd.partial",
        "elsewhere, old": ".other.block.elsewhere-13-0123abcd.partial",
        "of earlier versions, just written": ".other.block.0123abcd.partial",
        "of earlier versions, old": ".another.block.0123abcd.partial",
        "no name of ours": ".notes.partial",
    }
    for kind, text in partial.items():
        (path.parent / text).write_bytes(b"half")
        if "old" in kind or "later" in kind:
            os.utime(path.parent / text, (old, old))
    free, held = path.parent / "free.lock", path.parent / "held.lock"
    free.touch()
    with held.open("wb") as file:
        assert lock(file.fileno(), wait=False)
        cache().build()
        ended.wait()
        left = {kind for kind, text in partial.items() if (path.parent / text).exists()}
        assert held.exists()
    assert left == {"alive", "elsewhere, just written", "of earlier versions, just written", "no name of ours"}
    assert not free.exists()
    assert path.is_file()


def test_writing_a_file_removes_what_a_killed_run_left_of_it(tmp_path: Path, dead: int) -> None:
    host = this_machine(tmp_path)
    left, others = f".a.json.{host}-{dead}-0123abcd.partial", f".b.json.{host}-{dead}-0123abcd.partial"
    for text in (left, others):
        (tmp_path / text).write_text("half")
    write_text_atomic(tmp_path / "a.json", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [others, "a.json"]
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_temporary_folders_of_killed_runs_are_gone(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    host = this_machine(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f".smolpilot-calibration.{host}-{dead}-0123abcd.partial"
    (left / "inner").mkdir(parents=True)
    linked = tmp_path / f".smolpilot-calibration.{host}-{dead}-0123abce.partial"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").touch()
    linked.symlink_to(tmp_path / "mine")
    with scratch_folder("calibration") as folder:
        (folder / "graph").touch()
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "kept").is_file()
