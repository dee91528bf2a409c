"""One frame of video per codec (64 x 64, left red, right blue), made with PyAV for `smolpilot doctor`."""

from __future__ import annotations

from pathlib import Path

SIZE = 64
RED, BLUE = (220, 30, 30), (30, 30, 220)
CODECS = ("h264", "hevc", "av1")


def sample(codec: str) -> bytes:
    """The bytes of an MP4 file with one frame in `codec`: h264, hevc or av1."""
    return (Path(__file__).parent / "samples" / f"{codec}.mp4").read_bytes()
