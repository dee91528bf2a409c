"""Ranges of activations, found by running the float32 network on real frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.atomic import scratch_folder
from smolpilot.common.errors import UsageError
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.inputs import PolicyInputs

from .blocks import Weights
from .builder import TAP, Builder
from .denoise_graph import clock_table
from .graph_writing import GRAPHS, draw
from .ranges import Ranges, smoothing_of
from .runtimes import Graph, Runtime, open_graph

Array = npt.NDArray[Any]
STRENGTH = 0.5  # of the smoothing; the SmoothQuant paper's value


def calibrate(
    config: PolicyConfig,
    weights: Weights,
    frames: Sequence[PolicyInputs],
    runtime: Runtime,
    *,
    steps: int = 10,
    strength: float = STRENGTH,
    progress: Callable[[int], None] = lambda runs: None,
) -> Ranges:
    """Run every frame (a batch of any size) through the network and keep the largest magnitudes.

    Each frame gets its own noise, the same in every call; all denoising steps count. `progress` is told how many of
    the 3 runs per frame are done. UsageError without frames.
    """
    if not frames:
        raise UsageError("int8 needs frames to calibrate with.", fix="name a dataset to take them from")
    largest: dict[str, Array] = {}
    columns: dict[str, Array] = {}
    feeds = [_feed(inputs, config, seed) for seed, inputs in enumerate(frames)]
    done = 0
    for name in GRAPHS:
        # One graph after the other, so that only one of them is in memory.
        with scratch_folder("calibration") as folder:
            path = folder / f"{name}.onnx"
            builder = Builder(name, path.with_suffix(".data"), observe=True)
            draw(name, builder, config, weights)
            builder.save(path)
            columns |= builder.columns
            graph = open_graph(path, runtime)
            for feed in feeds:
                _run(name, graph, feed, largest, clock_table(config, steps))
                done += 1
                progress(done)
    smoothing = {tap: smoothing_of(largest[tap], columns[tap], strength) for tap in columns}
    return Ranges(largest, smoothing)


def _feed(inputs: PolicyInputs, config: PolicyConfig, seed: int) -> dict[str, Array]:
    """What the graphs take of a batch; a camera that is masked in all of it would only widen the ranges."""
    seen = inputs.image_masks.any(dim=0)
    shape = (len(inputs), config.chunk_size, config.max_action_dim)
    return {
        "images": inputs.images[:, seen].flatten(0, 1).float().numpy(),
        "image_masks": inputs.image_masks[:, seen].numpy(),
        "tokens": inputs.tokens.numpy(),
        "token_mask": inputs.token_mask.numpy(),
        "state": inputs.state.float().numpy(),
        "noisy": np.random.default_rng(seed).standard_normal(shape, dtype=np.float32),
    }


def _run(name: str, graph: Graph, feed: dict[str, Array], largest: dict[str, Array], clocks: Array) -> None:
    """Run one graph, note its taps, and put what the next graph needs into `feed`."""
    if name != "denoise":
        _note(graph(feed), feed, largest)
        if name == "vision":
            tokens = feed["image_tokens"]
            feed["image_tokens"] = tokens.reshape(*feed["image_masks"].shape, *tokens.shape[1:])
        return
    for clock in clocks:
        feed["clock"] = np.repeat(clock[None], len(feed["noisy"]), axis=0)
        _note(graph(feed), feed, largest)
        feed["noisy"] = feed["noisy"] - feed["velocity"] / len(clocks)


def _note(out: dict[str, Array], feed: dict[str, Array], largest: dict[str, Array]) -> None:
    for key, value in out.items():
        if key.startswith(TAP):
            tap = key.removeprefix(TAP)
            largest[tap] = np.maximum(value, largest[tap]) if tap in largest else value.copy()
        else:
            feed[key] = value.copy()
