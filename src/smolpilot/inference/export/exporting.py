"""`export_policy`: the whole folder, or nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.hashing import b2sum
from smolpilot.common.keys import ACTION
from smolpilot.robots.demonstrated import FILE
from smolpilot.smolvla.config.vlm_folder import TOKENIZER
from smolpilot.smolvla.network.flow_matching import frequencies
from smolpilot.version import __version__

from .parity import parity

if TYPE_CHECKING:
    from smolpilot.inference.onnx_graphs.builder import Precision
    from smolpilot.smolvla import Policy

Frame = Mapping[str, Any]
FORMAT = 1
_KNOWN = ("joints", "cameras", "normalize", "pad", "instruction")
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
        if policy.demonstrated is not None:
            limits = json.dumps(policy.demonstrated.to_json(), indent=2, ensure_ascii=False)
            (folder / FILE).write_text(limits + "\n", encoding="utf-8")
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
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        report = {"precision": precision, "frames_are": frames_are, **report}
        (folder / "parity.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
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


def policy_facts(policy: Policy, precision: str) -> dict[str, Any]:
    """The content of `policy.json`. UsageError names a transform that this format has no place for.

    `state` and `action`: x * scale + offset, per joint, in the robot's order (forward for the state, backward for the
    action). `slots`: the robot camera of each slot, null for a slot without camera. `image_size`: of the letterbox.
    """
    config = policy.config
    joints, cameras, scales, widths, text = _specs(policy)
    return {
        "format": FORMAT,
        "smolpilot": __version__,
        "precision": precision,
        "robot": policy.profile.name if policy.profile is not None else None,
        "rate": policy.profile.rate if policy.profile is not None else None,
        "slots": cameras["slots"],
        "image_special_tokens": config.add_image_special_tokens,
        "image_size": cameras["image_size"],
        "max_tokens": text["max_tokens"],
        "chunk": config.chunk_size,
        "n_action_steps": policy.n_action_steps,
        "num_steps": config.num_steps,
        "max_state_dim": widths["max_state_dim"],
        "max_action_dim": widths["max_action_dim"],
        "frequencies": frequencies(config.expert_width, config.min_period, config.max_period).tolist(),
        "state": {**joints["state"], **scales["state"]},
        "action": {**joints["action"], **scales["action"]},
        "instructions": policy.instructions,
    }


def with_digests(facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`policy.json` with the BLAKE2b-256 of the other files that are there, as `b2sum -l 256` prints it.

    `digest` is that of the rest of `policy.json`, as JSON with sorted keys. `example.py` compares all of them.
    """
    digests = {path.name: b2sum(path) for path in sorted(folder.iterdir())}
    content = json.loads(json.dumps({**facts, "digests": digests}))
    own = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=32).hexdigest()
    return {**content, "digest": own}


def _specs(policy: Policy) -> list[dict[str, Any]]:
    """The transforms that the format has a place for, and `example.py` runs, as data in the order of `_KNOWN`."""
    for transform in policy.transforms:
        if transform.name not in _KNOWN:
            raise UsageError(
                f"The policy cannot be exported: policy.json has no place for its transform '{transform.name}', and "
                "example.py would leave it out.",
                expected=f"the transforms {', '.join(_KNOWN)}",
            )
    specs = policy.transforms.spec()
    return [specs[name] for name in _KNOWN]
