"""`smolpilot doctor`: real checks on this machine, and every kind of trouble, simulated."""

from __future__ import annotations

import collections
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import av.codec
import pytest

from smolpilot.cli.main import main
from smolpilot.selftest import codec_samples
from smolpilot.selftest import machine_checks as doctor
from smolpilot.selftest.machine_checks import Check

Usage = collections.namedtuple("Usage", "total used free")


@pytest.mark.parametrize("codec", codec_samples.CODECS)
def test_every_codec_really_decodes_here(codec: str) -> None:
    check = doctor.check_codec(codec)
    assert check.verdict == "ok"
    assert "decodes (" in check.found


def test_the_samples_are_in_the_codec_they_claim() -> None:
    for codec, fourcc in (("h264", b"avc1"), ("hevc", b"hev1"), ("av1", b"av01")):
        assert fourcc in codec_samples.sample(codec)


def test_a_broken_decoder_is_an_error_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_samples, "sample", lambda codec: b"not a video")
    check = doctor.check_codec("h264")
    assert check.verdict == "error"
    assert "cannot be decoded" in check.found
    assert "uv pip install" in check.fix


def test_wrong_colors_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_samples, "RED", (0, 255, 0))
    assert "a color is off" in doctor.check_codec("hevc").found


def test_without_encoders_only_h264_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = av.codec.Codec

    def readable_only(name: str, mode: str = "r") -> object:
        if mode == "w":
            raise ValueError("no such encoder")
        return real(name, mode)  # type: ignore[arg-type]

    monkeypatch.setattr(av.codec, "Codec", readable_only)
    assert doctor.check_codec("h264").verdict == "error"
    check = doctor.check_codec("av1")
    assert check.verdict == "ok"
    assert "no encoder in this build" in check.found


def test_missing_and_old_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=999.1", "no-such-package>=1", "rich>=1; python_version > '3'", "other; extra == 'x'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    (check,) = doctor._packages()
    assert check.verdict == "error"
    assert "missing: no-such-package" in check.found
    assert "numpy" in check.found
    assert "needs 999.1" in check.found
    assert "rich" not in check.found
    assert "other" not in check.found


def test_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (check,) = doctor._torch()
    assert (check.verdict, "cannot be imported" in check.found) == ("error", True)
    assert doctor._guarded("device", doctor._device)[0].verdict == "error"


def test_a_gpu_that_torch_cannot_use_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "_has_nvidia", lambda: True)
    assert doctor._device()[0].verdict == "warning"
    monkeypatch.setattr(doctor, "_has_nvidia", lambda: False)
    assert doctor._device()[0].verdict == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(5e8, "error"), (5e9, "warning"), (5e10, "ok")])
def test_disk_space(free: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1e12, 1e12 - free, free))
    assert {check.verdict for check in doctor._disk()} == {verdict}


def test_hub_offline_state_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    (tmp_path / "models--a--b").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = doctor._hub()[0].found
    assert "offline" in found
    assert "1 models" in found
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert "online" in doctor._hub()[0].found


def test_one_frame_of_each_camera_of_a_dataset(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4096\n"
    for camera, data in (("good", codec_samples.sample("av1")), ("pointer", pointer), ("torn", pointer[:20])):
        folder = tmp_path / "videos" / f"observation.images.{camera}" / "chunk-000"
        folder.mkdir(parents=True)
        (folder / "file-000.mp4").write_bytes(data)
    good, lacking, torn = doctor.check_videos(tmp_path)
    assert (good.name, good.verdict) == ("observation.images.good", "ok")
    assert "64 x 64" in good.found
    assert (torn.name, torn.verdict) == ("observation.images.torn", "error")
    assert (lacking.name, lacking.verdict) == ("observation.images.pointer", "error")
    assert "lfs pull" in lacking.fix
    assert "smolpilot dataset check" in torn.fix
    assert doctor.check_videos(tmp_path / "none")[0].verdict == "error"


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> list[Check]:
        raise RuntimeError("boom")

    (check,) = doctor._guarded("memory", broken)
    assert check.verdict == "error"
    assert "boom" in check.found


def test_exit_code_lines_and_fixes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("disk", "warning", "little [left]", "free some"), Check("memory", "ok", "much")]
    monkeypatch.setattr(doctor, "run_checks", lambda dataset: iter(checks))
    monkeypatch.setattr("smolpilot.cli.doctor._environments", lambda: iter(()))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "warning  disk" in out
    assert "little [left]" in out
    assert "fix: free some" in out
    assert "1 ok, 1 warnings, 0 errors" in out
    checks.append(Check("video", "error", "no decoder", "reinstall"))
    assert main(["doctor"]) == 1


def test_json_of_the_real_run_is_one_document() -> None:
    command = [sys.executable, "-m", "smolpilot.cli.main", "doctor", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    report = json.loads(result.stdout)
    names = [check["name"] for check in report["checks"]]
    for name in ("Python", "packages", "torch", "memory", "video h264", "video hevc", "video av1", "hub", "lerobot"):
        assert name in names
    assert result.returncode == (1 if report["verdict"] == "error" else 0)
    assert all(check["fix"] for check in report["checks"] if check["verdict"] != "ok")


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 11, 9), "error"), ((3, 12, 0), "ok"), ((3, 13, 5), "ok"), ((3, 14, 0), "error"), ((4, 12, 0), "error")],
)
def test_which_pythons_are_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: tuple[int, ...], verdict: str
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    # The first line of the report; the others, which take longer, are not asked for.
    check = next(doctor.run_checks())
    assert (check.name, check.verdict) == ("Python", verdict)
    assert bool(check.fix) == (verdict == "error")


def test_this_python_is_right() -> None:
    assert next(doctor.run_checks()).verdict == "ok"
