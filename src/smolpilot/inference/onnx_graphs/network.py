"""The three graphs as a backend of the engine (see `inference.backend`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError
from smolpilot.inference.backend import EngineSpec, Guidance
from smolpilot.inference.guidance import integrate

from .denoise import clock_table
from .runtimes import Graph, Runtime, open_graph
from .writing import GRAPHS

Array = npt.NDArray[Any]
EMBEDDINGS = "embeddings.npy"


@dataclass
class _Context:
    """Pictures and instruction before the text model; the keys and values of the last state are kept."""

    feed: dict[str, Array]
    state: Array | None = None
    prefix: dict[str, Array] | None = None


class GraphNetwork:
    """Vision, prefix and denoising by ONNX graphs on the CPU.

    The text model runs in `denoise`, with the state: one more row in its products costs nothing, while a second pass
    over its weights for the state alone would. What can be done before the state is known is the vision tower, three
    quarters of the work.

    folder: from `write_graphs(..., embed=False)` with the token embeddings in `embeddings.npy`, which is mapped, so
    that only the rows of the instruction are read.
    """

    def __init__(self, folder: Path, spec: EngineSpec, runtime: Runtime) -> None:
        self.name, self.precision, self.config = str(runtime), spec.precision, spec.config
        self._graphs: dict[str, Graph] = {
            name: open_graph(folder / f"{name}.onnx", runtime, threads=spec.threads) for name in GRAPHS
        }
        try:
            self._embeddings: Array = np.load(folder / EMBEDDINGS, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder / EMBEDDINGS} cannot be read: {error}.") from error
        self._memory = sum((folder / f"{name}.onnx.data").stat().st_size for name in GRAPHS)
        self._clocks: dict[int, Array] = {}  # by number of steps

    @property
    def memory_bytes(self) -> int:
        return self._memory

    def vision(self, images: Tensor) -> Tensor:
        out = self._graphs["vision"]({"images": _array(images)})
        return torch.from_numpy(out["image_tokens"]).clone()

    def context(self, image_tokens: Tensor, image_masks: Tensor, tokens: Tensor, token_mask: Tensor) -> _Context:
        masks = image_masks.bool()
        if not self.config.add_image_special_tokens:
            # The tokens of a camera that nobody has change nothing.
            used = masks.any(dim=0)
            image_tokens, masks = image_tokens[:, used], masks[:, used]
        length = max(int(token_mask.sum(dim=1).max()), 1)
        images = torch.where(masks[:, :, None, None], image_tokens, 0.0)
        feed = {
            "image_tokens": _array(images),
            "image_masks": masks.numpy(),
            "tokens": np.asarray(self._embeddings[tokens[:, :length].numpy()], dtype=np.float32),
            "token_mask": token_mask[:, :length].bool().numpy(),
        }
        return _Context(feed)

    def denoise(self, context: _Context, state: Tensor, noise: Tensor, steps: int, guidance: Guidance | None) -> Tensor:
        prefix = self._prefix(context, _array(state))
        clocks = self._clock(steps)
        step = self._graphs["denoise"]
        batch = len(noise)

        def velocity(i: int, x: Tensor) -> Tensor:
            clock = np.repeat(clocks[i : i + 1], batch, axis=0)
            return torch.from_numpy(step({**prefix, "noisy": x.numpy(), "clock": clock})["velocity"])

        return integrate(velocity, noise.float().contiguous(), steps, guidance)

    def close(self) -> None:
        self._graphs.clear()

    def _prefix(self, context: _Context, state: Array) -> dict[str, Array]:
        if context.prefix is None or context.state is None or not np.array_equal(context.state, state):
            out = self._graphs["prefix"]({**context.feed, "state": state})
            # The arrays are the graph's own buffers: another context's call would overwrite them.
            context.prefix, context.state = {name: value.copy() for name, value in out.items()}, state.copy()
        return context.prefix

    def _clock(self, steps: int) -> Array:
        """The time embeddings of all steps, float32 [steps, W]."""
        if steps not in self._clocks:
            self._clocks[steps] = clock_table(self.config, steps)
        return self._clocks[steps]


def _array(values: Tensor) -> Array:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())


def write_embeddings(folder: Path, weights: Mapping[str, Array]) -> None:
    """Write the token embeddings beside the graphs."""
    np.save(folder / EMBEDDINGS, weights["text.embed_tokens.weight"])
