"""A video file of the result: copied packets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .mux import Piece, write_pieces


@dataclass(frozen=True)
class VideoPart:
    """An mp4 file made of pieces of other files."""

    name: str
    output: str
    pieces: list[Piece]

    def write(self, target: Path) -> dict[str, Any]:
        """Write the file."""
        write_pieces(target, self.pieces)
        return {}
