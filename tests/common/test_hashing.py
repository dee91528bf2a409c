"""Digests: equal for equal content, and for nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smolpilot.common.hashing import b2sum, content_name, file_digest, folder_digest, tensors_digest

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.int8, torch.bool]


def flip(value: torch.Tensor, byte: int) -> torch.Tensor:
    """The tensor with one bit of one byte changed."""
    changed = value.clone()
    changed.view(-1).view(torch.uint8)[byte] ^= 1
    return changed


def test_digests_stay_as_they_are() -> None:
    """Another algorithm would silently cost everybody their caches."""
    assert content_name("a", 1, b"c") == "748bd75d8deb159a43a3ee83fea4d34c"
    tensors = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}
    assert tensors_digest(tensors) == "e93938128a7e3471766c8fc9df2158ae"


def test_names_are_of_the_parts_in_order() -> None:
    assert content_name("a", 1) == content_name("a", "1") == content_name(b"a", b"1")
    others = [content_name(*parts) for parts in [("a", 1), (1, "a"), ("a1",), ("a", 1, ""), ("a", "", 1), (), ("",)]]
    assert len(set(others)) == len(others)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in others)


@given(st.lists(st.binary(max_size=12), max_size=4), st.lists(st.binary(max_size=12), max_size=4))
def test_two_lists_of_parts_never_read_the_same(one: list[bytes], other: list[bytes]) -> None:
    assert (content_name(*one) == content_name(*other)) == (one == other)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_byte_of_a_tensor_is_seen(dtype: torch.dtype) -> None:
    value = torch.randint(0, 2, (3, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    first = tensors_digest({"w": value})
    assert first == tensors_digest({"w": value.clone()})
    changed = {tensors_digest({"w": flip(value, byte)}) for byte in range(value.numel() * value.itemsize)}
    assert first not in changed
    assert len(changed) == value.numel() * value.itemsize


@pytest.mark.parametrize("size", [1 << 18, (1 << 18) + 3])
def test_changes_that_cancel_in_a_sum_are_seen(size: int) -> None:
    value = torch.arange(size, dtype=torch.int64)
    first = tensors_digest({"w": value})
    moved = value.clone()
    moved[10] += 1
    moved[20] -= 1
    swapped = value.clone()
    swapped[[10, 20]] = value[[20, 10]]
    assert moved.sum() == swapped.sum() == value.sum()
    assert len({first, tensors_digest({"w": moved}), tensors_digest({"w": swapped})}) == 3


def test_changes_that_cancel_in_a_file_are_seen(tmp_path: Path) -> None:
    content = bytearray(os.urandom(1 << 20))
    content[64], content[128] = 1, 2
    (tmp_path / "a").write_bytes(content)
    content[64], content[128] = 2, 1
    (tmp_path / "b").write_bytes(content)
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")


def test_names_dtypes_shapes_and_places_count() -> None:
    value = torch.arange(6, dtype=torch.int32)
    zeros = torch.zeros(4, dtype=torch.int16)
    sets = [
        {"w": value},
        {"v": value},
        {"w": value.reshape(2, 3)},
        {"w": value.reshape(3, 2)},
        {"w": value.view(torch.float32)},
        {"w": value.flip(0)},
        {"w": value, "x": zeros},
        {"w": zeros, "x": value},
        {"w": zeros},
        {"w": zeros.view(torch.bfloat16)},
        {"w": zeros.view(torch.float16)},
        {"w": value[:3], "x": value[3:]},
        {"w": value[:2], "x": value[2:]},
        {},
    ]
    assert len({tensors_digest(one) for one in sets}) == len(sets)
    assert tensors_digest({"w": value, "x": zeros}) == tensors_digest({"x": zeros, "w": value})


def test_the_layout_in_memory_does_not_count() -> None:
    value = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    first = tensors_digest({"w": value})
    assert tensors_digest({"w": value.t().contiguous().t()}) == first
    assert tensors_digest({"w": torch.stack([value, value], dim=-1)[..., 1]}) == first
    assert tensors_digest({"w": torch.cat([value, value])[6:]}) == first
    assert tensors_digest({"w": torch.nn.Parameter(value)}) == first
    assert tensors_digest({"w": value.t()}) != first
    assert tensors_digest({"w": value[:, :1].expand(6, 4)}) == tensors_digest({"w": value[:, :1].repeat(1, 4)})


def test_empty_tensors_and_single_numbers() -> None:
    sets = [
        {"w": torch.zeros(0)},
        {"w": torch.zeros(0, 3)},
        {"w": torch.zeros(3, 0)},
        {"w": torch.zeros(0, dtype=torch.bfloat16)},
        {"w": torch.tensor(0.0)},
        {"w": torch.tensor([0.0])},
        {"w": torch.tensor(-0.0)},
        {"w": torch.tensor(0.0, dtype=torch.bfloat16)},
    ]
    digests = [tensors_digest(one) for one in sets]
    assert len(set(digests)) == len(sets)
    assert digests == [tensors_digest(one) for one in sets]


def test_tensors_are_read_where_they_are() -> None:
    value = torch.zeros(16 << 20, dtype=torch.uint8)
    tracemalloc.start()
    try:
        tensors_digest({"w": value})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_files_are_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "big"
    content = os.urandom(1 << 20) * 16
    path.write_bytes(content)
    expected = hashlib.blake2b(content, digest_size=32).hexdigest()
    tracemalloc.start()
    try:
        first = file_digest(path)
        assert b2sum(path) == expected
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    for place in (0, 1 << 18, len(content) - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([content[place] ^ 1]))
        assert file_digest(path) != first
        with path.open("r+b") as file:
            file.seek(place)
            file.write(content[place : place + 1])
    assert file_digest(path) == first
    path.write_bytes(content[:-1])
    assert file_digest(path) != first


def test_a_folder_is_its_paths_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"x")
    (folder / "sub" / "b").write_bytes(b"y")
    first = folder_digest(folder)
    shutil.copytree(folder, tmp_path / "two")
    assert folder_digest(tmp_path / "two") == first
    os.utime(folder / "a", (0, 0))
    (folder / "empty").mkdir()
    assert folder_digest(folder) == first
    seen = {first}

    def changed() -> None:
        digest = folder_digest(folder)
        assert digest not in seen
        seen.add(digest)

    (folder / "a").write_bytes(b"y")
    changed()
    (folder / "sub" / "b").write_bytes(b"x")  # the contents have changed places
    changed()
    (folder / "a").rename(folder / "c")
    changed()
    (folder / "sub" / "b").rename(folder / "b")
    changed()
    (folder / "d").write_bytes(b"")
    changed()
    (folder / "b").unlink()
    changed()


def test_a_folder_of_links_is_what_they_point_to(tmp_path: Path) -> None:
    """The hub's cache holds links."""
    for name in ("plain", "linked", "blobs"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain" / "model").write_bytes(b"x")
    (tmp_path / "blobs" / "1").write_bytes(b"x")
    (tmp_path / "linked" / "model").symlink_to(tmp_path / "blobs" / "1")
    assert folder_digest(tmp_path / "plain") == folder_digest(tmp_path / "linked")


def test_what_needs_no_tensors_imports_no_torch() -> None:
    code = "import sys, smolpilot.common.hashing as h; h.content_name('a'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
