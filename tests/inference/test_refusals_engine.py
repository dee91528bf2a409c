"""Backends, precisions and calibrations that cannot serve."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smolpilot.common.errors import UsageError
from smolpilot.inference import prepare
from smolpilot.inference.backends import BACKENDS, choose_backend, choose_precision
from smolpilot.smolvla import Policy

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_mode_that_no_backend_serves_says_why_each_cannot() -> None:
    with pytest.raises(UsageError, match=r"No backend serves mode 'int8' on cuda: ") as caught:
        choose_backend("auto", "int8", GPU, "auto", "float32")
    assert all(f"{name}: " in caught.value.found for name in BACKENDS)


def test_backends_by_name() -> None:
    with pytest.raises(UsageError, match=r"There is no backend 'tourch'.\nFix: Did you mean 'torch'"):
        choose_backend("tourch", "fast", CPU, "auto", "float32")
    with pytest.raises(UsageError, match="The backend 'openvino' cannot serve mode 'exact' on cpu"):
        choose_backend("openvino", "exact", CPU, "auto", "float32")
    assert choose_backend("torch", "fast", CPU, "auto", "float32") == "torch"
    assert choose_backend("auto", "exact", CPU, "auto", "float32") == "torch"
    # The one that has the precision that is asked for, though another comes before it.
    assert choose_backend("auto", "fast", CPU, "bfloat16", "bfloat16") == "torch"


def test_a_precision_that_a_backend_does_not_have() -> None:
    assert choose_precision("openvino", "fast", CPU, "auto", "bfloat16") == "float32"
    with pytest.raises(UsageError, match="float16"):
        choose_precision("openvino", "fast", CPU, "float16", "float32")


@pytest.mark.parametrize("options", [{"revision": "main"}, {"tokenizer_dir": "folder"}])
def test_what_goes_with_a_path_only(policy: Policy, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))} goes with a path, not with a loaded policy"):
        prepare(policy, engine="exact", device="cpu", **options)
