"""How far the exported policy is from the plain network: both run on the same frames with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from smolpilot.common.errors import CheckpointError
from smolpilot.common.keys import STATE, TASK, image_key
from smolpilot.smolvla.transforms.images import to_unit_range

if TYPE_CHECKING:
    from smolpilot.smolvla import Policy

Frame = Mapping[str, Any]
Chunks = npt.NDArray[np.float32]


def parity(
    policy: Policy, folder: Path, frames: Sequence[Frame], progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Run `example.py` on the export beside the policy and compare the chunks; the first frame becomes its example.

    Per joint, in the robot's units: largest and mean difference; over all, the cosine of the chunks' angle and the
    largest difference in standard deviations of the recorded actions.
    """
    from . import example  # the file that is copied into the folder; it needs onnxruntime

    exported: Any = example.ExportedPolicy(folder)  # type: ignore[no-untyped-call]
    ours, plain = [], []
    for i, frame in enumerate(frames):
        noise = torch.randn(
            policy.config.chunk_size, policy.config.max_action_dim, generator=torch.Generator().manual_seed(i)
        )
        images = {camera: as_bytes(frame[image_key(camera)], camera) for camera in exported.facts["slots"] if camera}
        state, text = np.asarray(frame[STATE], dtype=np.float32), str(frame[TASK])
        seen = {STATE: state, TASK: text, **{image_key(camera): image for camera, image in images.items()}}
        plain.append(policy.predict_chunk(seen, noise).numpy())
        try:
            ours.append(exported.predict_chunk(images, state, text, noise.numpy()))
        except ValueError as error:
            raise CheckpointError(
                f"The exported graphs fail where the policy does not: {error}.",
                fix="export in another precision (--precision fp32)",
            ) from error
        if i == 0:
            kept: dict[str, Any] = {f"image.{camera}": image for camera, image in images.items()}
            np.savez_compressed(
                folder / "example_frame.npz", state=state, instruction=np.array(text), noise=noise.numpy(),
                chunk=plain[0], **kept,
            )  # fmt: skip
        progress("parity", i + 1, len(frames))
    return compare(np.stack(ours), np.stack(plain), exported.facts["action"])


def compare(ours: Chunks, plain: Chunks, action: Mapping[str, Any]) -> dict[str, Any]:
    """The parity report of chunks [F, H, A] in robot units; `action` is that part of `policy.json`."""
    apart = np.abs(ours.astype(np.float64) - plain)
    scale = np.maximum(np.abs(np.asarray(action["scale"], dtype=np.float64)), 1e-12)
    a, b = ours.astype(np.float64).ravel(), plain.astype(np.float64).ravel()
    # Around the mean action: far from zero any two chunks would look alike.
    offset = np.broadcast_to(np.asarray(action["offset"]), plain.shape).ravel()
    a, b = a - offset, b - offset
    return {
        "frames": len(plain),
        "joints": [
            {"name": name, "unit": unit, "max": float(apart[..., i].max()), "mean": float(apart[..., i].mean())}
            for i, (name, unit) in enumerate(zip(action["joints"], action["units"], strict=True))
        ],
        "cosine": float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)),
        "sigma": float((apart / scale).max()),
        "mean_sigma": float((apart / scale).mean()),
    }


def as_bytes(image: Any, camera: str) -> npt.NDArray[np.uint8]:
    """An image as uint8 [h, w, 3]."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    unit = to_unit_range(image, camera).permute(1, 2, 0)
    return (unit * 255).round().to(torch.uint8).numpy()
