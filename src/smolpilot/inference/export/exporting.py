"""`export_policy`: the whole folder, or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.keys import ACTION
from smolpilot.smolvla.config.vlm_folder import TOKENIZER

from .parity import parity, write_parity
from .policy_json import policy_facts, with_digests

if TYPE_CHECKING:
    from smolpilot.inference.onnx_graphs.builder import Precision
    from smolpilot.smolvla import Policy

Frame = Mapping[str, Any]
# Above this an fp32 export computes something else than the policy.
_LARGEST_FP32 = 1e-3


def export_policy(
    policy: Policy,
    out: Path,
    frames: Sequence[Frame],
    *,
    precision: Precision = "fp32",
    calibration: Sequence[Frame] = (),
    frames_are: str = "recorded",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Write the policy as ONNX files that run without torch, and return the parity report with the files' sizes.

    frames: what parity is measured on (the first becomes the example); calibration: what int8 takes its ranges from.
    Raises UsageError for an existing folder, for int8 without calibration, for a transform that an export cannot hold,
    and where `onnx` or `onnxruntime` are not installed; CheckpointError when an fp32 export differs from the policy.
    """
    graphs = _need_packages()
    config, facts = policy.config, policy_facts(policy, precision)
    with atomic_folder(out) as folder:
        weights = graphs.network_weights(policy.model)
        ranges = None
        if precision == "int8":
            inputs = [policy.transforms.inputs([{k: v for k, v in f.items() if k != ACTION}]) for f in calibration]
            total = 3 * len(inputs)
            ranges = graphs.calibrate(
                config, weights, inputs, "onnxruntime", steps=config.num_steps,
                progress=lambda done: progress("calibration", done, total),
            )  # fmt: skip
        metadata = {"smolpilot.precision": precision, "smolpilot.source": policy.report.source}
        for i, name in enumerate(graphs.GRAPHS):
            graphs.write_graphs(
                folder, config, weights, precision=precision, ranges=ranges, only=[name], metadata=metadata
            )
            progress("graphs", i + 1, len(graphs.GRAPHS))
        (folder / "tokenizer.json").write_bytes(policy.tokenizer.folder.files[TOKENIZER])
        facts = with_digests(facts, folder)
        (folder / "policy.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("example.py"), folder / "example.py")
        report = parity(policy, folder, frames, progress)
        if precision == "fp32" and not report["sigma"] <= _LARGEST_FP32:
            raise CheckpointError(
                f"The exported graphs differ from the policy by {report['sigma']:.2g} standard deviations.",
                expected=f"at most {_LARGEST_FP32:g}",
                fix="this is an error of smolpilot: please report it with the policy's config.json",
            )
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        report = {"precision": precision, "frames_are": frames_are, **report}
        write_parity(folder, report)
    return {"out": str(out), **report, "bytes": files}


def _need_packages() -> Any:
    try:
        import onnxruntime  # noqa: F401

        from smolpilot.inference import onnx_graphs
    except ImportError as error:
        raise UsageError(
            f"Export needs the packages onnx and onnxruntime ({error}).", fix="pip install 'smolpilot[export]'"
        ) from error
    return onnx_graphs
