"""Outputs replace nothing that they did not make, go into no dataset, and say plainly what is not permitted."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import smolpilot.datasets
from smolpilot.cli.main import main

TRAIN = ["--preset", "tiny", "--from-scratch", "--steps", "1", "--device", "cpu"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode of five frames; never to be changed."""
    import numpy as np

    from smolpilot.datasets import DatasetWriter
    from smolpilot.environments.tabletop.env import CAMERAS  # noqa: F401  (loaded before anybody else runs)

    path = tmp_path_factory.mktemp("short") / "data"
    with DatasetWriter(
        path, fps=10, state_names=["a"], action_names=["a"], cameras={"top": (32, 32)}, robot_type="r"
    ) as writer:
        for frame in range(5):
            picture = np.full((32, 32, 3), 40 * frame, dtype=np.uint8)
            writer.add_frame(
                {"observation.state": [frame], "action": [frame], "task": "go", "observation.images.top": picture}
            )
    return path


# A page


@pytest.mark.parametrize("there", ["text", "empty", "report", "link", "folder", "pipe", "dangling"])
def test_a_page_replaces_no_file_of_another(
    short: Path, tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page, target = tmp_path / "notes.html", tmp_path / "target.txt"
    target.write_text("precious")
    {
        "text": lambda: page.write_text("precious"),
        "empty": lambda: page.write_text(""),
        "report": lambda: page.write_text('<!doctype html><meta name="generator" content="smolpilot">'),
        "link": lambda: page.symlink_to(target),
        "dangling": lambda: page.symlink_to(tmp_path / "nowhere"),
        "folder": page.mkdir,
        "pipe": lambda: os.mkfifo(page),
    }[there]()
    before = sorted(tmp_path.iterdir()), target.read_text()
    assert main(["dataset", "check", str(short), "--html", str(page)]) == 2
    said = capsys.readouterr()
    assert str(page) in said.err
    # Told at once, not after all frames have been decoded.
    assert said.out == ""
    assert (sorted(tmp_path.iterdir()), target.read_text()) == before


def test_a_page_of_the_same_verb_is_replaced(short: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "check.html"
    for _ in range(2):
        main(["dataset", "check", str(short), "--html", str(page)])
        assert page.read_text().count("Check of a dataset") == 1
        page.write_text(page.read_text().replace("Check of a dataset", "old"))
    assert [path.name for path in page.parent.iterdir()] == ["check.html"]


@pytest.mark.parametrize("damage", ["none", "info.json", "episodes", "meta"])
def test_no_output_goes_into_a_damaged_dataset_either(
    short: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(short, tmp_path / "data"))
    for name in {"none": (), "info.json": ["meta/info.json"], "episodes": ["meta/episodes"], "meta": ["meta"]}[damage]:
        path = data / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "linked.html").symlink_to(data / "meta" / "info.json")
    before = everything(tmp_path)
    for html in ("data/check.html", "data/meta/info.json", "link/data/x.html", "linked.html", "data/deep/er/x.html"):
        assert main(["dataset", "check", str(data), "--html", str(tmp_path / html)]) == 2
        assert "nside the dataset" in capsys.readouterr().err or html == "linked.html"
    for words in (["repair", "DATA", "DATA/fixed"], ["stats", "DATA", "--out", "DATA/stats.json"]):
        assert main(["dataset", *(word.replace("DATA", str(data)) for word in words)]) == 2
        assert "nside the dataset" in capsys.readouterr().err
    if damage != "meta":
        for words in (["train", "--dataset", str(short), *TRAIN], ["record", "--episodes", "1"], ["demo"]):
            assert main([*words, "--out", str(data / "out")]) == 2
            assert "nside the dataset" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        ["dataset", "stats", "DATA", "--out", "OUT"],
        ["dataset", "view", "DATA", "--out", "OUT"],
        ["dataset", "convert", "DATA", "OUT"],
        ["dataset", "repair", "DATA", "OUT"],
        ["dataset", "split", "DATA", "OUT", "--parts", "a=1.0"],
        ["dataset", "merge", "OUT", "DATA"],
        ["dataset", "rename", "DATA", "OUT", "--feature", "top=front"],
        ["record", "--out", "OUT", "--episodes", "1"],
        ["rollout", "POLICY", "--out", "OUT"],
        ["eval", "POLICY", "--dataset", "DATA", "--out", "OUT"],
        ["export", "POLICY", "--out", "OUT"],
        ["train", "--dataset", "DATA", *TRAIN, "--out", "OUT"],
        ["demo", "--out", "OUT"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_what_is_there_is_never_replaced(
    short: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = everything(tmp_path)
    for name in ("file", "folder", "dangling", "file/below"):
        given = [w.replace("OUT", str(tmp_path / name)).replace("DATA", str(short)) for w in words]
        assert main(given) == 2, name
        said = capsys.readouterr().err
        assert str(tmp_path / name) in said or str(tmp_path / "file") in said
        assert "Traceback" not in said
    assert everything(tmp_path) == before


# Permissions


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may enter, too."""
    folder = Path(tempfile.mkdtemp(prefix="smolpilot-place-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nobody() -> Iterator[Any]:
    """Whoever runs the tests, without the power to read everything; what is loaded late is loaded before."""
    for package in (smolpilot.datasets, importlib.import_module("smolpilot.cli")):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    if os.geteuid() != 0:
        yield lambda: None
        return
    yield lambda: os.seteuid(65534)
    os.seteuid(0)


READING = [
    ["info", "DATA"],
    ["check", "DATA"],
    ["stats", "DATA", "--recompute"],
    ["view", "DATA", "--out", "OUT"],
    ["convert", "DATA", "OUT"],
    ["repair", "DATA", "OUT"],
    ["exclude", "DATA", "OUT", "--episodes", "0"],
    ["rename", "DATA", "OUT", "--feature", "top=front"],
]


@pytest.mark.parametrize(
    "part",
    [
        "meta/info.json",
        "meta/tasks.parquet",
        "data/chunk-000/file-000.parquet",
        "data",
        "videos/observation.images.top/chunk-000/file-000.mp4",
        "videos/observation.images.top",
        "meta/episodes",
    ],
)
def test_what_may_not_be_read_is_not_missing(
    short: Path, place: Path, nobody: Any, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = Path(shutil.copytree(short, place / "data")), place / "free" / "out"
    out.parent.mkdir()
    out.parent.chmod(0o777)
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (data / part).chmod(0)
    nobody()
    for words in READING:
        code = main(["dataset", *(word.replace("DATA", str(data)).replace("OUT", str(out)) for word in words)])
        said = capsys.readouterr().err
        assert (code, "No permission" in said) == (2, True), (words, said)
        assert str(data / part) in said
        assert "issing" not in said
        assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["dataset", "check", "DATA", "--html", "OUT/a.html"],
        ["dataset", "stats", "DATA", "--out", "OUT/a.json"],
        ["dataset", "view", "DATA", "--out", "OUT/a"],
        ["dataset", "convert", "DATA", "OUT/a"],
        ["dataset", "repair", "DATA", "OUT/a"],
        ["dataset", "split", "DATA", "OUT/a", "--parts", "a=1.0"],
        ["dataset", "rename", "DATA", "OUT/a", "--feature", "top=front"],
        ["dataset", "merge", "OUT/a", "DATA"],
        ["record", "--out", "OUT/a/b", "--episodes", "1"],
        ["demo", "--out", "OUT/a"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_where_nothing_may_be_written_is_misuse_for_every_verb(
    short: Path, place: Path, nobody: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(short, place / "data"))
    (place / "locked").mkdir(mode=0o555)
    nobody()
    given = [w.replace("OUT", str(place / "locked")).replace("DATA", str(data)) for w in words]
    assert main(given) == 2
    said = capsys.readouterr()
    assert "No permission" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list((place / "locked").iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vlm"])
def test_a_checkpoint_that_may_not_be_read_is_not_torn(
    place: Path, nobody: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "policy" / "vlm").mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (place / "policy" / file).write_text("{}")
    (place / "policy" / name).chmod(0)
    nobody()
    assert main(["bundle", str(place / "policy")]) == 2
    said = capsys.readouterr().err
    assert f"No permission: {place}/policy/{name}" in said


# A full disk


def test_recording_on_a_full_disk_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that may not grow stand for the disk: the encoders of both cameras are open, and cannot finish theirs."""
    # In memory: a file of what is said, which grows with every line about progress, may not grow either.
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (2_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            code = main(["record", "--out", str(tmp_path / "out"), "--episodes", "2"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert code == 1
        said = capsys.readouterr().err
        assert said.count("error:") == 1
        assert "larger than this disk or a limit" in said
        assert "Traceback" not in said
        assert ignored == []
        assert list(tmp_path.iterdir()) == []


def test_arguments_that_are_no_utf8_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["dataset", "info", "caf\udce9"], ["train", "--out", "\ud800"], ["eval", "a\udcff", "--out", "b"]):
        assert main(words) == 2
        assert "is no UTF-8" in capsys.readouterr().err


def test_html_of_json_checks(short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page and the document name the same findings."""
    assert main(["dataset", "check", str(short), "--html", str(tmp_path / "c.html"), "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    page = (tmp_path / "c.html").read_text()
    assert all(found["code"] in page for found in document["findings"])
