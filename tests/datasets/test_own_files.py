"""Names in a dataset make no paths, and its links lead no further than itself: nothing of others is read or written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import UsageError
from smolpilot.datasets import DatasetWriter, read_meta

from .helpers_recordings import tree_hash
from .helpers_small import write_small

KEY = "observation.images.front"
TEMPLATE = f"videos/chunk-{{episode_chunk:03d}}/{KEY}/episode_{{episode_index:06d}}.mp4"
SECRET = "TOKEN=hf_secret_of_somebody"

type Make = Callable[..., Path]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two short episodes as v2.1 and as v3.0; never to be changed."""
    return write_small(tmp_path_factory.mktemp("small"), (6, 7))


@pytest.fixture
def data(small: dict[str, Path], tmp_path: Path) -> Make:
    """A copy, to be made hostile."""

    def make(version: str = "v2.1", name: str = "data") -> Path:
        return Path(shutil.copytree(small[version], tmp_path / name))

    return make


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def renamed(root: Path, key: str) -> Path:
    """The key of a camera in the description; its videos stay where the pattern says."""

    def change(info: dict[str, Any]) -> None:
        info["features"][key] = info["features"].pop(KEY)
        info["video_path"] = TEMPLATE

    edit(root, change)
    return root


def everything(folder: Path) -> dict[str, str]:
    """All that lies in a folder, hidden files and links too."""
    found = tree_hash(folder)
    return found | {str(path.relative_to(folder)): "" for path in folder.rglob("*") if not path.is_file()}


COPIES = [
    ["convert", "DATA", "OUT", "--to", "v2.1"],
    ["convert", "DATA", "OUT", "--to", "v3.0"],
    ["repair", "DATA", "OUT"],
    ["split", "DATA", "OUT", "--parts", "a=0", "b=1"],
]


def run(words: list[str], root: Path, out: Path) -> int:
    return main(["dataset", *(word.replace("DATA", str(root)).replace("OUT", str(out)) for word in words)])


