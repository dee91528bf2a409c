"""What an engine asks of a backend: the network in three callables, and the facts that a backend is built from.

    images ─ vision ─► image tokens ─┐
    instruction ─────────────────────┴─ context ─► keys and values ─┐
    state, noise, left-over of the last chunk ──────────────────────┴─ denoise ─► normalized chunk

The split is where the newest input comes in last: images and instruction are worked on before the joint state is
read, a camera that did not change is not encoded again, and one context serves several states.
Letters: B batch, C camera slots, N tokens of an image, T instruction tokens, H chunk, A max_action_dim, D text width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from smolpilot.smolvla.config import PolicyConfig
    from smolpilot.smolvla.network.flow_matching import Guide
    from smolpilot.smolvla.network.inputs import PolicyInputs
    from smolpilot.smolvla.network.model import SmolVLA

Mode = Literal["exact", "fast", "int8"]


@dataclass(frozen=True)
class Guidance:
    """Real-time chunking: what the chunk is pulled towards, and how much. See `inference.backends.guidance`.

    target float32 [B, H, A]: the left-over of the last chunk, normalized, padded with zeros in both directions.
    weights float32 [H]: 1 where the left-over is certain to be executed, falling to 0 where the chunk is free.
    gains float32 [steps]: the guidance weight of each denoising step.
    A step's velocity v at time t becomes v - gain * weights * (target - (x - t * v)).
    """

    target: Tensor
    weights: Tensor
    gains: Tensor

    def guide(self, step: int, time: float, x: Tensor, velocity: Tensor) -> Tensor:
        """The velocity of a step, pulled towards the target (see `smolvla.network.flow_matching.integrate`)."""
        error = (self.target - (x - time * velocity)) * self.weights[:, None]
        return velocity - self.gains[step] * error


def guide_on(guidance: Guidance | None, device: torch.device) -> Guide | None:
    """The guide of `guidance` where the chunk is computed; None without one."""
    if guidance is None:
        return None
    return Guidance(*(part.to(device) for part in (guidance.target, guidance.weights, guidance.gains))).guide


class Backend(Protocol):
    """The network of one policy on one device. Not thread-safe: the engine calls it under a lock.

    Masks and instruction tokens arrive on the CPU, so that a backend may skip what is masked without waiting for its
    device; image tokens, contexts and chunks may live wherever the backend likes.
    """

    name: str  # "torch", "openvino", ...
    precision: str  # what the matrix products run in: "float32", "bfloat16", "float16", "int8"

    @property
    def memory_bytes(self) -> int:
        """Bytes of the loaded weights and fixed buffers."""
        ...

    def vision(self, images: Tensor) -> Tensor:
        """Image tokens, times sqrt(D), of images in [-1, 1]. [n, 3, h, w] -> [n, N, D]; n may change per call."""
        ...

    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> Any:
        """What the expert reads of images and instruction; only this backend's `denoise` takes it.

        image_tokens [B, C, N, D] (rows of masked cameras hold anything), image_masks bool [B, C], tokens int64 [B, T],
        token_mask bool [B, T], the last three on the CPU. Masked cameras and padded tokens change no real token; with
        `add_image_special_tokens` the tokens around a masked camera stay visible.
        """
        ...

    def denoise(self, context: Any, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        """Normalized chunks, float32 [B, H, A], by `steps` Euler steps from `noise` [B, H, A].

        state [B, max_state_dim] is normalized and padded; it enters here. The same context may be used again.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds; it is not called again."""
        ...


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is built for. `mode` says the contract, the rest how it is met.

    cameras: slots that will hold a image, by index; others are masked in every frame. max_tokens: the longest
    instruction. folder: where a backend may keep what it compiled, its own for these weights, this machine and these
    versions (it may not exist yet). calibration: real inputs, batch 1 each, for int8. threads: None is the default.
    """

    config: PolicyConfig
    mode: Mode
    device: torch.device
    precision: str
    cameras: tuple[int, ...]
    max_tokens: int
    steps: int
    folder: Path
    calibration: Sequence[PolicyInputs] = field(default=(), repr=False)
    threads: int | None = None


# A backend's module offers `build`: it may keep what it compiled in `spec.folder` and then never call `load`, which
# reads the weights (float32 unless the file is narrower) into the plain network.
Build = Callable[[EngineSpec, "Callable[[], SmolVLA]"], Backend]
