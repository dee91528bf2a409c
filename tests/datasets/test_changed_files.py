"""Files that are no longer what was written: checksums in the pages of our tables, the manifest in the meta folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import DatasetError
from smolpilot.datasets import DatasetWriter, open_dataset

MANIFEST = "meta/smolpilot_manifest.json"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each of the verbs writes, of two episodes with a card; never to be changed."""
    base = tmp_path_factory.mktemp("written")
    names = ["a", "b", "c"]
    with DatasetWriter(
        base / "record", fps=10, state_names=names, action_names=names, cameras={"top": (32, 32)}, robot_type="toy"
    ) as writer:
        for episode in range(3):
            for i in range(12):
                vector = np.sin([0.3 * i + episode, 0.2 * i, 0.1 * i + 1]).astype(np.float32)
                picture = np.full((32, 32, 3), 60 + 20 * episode, np.uint8)
                picture[i : i + 12, i : i + 12] = (220, 40, 40)
                frame = {"observation.state": vector, "action": vector + 0.1, "observation.images.top": picture}
                writer.add_frame({**frame, "task": f"touch block {episode % 2}"})
            writer.end_episode()
    (base / "record" / "README.md").write_text("# A card\n")
    verbs: dict[str, list[str]] = {
        "convert": [],
        "to v2.1": ["--to", "v2.1"],
        "repair": [],
        "rename": ["--feature", "top=hand"],
        "exclude": ["--episodes", "1"],
    }
    for name, options in verbs.items():
        verb = name.replace("to v2.1", "convert")
        assert main(["dataset", verb, str(base / "record"), str(base / name), *options, "--jobs", "1"]) == 0
    return {name: base / name for name in ("record", *verbs)}


@pytest.fixture
def copied(written: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(written[name], tmp_path / "copied"))


def flip(path: Path, at: int) -> None:
    """Turn one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def pages(path: Path) -> list[int]:
    """The last byte of each column of a parquet file: one of the values."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    found = []
    for number in range(group.num_columns):
        column = group.column(number)
        start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        found.append(start + column.total_compressed_size - 1)
    return found


