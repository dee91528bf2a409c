"""On which processors OpenVINO computes in int8: by what the system says of the processor, in every mode."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.inference.backends import openvino_backend
from smolpilot.inference.backends.parity_check import LIMITS, ParityReport

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "int8"),
    [
        ("fpu sse2 avx2 avx512f", False),
        ("", False),
        ("fpu avx512_vnni avx2", True),
        ("fpu avx_vnni", True),
        ("amx_int8 amx_tile", True),
        # Words that only begin like it.
        ("avx_vnni_int16 amx_tile avx512_vnnix", False),
        (None, False),
    ],
)
def test_int8_needs_8_bit_dot_products_and_fast_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, int8: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\nbugs\t: spectre_v1\n\n"
                        f"processor\t: 1\nflags\t\t: {flags}\n")  # fmt: skip
    monkeypatch.setattr(openvino_backend, "Path", lambda name: file if name == "/proc/cpuinfo" else Path(name))
    reason = openvino_backend.unavailable("int8", CPU)
    assert reason == ("" if int8 else "the processor has no 8-bit dot products (AVX-VNNI, AVX512-VNNI or AMX)")
    assert openvino_backend.unavailable("fast", CPU) == ""
    assert openvino_backend.unavailable("int8", torch.device("cuda")) == "here it is used on CPUs only"
    assert "round differently" in openvino_backend.unavailable("exact", CPU)


@pytest.mark.parametrize("missing", [["onnx"], ["openvino"], ["onnx", "openvino"]])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
    assert openvino_backend.unavailable("fast", CPU).startswith(f"{' and '.join(missing)} is not installed")


# -- how far an engine may be from the plain network -------------------------------------------------------------------


def test_the_limits_are_these() -> None:
    """A wider limit lets a worse engine drive a robot: it is changed on purpose, here and in docs/inference.md."""
    assert LIMITS == {"exact": 0.0, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.1, "int8": 0.3}


@pytest.mark.parametrize(
    ("sigma", "limit", "passed"),
    [(0.3, 0.3, True), (0.3000001, 0.3, False), (0.0, 0.0, True), (1e-12, 0.0, False), (float("nan"), 0.3, False),
     (float("inf"), 0.3, False)],
)  # fmt: skip
def test_a_verdict_at_its_limit(sigma: float, limit: float, passed: bool) -> None:
    found: Any = ParityReport(sigma, limit, {"pan": 0.1, "lift": 0.4, "roll": 0.2}, {"pan": "rad"}, frames=3)
    assert found.passed == passed
    assert found.largest == ("lift", 0.4)