@pytest.mark.parametrize("words", COPIES, ids=lambda words: "-".join(words[::4]))
def test_a_camera_key_that_leads_out_writes_nothing(
    data: Make, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data(name="victim")
    root = renamed(data(), f"../../../../victim/videos/chunk-000/{KEY}")
    before = everything(tmp_path)
    assert run(words, root, tmp_path / "result") == 1
    said = capsys.readouterr().err
    assert "cannot be called that: it" in said
    assert "Traceback" not in said
    assert everything(tmp_path) == before
    # What the message tells to do works.
    assert " --without " in said
    left_out = f"../../../../victim/videos/chunk-000/{KEY}"
    if words in (COPIES[0], ["repair", "DATA", "OUT"]):
        assert run([*words, "--without", left_out], root, tmp_path / "result") == 0
        assert read_meta(tmp_path / "result").camera_names == []
        assert {name: value for name, value in everything(tmp_path).items() if not name.startswith("result")} == before


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("..", "above"),
        (".", "above"),
        ("", "empty"),
        ("/tmp/x", "slash"),
        ("a\\..\\b", "slash or backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("n" * 256, "256 bytes"),
        ("影" * 86, "258 bytes"),
        ("nul", "Windows"),
        ("images/front", "slash"),
    ],
)
def test_names_that_are_none_are_refused_before_anything_is_written(
    data: Make, tmp_path: Path, key: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = renamed(data(), key)
    before = everything(tmp_path)
    for verb in ("info", "convert"):
        assert main(["dataset", verb, str(root), *([str(tmp_path / "out")] if verb == "convert" else [])]) == 1
        said = capsys.readouterr().err
        assert "cannot be called that" in said
        assert reason in said
        assert said.isascii() or key.startswith("影")
        assert "\x1b" not in said
    assert everything(tmp_path) == before


def test_a_camera_in_groups_gets_lerobots_name_by_a_repair(data: Make, tmp_path: Path, capsys: Any) -> None:
    root = renamed(data(), "observation.images/front")
    assert main(["dataset", "convert", str(root), str(tmp_path / "out")]) == 1
    assert f"smolpilot dataset repair {root} DST" in capsys.readouterr().err
    assert main(["dataset", "repair", str(root), str(tmp_path / "out")]) == 0
    assert read_meta(tmp_path / "out").cameras["front"].key == KEY


@pytest.mark.parametrize(("key", "version"), [("a" * 200, "v3.0"), ("観察 1 (left)..b", "v2.1"), ("-x%2e%2e", "v3.0")])
def test_unusual_names_stay_names(data: Make, tmp_path: Path, key: str, version: str) -> None:
    root, out = renamed(data(), key), tmp_path / "out"
    assert main(["dataset", "convert", str(root), str(out), "--to", version]) == 0
    assert [camera.key for camera in read_meta(out).cameras.values()] == [key]
    assert {path.parents[0 if version == "v2.1" else 1].name for path in out.rglob("*.mp4")} == {key}


def test_another_feature_that_leads_out_is_left_out_and_never_a_path(data: Make, tmp_path: Path) -> None:
    root = data()
    edit(root, lambda info: info["features"].update({"../../x": {"dtype": "float32", "shape": [1], "names": None}}))
    edit(root, lambda info: info["features"].update({"a/b": {"dtype": "float32", "shape": [1], "names": None}}))
    meta = read_meta(root)
    assert "../../x" not in meta.features
    assert "stands for a folder above" in meta.left_out["../../x"]
    assert "a/b" in meta.features
    assert main(["dataset", "check", str(root)]) == 1
    assert main(["dataset", "repair", str(root), str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a\0b", "x" * 300, "."])
def test_a_recorder_of_ones_own_is_told_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="camera"):
        DatasetWriter(tmp_path / "out", fps=10, state_names=["a"], action_names=["a"], cameras={name: (32, 32)}).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "template",
    [
        "/etc/{episode_index:06d}.parquet",
        "data/../../{episode_index:06d}.parquet",
        "{episode_index.__class__}.parquet",
        "{episode_index[0]}.parquet",
        "{episode_index:0999999999d}.parquet",
        "{episode_index!r}.parquet",
        "{other}.parquet",
        "{}.parquet",
        "data/\0{episode_index}.parquet",
        "",
        "{",
        "data/" + 300 * "x" + ".parquet",
    ],
)
def test_patterns_are_filled_with_numbers_and_names_only(
    data: Make, tmp_path: Path, template: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data()
    edit(root, lambda info: info.update(data_path=template))
    assert main(["dataset", "info", str(root)]) == 1
    assert "'data_path'" in capsys.readouterr().err
    assert main(["dataset", "check", str(root)]) == 1
    assert "template-unusable" in capsys.readouterr().out


# Links


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's that is none of the dataset's."""
    path = tmp_path / "home" / "secret.txt"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def leaked(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "words",
    [*COPIES[1:], ["rename", "DATA", "OUT", "--feature", "front=top"]],
    ids=lambda words: "-".join(words[::4]),
)
def test_links_out_of_the_dataset_are_left_out_and_said(
    data: Make, secret: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = data("v3.0" if words[0] == "split" else "v2.1")
    (root / "README.md").symlink_to(secret)
    (root / "meta" / "notes.txt").symlink_to("../../home/secret.txt")
    (root / "chain").symlink_to("chained")
    (root / "chained").symlink_to(secret)
    (root / "proc").symlink_to("/proc/self/environ")
    (root / "folder").symlink_to(secret.parent)
    (root / "meta" / "more").symlink_to(secret.parent)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    (root / ".env").write_text(SECRET)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text(SECRET)
    (root / "docs").mkdir()
    (root / "docs" / "card.md").write_text("a card")
    (root / "inside.md").symlink_to("docs/card.md")
    out = tmp_path / "result"
    assert run(words, root, out) == 0
    done = capsys.readouterr()
    said = " ".join((done.out + done.err).split())
    assert leaked(out) == []
    kept = [out / "a", out / "b"] if words[0] == "split" else [out]
    for copy in kept:
        assert (copy / "docs" / "card.md").read_text() == "a card"
        assert (copy / "inside.md").read_text() == "a card"
        assert not (copy / "inside.md").is_symlink()
        names = {path.relative_to(copy).parts[0] for path in copy.rglob("*")}
        assert names == {"meta", "data", "videos", "docs", "inside.md"}
        assert not {"meta/notes.txt", "README.md"} & set(
            json.loads((copy / "meta" / "smolpilot_manifest.json").read_text())["files"]
        )
    for name in ("README.md", "meta/notes.txt", "chain", "proc", "folder", "meta/more", "loop", "pipe", ".env"):
        assert f"{name} is left out: it is" in said, name


@pytest.mark.parametrize(
    ("version", "part"),
    [
        ("v2.1", "meta/info.json"),
        ("v2.1", "meta/tasks.jsonl"),
        ("v2.1", f"videos/chunk-000/{KEY}/episode_000001.mp4"),
        ("v2.1", "data/chunk-000/episode_000000.parquet"),
        ("v2.1", "videos"),
        ("v3.0", "meta/tasks.parquet"),
        ("v3.0", "meta/episodes"),
    ],
)
def test_a_part_that_lies_elsewhere_is_not_read(
    data: Make, tmp_path: Path, version: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = data(version)
    (root / part).rename(tmp_path / "elsewhere")
    (root / part).symlink_to(tmp_path / "elsewhere")
    out = str(tmp_path / "out")
    for words in (["info", str(root)], ["convert", str(root), out], ["repair", str(root), out]):
        assert main(["dataset", *words]) == 1
        said = capsys.readouterr().err
        assert f"is a link to {tmp_path}/elsewhere" in said
        assert f"cp -rL {root} COPY" in said
    assert main(["dataset", "check", str(root)]) == 1
    assert "elsewhere" in capsys.readouterr().out or part in ("videos", "meta/episodes")
    assert not (tmp_path / "out").exists()
    # The way that the message names.
    shutil.copytree(root, tmp_path / "whole", symlinks=False)
    assert main(["dataset", "info", str(tmp_path / "whole")]) == 0


def test_links_that_are_the_datasets_own_are_followed(data: Make, small: dict[str, Path], tmp_path: Path) -> None:
    """A link to the dataset, links within it, and the hub's cache, where every file is a link into its blobs."""
    (tmp_path / "link").symlink_to(small["v2.1"])
    assert read_meta(tmp_path / "link").total_frames == 13
    root = data()
    (root / "videos").rename(root / "films")
    (root / "videos").symlink_to("films")
    assert read_meta(root).total_frames == 13
    repo = tmp_path / "datasets--some--body"
    snapshot, blobs = repo / "snapshots" / "0123abc", repo / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in small["v3.0"].rglob("*") if path.is_file())):
        shutil.copyfile(path, blobs / f"{number:040x}")
        name = snapshot / path.relative_to(small["v3.0"])
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(os.path.relpath(blobs / f"{number:040x}", name.parent))
    (blobs / "card").write_text("a card")
    (snapshot / "README.md").symlink_to("../../blobs/card")
    (tmp_path / "cached").symlink_to(snapshot)
    for place in (snapshot, tmp_path / "cached"):
        out = tmp_path / f"out_of_{place.name}"
        assert main(["dataset", "convert", str(place), str(out), "--to", "v2.1"]) == 0
        assert (out / "README.md").read_text() == "a card"
        assert not any(path.is_symlink() for path in out.rglob("*"))