def check(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code and findings by code of `dataset check`."""
    code = main(["dataset", "check", str(root), "--json", "--jobs", "1"])
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(capsys.readouterr().out)["findings"]:
        found.setdefault(one["code"], []).append(one)
    return code, found


@pytest.mark.parametrize("verb", ["record", "convert", "to v2.1", "repair", "rename", "exclude"])
def test_every_table_that_is_written_has_checksums(written: dict[str, Path], verb: str, tmp_path: Path) -> None:
    tables = sorted(written[verb].rglob("*.parquet"))
    assert tables
    for number, path in enumerate(tables):
        places = pages(path)
        for at in (places[0], places[len(places) // 2], places[-1]):
            damaged = Path(shutil.copy(path, tmp_path / f"{number}.parquet"))
            flip(damaged, at)
            with pytest.raises(OSError, match="CRC"):
                pq.ParquetFile(damaged, page_checksum_verification=True).read()


@pytest.mark.parametrize("verb", ["record", "to v2.1"])
def test_a_flipped_bit_in_a_table_is_one_clear_error(
    copied: Callable[[str], Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied(verb)
    path = sorted((root / "data").rglob("*.parquet"))[0]
    names = pq.ParquetFile(path).schema_arrow.names
    flip(path, pages(path)[names.index("observation.state")])
    with pytest.raises(DatasetError, match=r"data file .* is damaged: a part of it is not what was written"):
        open_dataset(root)
    code, found = check(root, capsys)
    assert code == 1
    assert "CRC" in found["parquet-torn"][0]["message"]
    assert path.name in found["parquet-torn"][0]["message"]


@pytest.mark.parametrize("name", ["episodes/chunk-000/file-000.parquet", "tasks.parquet"])
def test_a_flipped_bit_in_the_lists_is_one_clear_error(
    copied: Callable[[str], Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied("record")
    flip(root / "meta" / name, pages(root / "meta" / name)[0])
    with pytest.raises(DatasetError, match="is damaged: a part of it is not what was written"):
        open_dataset(root)
    code, found = check(root, capsys)
    assert code == 1
    assert "CRC" in found["meta-damaged"][0]["message"]


@pytest.mark.parametrize("verb", ["convert", "to v2.1", "repair", "rename", "exclude"])
def test_what_was_written_fits_its_manifest(
    written: dict[str, Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(written[verb], capsys)
    assert code == 0
    assert not [name for name in found if name.startswith("manifest")]


def _pixel(root: Path) -> str:
    """A byte in the middle of the images: they still decode, as others."""
    path = sorted((root / "videos").rglob("*.mp4"))[0]
    flip(path, path.read_bytes().index(b"mdat") + 900)
    return path.relative_to(root).as_posix()


def _description(root: Path) -> str:
    path = root / "meta" / "info.json"
    path.write_text(path.read_text().replace('"toy"', '"tot"'))
    return "meta/info.json"


def _longer(root: Path) -> str:
    path = root / "meta" / "stats.json"
    path.write_text(path.read_text() + "\n")
    return "meta/stats.json"


@pytest.mark.parametrize("change", [_pixel, _description, _longer])
def test_a_changed_file_is_named(
    copied: Callable[[str], Path], change: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied("convert")
    name = change(root)
    code, found = check(root, capsys)
    assert code == 1
    (changed,) = found["manifest-changed"]
    assert changed["severity"] == "error"
    assert changed["message"].startswith(f"{name} is not what was written")


def test_a_change_that_was_meant_has_a_way_out(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = copied("convert")
    _longer(root)
    code, found = check(root, capsys)
    assert code == 1
    (changed,) = found["manifest-changed"]
    # A copy, or no manifest.
    assert f"smolpilot dataset repair {root} DST" in changed["fix"]
    assert main(["dataset", "repair", str(root), str(tmp_path / "meant"), "--jobs", "1"]) == 0
    capsys.readouterr()
    code, found = check(tmp_path / "meant", capsys)
    assert (code, "manifest-changed" in found) == (0, False)
    (root / MANIFEST).unlink()
    code, found = check(root, capsys)
    assert (code, "manifest-changed" in found) == (0, False)


def test_cards_and_further_files_are_said_and_no_error(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied("convert")
    assert (root / "README.md").is_file()
    (root / "README.md").write_text("# Another card\n")
    (root / "LICENSE").write_text("mine\n")
    (root / ".gitattributes").write_text("*.mp4 filter=lfs\n")
    code, found = check(root, capsys)
    assert code == 0
    assert found["manifest-changed"][0]["severity"] == "info"
    assert found["manifest-added"][0]["message"] == f"{MANIFEST} does not list LICENSE."
    (root / "README.md").unlink()
    code, found = check(root, capsys)
    assert code == 0
    assert found["manifest-missing"][0]["message"] == f"{MANIFEST} lists README.md, which is not here."
    assert found["manifest-missing"][0]["severity"] == "warning"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", ""),
        ("", ""),
        ("[1]", "no manifest of format 1"),
        ('{"format": 2, "files": {}}', "no manifest of format 1"),
        ('{"format": 1}', "lists no files"),
        ('{"format": 1, "files": ["a"]}', "lists no files"),
        ('{"format": 1, "files": {"a": 5}}', "no size and digest of a"),
        ('{"format": 1, "files": {"a": {"bytes": "1", "blake2b": "x"}}}', "no size and digest of a"),
        ("[" * 100_000, "deeper"),
        ('{"format": 1, "files": {"\\ud800": 1}}', "surrogate"),
    ],
)
def test_a_manifest_that_is_none_is_a_finding(
    copied: Callable[[str], Path], text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copied("convert")
    (root / MANIFEST).write_text(text)
    code, found = check(root, capsys)
    assert code == 0
    assert reason in found["manifest-damaged"][0]["message"]
    assert "manifest-changed" not in found


def test_names_of_a_manifest_are_no_paths(copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = copied("convert")
    outside = root.parent / "secret"
    outside.write_text("x")
    document = json.loads((root / MANIFEST).read_text())
    document["files"] |= {name: {"bytes": 1, "blake2b": "0"} for name in ("../secret", str(outside), "a\x1b[2Jb")}
    (root / MANIFEST).write_text(json.dumps(document))
    code, found = check(root, capsys)
    assert code == 0
    assert "manifest-changed" not in found
    assert "a\\x1b[2Jb" in found["manifest-missing"][0]["message"]


def test_the_number_of_jobs_changes_nothing(copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = copied("to v2.1")
    names = [path.relative_to(root).as_posix() for path in sorted((root / "videos").rglob("*.mp4"))[1:4]]
    for name in names:
        flip(root / name, (root / name).read_bytes().index(b"mdat") + 300)
    messages = []
    for jobs in ("1", "4"):
        assert main(["dataset", "check", str(root), "--json", "--jobs", jobs]) == 1
        found = json.loads(capsys.readouterr().out)["findings"]
        messages.append([one["message"] for one in found if one["code"] == "manifest-changed"])
    assert messages[0] == messages[1]
    assert [message.split()[0] for message in messages[0]] == names


@pytest.mark.parametrize("verb", ["convert", "rename", "exclude", "compare"])
def test_a_damaged_page_of_the_episode_table_is_named(
    copied: Callable[[str], Path], verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = copied("record")
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    names = [group.column(number).path_in_schema for number in range(group.num_columns)]
    # Statistics, which nothing needs in order to find the episodes.
    place = next(number for number, name in enumerate(names) if name.startswith("stats/action/mean"))
    flip(path, pages(path)[place])
    options = {"rename": ["--feature", "top=hand"], "exclude": ["--episodes", "1"]}.get(verb, [])
    out = root if verb == "compare" else tmp_path / "out"
    assert main(["dataset", verb, str(root), str(out), *options]) == 1
    printed = capsys.readouterr()
    assert "The episode table" in printed.err
    assert "is damaged: a part of it is not what was written" in printed.err
    assert not (tmp_path / "out").exists()
