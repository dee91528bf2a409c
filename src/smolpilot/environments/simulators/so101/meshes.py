"""Coarser meshes of the arm: vertices closer than two millimeters become one, once; kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

GRID_M = 0.002
_FORM = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])  # of a triangle in an STL
_HEADER = 84  # bytes before the first one


def coarse_mesh(path: Path, grid: float = GRID_M) -> tuple[Any, Any]:
    """Vertices [V, 3] in m and triangles [F, 3] of a binary STL, made coarse; ValueError for another file."""
    content = path.read_bytes()
    kept = _cache() / f"{hashlib.sha256(content).hexdigest()[:24]}-{grid * 1e3:g}mm.npz"
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["vertices"], stored["triangles"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # none yet, or a broken one
        made = clustered(read_stl(content), grid)
    _keep(kept, *made)
    return made


def read_stl(content: bytes) -> Any:
    """The triangles' corners [F, 3, 3] of a binary STL."""
    count = int.from_bytes(content[80:_HEADER], "little")
    if len(content) != _HEADER + count * _FORM.itemsize:
        raise ValueError(
            "The file is no binary STL.", f"{_HEADER + count * _FORM.itemsize} bytes", "reinstall so101-nexus"
        )
    return np.frombuffer(content, _FORM, count, _HEADER)["corners"].astype(np.float64)


def clustered(corners: Any, grid: float) -> tuple[Any, Any]:
    """One vertex for each cube of the grid, the mean of those in it; triangles that shrink to nothing are left out."""
    points = corners.reshape(-1, 3)
    _, first, place = np.unique(
        np.floor(points / grid).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    place = place.reshape(-1)
    counts = np.bincount(place, minlength=len(first))
    vertices = np.stack([np.bincount(place, points[:, axis], len(first)) / counts for axis in range(3)], axis=1)
    triangles = place.reshape(-1, 3)
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (a != c)]
    _, unique = np.unique(np.sort(triangles, axis=1), axis=0, return_index=True)
    return vertices.astype(np.float32), triangles[np.sort(unique)].astype(np.int32)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smolpilot" / "meshes"


def _keep(path: Path, vertices: Any, triangles: Any) -> None:
    """Write it whole or not at all; a cache that cannot be written costs time, and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            np.savez_compressed(file, vertices=vertices, triangles=triangles)
        Path(file.name).replace(path)
    except OSError:
        pass
