"""The three ONNX graphs as a backend of the engine, and their place in its cache folder."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.hashing import folder_differences, seal_folder
from smolpilot.inference.onnx_graphs.builder import Precision
from smolpilot.inference.onnx_graphs.denoise_graph import clock_table
from smolpilot.inference.onnx_graphs.graph_writing import GRAPHS, network_weights, write_graphs
from smolpilot.inference.onnx_graphs.int8_calibration import calibrate
from smolpilot.inference.onnx_graphs.runtimes import Graph, Runtime, open_graph
from smolpilot.smolvla.network.flow_matching import integrate
from smolpilot.smolvla.network.model import SmolVLA

from .backend import EngineSpec, Guidance, guide_on
from .parity_check import ParityStore

Array = npt.NDArray[Any]
EMBEDDINGS = "embeddings.npy"


@dataclass
class _Context:
    """Images and instruction before the text model; the keys and values of the last state are kept."""

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
        self.memory_bytes = sum((folder / f"{name}.onnx.data").stat().st_size for name in GRAPHS)
        self._clocks = functools.cache(partial(clock_table, spec.config))  # by number of steps

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
        clocks = self._clocks(steps)
        step = self._graphs["denoise"]
        batch = len(noise)

        def velocity(i: int, x: Tensor) -> Tensor:
            clock = np.repeat(clocks[i : i + 1], batch, axis=0)
            return torch.from_numpy(step({**prefix, "noisy": x.numpy(), "clock": clock})["velocity"])

        return integrate(velocity, noise.float().contiguous(), steps, guide_on(guidance, noise.device))

    def close(self) -> None:
        self._graphs.clear()

    def _prefix(self, context: _Context, state: Array) -> dict[str, Array]:
        if context.prefix is None or context.state is None or not np.array_equal(context.state, state):
            out = self._graphs["prefix"]({**context.feed, "state": state})
            # The arrays are the graph's own buffers: another context's call would overwrite them.
            context.prefix, context.state = {name: value.copy() for name, value in out.items()}, state.copy()
        return context.prefix


def _array(values: Tensor) -> Array:
    return np.ascontiguousarray(values.detach().cpu().float().numpy())


def open_network(spec: EngineSpec, load: Callable[[], SmolVLA], runtime: Runtime) -> GraphNetwork:
    """The network from the graphs in `spec.folder`; they are written first where they are missing or damaged (by their
    digests), which is said.

    UsageError for int8 without frames to calibrate with.
    """
    folder = spec.folder / "graphs"
    if folder.is_dir():
        try:
            found = folder_differences(folder).text()
            if not found:
                return GraphNetwork(folder, spec, runtime)
        except CheckpointError as error:
            found = error.found
        print(f"engine cache: {folder} is damaged, so made anew ({found})", file=sys.stderr, flush=True)
        # What was measured with damaged graphs says nothing.
        ParityStore(spec.folder).forget()
        shutil.rmtree(folder)
    _write(folder, spec, load(), runtime)
    return GraphNetwork(folder, spec, runtime)


def _write(folder: Path, spec: EngineSpec, model: SmolVLA, runtime: Runtime) -> None:
    config, weights = spec.config, network_weights(model)
    ranges = calibrate(config, weights, spec.calibration, runtime, steps=spec.steps) if spec.mode == "int8" else None
    try:
        with atomic_folder(folder) as partial:
            precision: Precision = "int8" if ranges is not None else "fp32"
            write_graphs(partial, config, weights, precision=precision, ranges=ranges, embed=False)
            np.save(partial / EMBEDDINGS, weights["text.embed_tokens.weight"])
            seal_folder(partial)
    except UsageError:  # another process has written the same graphs meanwhile
        if not folder.is_dir():
            raise