def test_blobs_that_lead_on_are_none(small: dict[str, Path], tmp_path: Path, secret: Path, capsys: Any) -> None:
    snapshot = tmp_path / "datasets--some--body" / "snapshots" / "0123abc"
    shutil.copytree(small["v2.1"], snapshot)
    (tmp_path / "datasets--some--body" / "blobs").symlink_to(secret.parent)
    (snapshot / "README.md").symlink_to("../../blobs/secret.txt")
    assert main(["dataset", "convert", str(snapshot), str(tmp_path / "out")]) == 0
    assert "README.md is left out" in capsys.readouterr().err
    assert leaked(tmp_path / "out") == []


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_pipes_among_the_files_stop_nobody(data: Make, tmp_path: Path, version: str) -> None:
    """Who opens a pipe that nobody writes to waits for ever."""
    root = data(version)
    os.mkfifo(root / "data" / "chunk-000" / "file-999.parquet")
    os.mkfifo(root / "data" / "chunk-000" / "episode_000000.mp4")
    assert main(["dataset", "check", str(root)]) in (0, 1)
    assert main(["dataset", "repair", str(root), str(tmp_path / "out")]) == 0


# Names that are no UTF-8

LATIN = os.fsdecode(b"caf\xe9")


def test_a_note_whose_name_is_no_utf8_comes_along_under_another(data: Make, tmp_path: Path, capsys: Any) -> None:
    for verb, version in (("convert", "v2.1"), ("repair", "v3.0")):
        root, out = data(version, f"data{version}"), tmp_path / verb
        (root / f"{LATIN}.txt").write_text("a note")
        (root / LATIN).mkdir()
        (root / LATIN / "more.txt").write_text("another")
        assert main(["dataset", verb, str(root), str(out)]) == 0
        done = capsys.readouterr()
        assert "caf\\udce9.txt is called caf%E9.txt in the copy" in done.err + done.out
        assert (out / "caf%E9.txt").read_text() == "a note"
        assert (out / "caf%E9" / "more.txt").read_text() == "another"
        assert all(str(path).isprintable() for path in out.rglob("*"))
        for words in (["info"], ["tasks"], ["stats"]):
            assert main(["dataset", *words, str(root)]) == 0
    assert main(["dataset", "check", str(root), "--html", str(tmp_path / "page.html")]) == 0
    assert "is called caf%E9.txt in the copy" in capsys.readouterr().out


def test_a_dataset_whose_own_name_is_no_utf8_is_one_clear_error(data: Make, tmp_path: Path, capsys: Any) -> None:
    data().rename(tmp_path / LATIN)
    before = everything(tmp_path)
    for words in (["info", "IT"], ["check", "IT"], ["convert", "IT", "out"], ["repair", "IT", "out"], ["tasks", "IT"]):
        assert main(["dataset", *(str(tmp_path / LATIN) if word == "IT" else word for word in words)]) == 2
        said = capsys.readouterr().err
        assert "is no UTF-8" in said
        assert "caf\\udce9" in said
    (tmp_path / "link").symlink_to(LATIN)
    for verb in ("info", "check"):
        assert main(["dataset", verb, str(tmp_path / "link")]) == 2
        assert "no UTF-8" in capsys.readouterr().err
    (tmp_path / "link").unlink()
    assert everything(tmp_path) == before


def test_a_video_whose_name_is_no_utf8_is_a_finding(data: Make, tmp_path: Path, capsys: Any) -> None:
    root = data()
    video = root / "videos" / "chunk-000" / KEY / "episode_000001.mp4"
    video.rename(video.with_name(f"{LATIN}_000001.mp4"))
    assert main(["dataset", "check", str(root)]) == 1
    assert "file-missing" in capsys.readouterr().out
    assert main(["dataset", "repair", str(root), str(tmp_path / "out")]) == 0
    assert len(read_meta(tmp_path / "out").episodes) == 1
