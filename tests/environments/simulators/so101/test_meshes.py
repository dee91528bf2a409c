"""The arm's meshes, made coarse: read from STL, clustered, kept, and made again where the cache is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.environments.simulators.so101.meshes import clustered, coarse_mesh, read_stl


def stl(corners: Any) -> bytes:
    """A binary STL of triangles [F, 3, 3]."""
    record = np.zeros(len(corners), np.dtype([("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")]))
    record["c"] = corners
    return b"\0" * 80 + len(corners).to_bytes(4, "little") + record.tobytes()


def sphere(count: int = 48) -> Any:
    """A sphere of 2 cm in triangles [F, 3, 3]."""
    polar, around = np.linspace(0, np.pi, count), np.linspace(0, 2 * np.pi, count)
    grid = 0.02 * np.stack([
        np.outer(np.sin(polar), np.cos(around)), np.outer(np.sin(polar), np.sin(around)),
        np.outer(np.cos(polar), np.ones(count)),
    ], axis=-1)  # fmt: skip
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
    return np.concatenate([np.stack([a, b, c], 2).reshape(-1, 3, 3), np.stack([a, c, d], 2).reshape(-1, 3, 3)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "smolpilot" / "meshes"


def test_a_coarse_mesh_keeps_the_shape_with_far_fewer_triangles() -> None:
    fine = sphere()
    vertices, triangles = clustered(fine, 0.004)
    assert len(triangles) < len(fine) / 3
    radii = np.linalg.norm(vertices, axis=1)
    assert radii.min() > 0.018
    assert radii.max() <= 0.02 + 1e-7
    a, b, c = (vertices[triangles[:, place]] for place in range(3))
    volume = abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6
    assert volume == pytest.approx(4 / 3 * np.pi * 0.02**3, rel=0.08)


def test_triangles_that_shrink_to_nothing_or_fall_on_each_other_are_left_out() -> None:
    corners = np.array([
        [[0, 0, 0], [1e-5, 0, 0], [0, 1e-5, 0]],
        [[0, 0, 0], [1, 0, 0], [0, 1, 0]],
        [[1e-5, 0, 0], [1, 0, 0], [0, 1, 0]],
    ])  # fmt: skip
    vertices, triangles = clustered(corners + 1e-3, 0.002)
    assert len(vertices) == 3
    assert len(triangles) == 1


def test_it_is_made_once_and_again_where_what_was_kept_is_broken(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "part.stl"
    path.write_bytes(stl(sphere(16)))
    vertices, triangles = coarse_mesh(path)
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    again = coarse_mesh(path)
    np.testing.assert_array_equal(again[0], vertices)
    np.testing.assert_array_equal(again[1], triangles)
    kept.write_bytes(before[:100])
    np.testing.assert_array_equal(coarse_mesh(path)[0], vertices)
    assert len(kept.read_bytes()) == len(before)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "part.stl"
    path.write_bytes(stl(sphere(8)))
    assert len(coarse_mesh(path)[1]) > 0


def test_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no binary STL"):
        read_stl(b"solid part\n" + b"x" * 100)
