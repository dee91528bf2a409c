"""All graphs of one network into one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from smolpilot.smolvla.config import PolicyConfig

from .blocks import Weights
from .builder import Builder, Precision
from .denoise_graph import denoise_graph
from .prefix_graph import prefix_graph
from .ranges import Ranges
from .vision_graph import vision_graph

if TYPE_CHECKING:
    from smolpilot.smolvla.network.model import SmolVLA

GRAPHS = ("vision", "prefix", "denoise")


def network_weights(model: SmolVLA) -> dict[str, npt.NDArray[np.float32]]:
    """The network's weights by name as float32 arrays (views where they are float32 already)."""
    return {name: value.detach().float().cpu().numpy() for name, value in model.state_dict().items()}


def write_graphs(
    folder: Path,
    config: PolicyConfig,
    weights: Weights,
    *,
    precision: Precision = "fp32",
    ranges: Ranges | None = None,
    embed: bool = True,
    only: Sequence[str] = GRAPHS,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `<graph>.onnx` with its weights in `<graph>.onnx.data`.

    precision and ranges as in `Builder`; embed as in `prefix_graph`.
    """
    for name in only:
        builder = Builder(name, folder / f"{name}.onnx.data", precision=precision, ranges=ranges)
        draw(name, builder, config, weights, embed=embed)
        builder.save(folder / f"{name}.onnx", metadata)


def draw(name: str, builder: Builder, config: PolicyConfig, weights: Weights, *, embed: bool = True) -> None:
    """Draw one of GRAPHS into a builder."""
    if name == "vision":
        vision_graph(builder, config, weights, image_side(config))
    elif name == "prefix":
        prefix_graph(builder, config, weights, embed=embed)
    else:
        denoise_graph(builder, config, weights)


def image_side(config: PolicyConfig) -> int:
    """Pixels per side of the images that the vision tower sees."""
    if config.resize_imgs_with_padding is not None:
        return config.resize_imgs_with_padding[0]
    return next(iter(config.image_shapes.values()))[1]
