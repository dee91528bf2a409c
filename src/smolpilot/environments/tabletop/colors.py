"""The colors of the blocks, red, green and blue in [0, 1]."""

from __future__ import annotations

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.08, 0.08),
    "green": (0.05, 0.65, 0.15),
    "blue": (0.08, 0.16, 0.90),
    "yellow": (0.98, 0.82, 0.05),
}

# What scenes draw from unless told otherwise: two colors bind to their words in minutes of training on a CPU.
DEFAULT_COLORS = ("red", "blue")
