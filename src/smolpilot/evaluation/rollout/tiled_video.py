"""A video of episodes side by side: each tile with its instruction and, once it is over, its outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from smolpilot.contracts import Image
from smolpilot.evaluation.drawing import caption, drawing

from .results import Run

_COLUMNS = 3
_CAPTION = 40  # pixels above each tile
_BORDER = 4
_HOLD_SECONDS = 1.5  # the last image stays, so that the outcome can be read
_GREEN, _RED, _GRAY = "#0b7a4b", "#b3261e", "#3a4350"


def write_video(path: Path, runs: list[Run], frames_per_second: float, labels: Mapping[str, str]) -> None:
    """Write an mp4 (h264, yuv420p, index first: plays in browsers) of the runs that kept their images.

    labels: what each label of a failure says.
    """
    shown = [run for run in runs if run.images]
    if not shown:
        raise ValueError("no run kept its images")
    tiles = [_Tile(run, labels) for run in shown]
    length = max(len(run.images) for run in shown) + math.ceil(_HOLD_SECONDS * frames_per_second)
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    height, width = tiles[0].shape
    size = (rows * height + rows * height % 2, columns * width + columns * width % 2)  # h264 wants even sizes
    rate = Fraction(frames_per_second).limit_denominator(1000)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for step in range(length):
            canvas = np.full((*size, 3), 255, dtype=np.uint8)
            for i, tile in enumerate(tiles):
                top, left = i // columns * height, i % columns * width
                canvas[top : top + height, left : left + width] = tile.at(step)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(stream.encode())


class _Tile:
    """One episode: its images with a border and a caption."""

    def __init__(self, run: Run, labels: Mapping[str, str]) -> None:
        self._images = run.images
        height, width = run.images[0].shape[:2]
        self.shape = (height + 2 * _BORDER + _CAPTION, width + 2 * _BORDER)
        ended = labels.get(run.label, "success" if run.success else run.label)
        self._running = _caption(f"“{run.instruction}”", "", self.shape[1], _GRAY)
        self._over = _caption(f"“{run.instruction}”", ended, self.shape[1], _GREEN if run.success else _RED)

    def at(self, step: int) -> Image:
        """The tile at a step; after the end its last image."""
        over = step >= len(self._images) - 1
        strip = self._over if over else self._running
        tile = np.empty((*self.shape, 3), dtype=np.uint8)
        tile[:] = strip[0, 0]  # the border is that of the caption
        image = self._images[min(step, len(self._images) - 1)]
        # The caption stands above: a player's controls hide the lower edge.
        tile[:_CAPTION] = strip
        top = _CAPTION + _BORDER
        tile[top : top + image.shape[0], _BORDER : _BORDER + image.shape[1]] = image
        return tile


@drawing()
def _caption(first: str, second: str, width: int, ground: str) -> Image:
    """One or two lines of white text on a strip [40, width, 3]."""
    figure = Figure(figsize=(width / 100, _CAPTION / 100), dpi=100, facecolor=ground)
    figure.text(0.5, 0.68 if second else 0.5, caption(first, 200), ha="center", va="center", color="white", fontsize=9)
    figure.text(0.5, 0.26, caption(second, 200), ha="center", va="center", color="white", fontsize=9, fontweight="bold")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    strip: Image = np.asarray(canvas.buffer_rgba())[:_CAPTION, :width, :3].copy()  # type: ignore[no-untyped-call]
    return strip
