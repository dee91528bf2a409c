"""What an engine keeps between starts: damage of any kind is found before it moves a robot, said, and made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.hashing import folder_differences
from smolpilot.inference import Engine, prepare

Frames = list[dict[str, Any]]

pytest.importorskip("openvino")


def start(bundle: Path, cache: Path, frames: Frames) -> Engine:
    return prepare(bundle, engine="fast", backend="openvino", device="cpu", frame=frames[0], cache_dir=cache)


def chunk(engine: Engine, frames: Frames) -> torch.Tensor:
    noise = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    return engine.predict_chunk(frames[0], noise)


@pytest.fixture(scope="module")
def made(bundle: Path, frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """The cache of an engine, and a chunk of that engine."""
    folder = tmp_path_factory.mktemp("engines")
    return folder, chunk(start(bundle, folder, frames), frames)


@pytest.fixture
def cache(made: tuple[Path, torch.Tensor], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "engines"))


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 8
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "graph, header": lambda g: flip(g / "prefix.onnx", 0.0),
    "graph, body": lambda g: flip(g / "denoise.onnx", 0.5),
    "weights": lambda g: flip(g / "denoise.onnx.data", 0.6),
    "weights, last byte": lambda g: flip(g / "vision.onnx.data", 1.0),
    "embeddings, header": lambda g: flip(g / "embeddings.npy", 0.0),
    "embeddings": lambda g: flip(g / "embeddings.npy", 0.5),
    "digests": lambda g: flip(g / "digests.json", 0.5),
    "digests, no JSON": lambda g: (g / "digests.json").write_text("[" * 2000),
    "digests, odd": lambda g: (g / "digests.json").write_text('{"digests": [1]}'),
    "digests gone (an earlier version)": lambda g: (g / "digests.json").unlink(),
    "torn": lambda g: cut(g / "prefix.onnx.data"),
    "gone": lambda g: (g / "vision.onnx.data").unlink(),
    "a file more": lambda g: (g / "more.onnx").write_bytes(b"x"),
    "two in each other's place": lambda g: swap(g / "prefix.onnx.data", g / "denoise.onnx.data"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_any_kind_is_found(kind: str, cache: Path) -> None:
    (graphs,) = cache.glob("*/graphs")
    assert not folder_differences(graphs)
    DAMAGE[kind](graphs)
    assert folder_differences(graphs)


@pytest.mark.parametrize("kind", ["weights", "gone", "digests gone (an earlier version)"])
def test_a_damaged_cache_is_made_anew_and_said(
    kind: str, bundle: Path, made: tuple[Path, torch.Tensor], cache: Path, frames: Frames,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (graphs,) = cache.glob("*/graphs")
    DAMAGE[kind](graphs)
    engine = start(bundle, cache, frames)
    said = capsys.readouterr().err
    assert f"engine cache: {graphs} is damaged, so made anew" in said
    assert len(said.strip().splitlines()) == 1
    assert torch.equal(chunk(engine, frames), made[1])
    assert engine.verdict is not None
    assert not engine.verdict.stored, "what was measured with damaged graphs says nothing"
    assert not folder_differences(graphs)


def test_a_sound_cache_is_used_as_it_is(
    bundle: Path, made: tuple[Path, torch.Tensor], cache: Path, frames: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    (graphs,) = cache.glob("*/graphs")
    before = {path.name: path.stat().st_mtime_ns for path in graphs.iterdir()}
    engine = start(bundle, cache, frames)
    assert capsys.readouterr().err == ""
    assert engine.verdict is not None
    assert engine.verdict.stored
    assert torch.equal(chunk(engine, frames), made[1])
    assert {path.name: path.stat().st_mtime_ns for path in graphs.iterdir()} == before


def other(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"sigma": values["sigma"] / 2}


@pytest.mark.parametrize("damage", [other, lambda values: values | {"sigma": "x"}, lambda values: [values]])
def test_a_damaged_verdict_is_none(bundle: Path, cache: Path, frames: Frames, damage: Callable[..., Any]) -> None:
    (path,) = cache.glob("*/verdict.json")
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    engine = start(bundle, cache, frames)
    assert engine.verdict is not None
    assert not engine.verdict.stored
