"""What the system refuses is told as what it is; outputs never go into a dataset; sizes in a unit that shows them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.common.errors import explain
from smolpilot.common.text import format_bytes


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP, errno.EIO, errno.ENAMETOOLONG]
)
def test_only_a_full_disk_is_called_full(number: int) -> None:
    found, fix = explain(OSError(number, os.strerror(number), "some/file"))
    assert "some/file" in found
    assert os.strerror(number) in found
    assert not any(word in (found + fix).lower() for word in ("full", "space"))
    others = {explain(OSError(other, "x", "y")).found for other in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT)}
    assert explain(OSError(number, "x", "y")).found not in others


def test_a_full_disk_and_a_number_without_a_text_of_its_own() -> None:
    assert "full" in explain(OSError(errno.ENOSPC, "No space left on device")).found
    found, fix = explain(OSError(errno.EPROTO, "Protocol error", "f"))
    assert "Protocol error" in found
    assert fix == ""


def test_a_file_that_may_not_grow_is_told_by_a_verb(tiny_dataset: Path, tmp_path: Path) -> None:
    """A limit of the system itself: RLIMIT_FSIZE makes every larger file an EFBIG."""
    code = "import signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfrom smolpilot.cli.main import main\n" \
           "sys.exit(main(sys.argv[1:]))"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, "dataset", "stats", str(tiny_dataset), "--out", str(tmp_path / "s.json")],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "larger than this disk or a limit" in done.stderr
    assert "permission" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_never_zero_for_what_is_there() -> None:
    assert [format_bytes(count) for count in (0, 999, 3_400_000, 999_600_000, 1_234_000_000, 5e12)] == [
        "0 B", "999 B", "3.4 MB", "1 GB", "1.23 GB", "5 TB",
    ]  # fmt: skip


TRAIN = ["--preset", "tiny", "--from-scratch", "--steps", "1", "--device", "cpu"]


@pytest.mark.parametrize(
    "args",
    [
        ["train", "--dataset", "DATA", *TRAIN, "--out", "DATA/run"],
        ["train", "--dataset", "DATA", *TRAIN, "--out", "DATA/meta/a/b"],
        ["train", "--dataset", "DATA", *TRAIN, "--out", "OUT", "--cache-dir", "DATA/cache"],
        ["train", "--dataset", "DATA", *TRAIN, "--out", "LINK/run"],
        ["eval", "POLICY", "--dataset", "DATA", "--out", "DATA/report"],
        ["export", "POLICY", "--out", "DATA/export"],
        ["rollout", "POLICY", "--out", "DATA/rollout"],
        ["record", "--out", "DATA/more", "--episodes", "1"],
        ["demo", "--out", "DATA/demo"],
        ["dataset", "view", "DATA", "--out", "DATA/page"],
        ["dataset", "check", "DATA", "--html", "DATA/check.html"],
        ["dataset", "stats", "DATA", "--out", "DATA/meta/new.json"],
        ["dataset", "convert", "DATA", "DATA/v21", "--to", "v2.1"],
        ["dataset", "repair", "DATA", "DATA/fixed"],
        ["dataset", "exclude", "DATA", "DATA/rest", "--episodes", "0"],
        ["dataset", "split", "DATA", "DATA/parts", "--parts", "a=0.5", "b=0.5"],
    ],
)
def test_no_output_goes_into_a_dataset(
    tiny_dataset: Path, tmp_path: Path, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in tiny_dataset.rglob("*"))
    (tmp_path / "link").symlink_to(tiny_dataset)
    words = [
        word.replace("DATA", str(tiny_dataset))
        .replace("LINK", str(tmp_path / "link"))
        .replace("OUT", str(tmp_path / "o"))
        for word in args
    ]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "inside the dataset" in said or "inside the recording" in said
    assert sorted(tiny_dataset.rglob("*")) == before
    assert not (tmp_path / "o").exists()
