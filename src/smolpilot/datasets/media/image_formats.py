"""Decoding an image of a table: the one place where Pillow gets at bytes, and only at the formats that LeRobot writes.

Pillow knows dozens of formats, some of which start other programs (EPS: Ghostscript). What an image is, and how large,
is read from its first bytes, before anything is decoded.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from smolpilot.common.text import plain

from .file_kinds import MAX_PIXELS, kind_of, kind_words, size_words

# Not `Image.open`: it tries all formats, and has a limit of its own, at which it prints a warning.
_READERS = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
COLOR_FORMATS = ("PNG", "JPEG")
DEPTH_FORMATS = ("PNG", "JPEG", "TIFF")
"""LeRobot keeps the distances of depth cameras as TIFF."""

type Size = tuple[int, int]


class ImageError(ValueError):
    """Why bytes are no image that is decoded. `size` is the (height, width) of its header where that is the reason:
    it is too large, or not the one that was expected."""

    def __init__(self, reason: str, size: Size | None = None) -> None:
        super().__init__(reason)
        self.size = size


def encoded_size(content: object) -> Size:
    """(height, width) of a PNG or JPEG image of colors by its header; nothing is decoded. Raises ImageError."""
    bytes_of, kind = _checked(content, COLOR_FORMATS)
    size = _header_size(bytes_of, kind)
    if kind == "PNG" and bytes_of[24:26] == b"\x10\x00":
        raise ImageError("it is a depth image (gray of 16 bits), not one of 8-bit colors")
    return size


def header_size(content: bytes) -> Size | None:
    """(height, width) of a PNG or JPEG image by its header; None for anything else."""
    try:
        return encoded_size(content)
    except ImageError:
        return None


def decoded(content: object, *, depth: bool = False, size: Size | None = None) -> Image.Image:
    """An image, decoded as it is stored. Raises ImageError for whatever is wrong with it.

    depth: of a depth camera. size: the (height, width) that it has to have, compared before decoding.
    """
    formats = DEPTH_FORMATS if depth else COLOR_FORMATS
    bytes_of, kind = _checked(content, formats)
    if kind != "TIFF":
        _check(_header_size(bytes_of, kind), size)
    try:
        picture = _READERS[kind](io.BytesIO(bytes_of))
        _check((picture.height, picture.width), size)
        picture.load()
    except ImageError:
        raise
    except Exception as error:  # a decoder of foreign bytes: of values, indices, types, memory
        raise ImageError(_torn(kind, str(error) or type(error).__name__)) from error
    return picture


def rgb(picture: Image.Image) -> npt.NDArray[np.uint8]:
    """A decoded image as `[h, w, 3]`: red, green, blue. Raises ImageError."""
    try:
        return np.array(picture.convert("RGB"), dtype=np.uint8)
    except Exception as error:
        raise ImageError(_torn(str(picture.mode), str(error))) from error


def _checked(content: object, formats: tuple[str, ...]) -> tuple[bytes, str]:
    if not isinstance(content, bytes):
        raise ImageError("there is no image")
    kind = kind_of(content[:256])
    if kind not in formats:
        raise ImageError(f"it is {kind_words(content[:256])}; {' and '.join(formats)} are decoded")
    return content, kind


def _check(found: Size, expected: Size | None) -> None:
    height, width = found
    if height * width > MAX_PIXELS:
        raise ImageError(size_words(width, height), found)
    if expected is not None and found != expected:
        raise ImageError(f"it is {width}x{height}, not {expected[1]}x{expected[0]}", found)


def _header_size(content: bytes, kind: str) -> Size:
    if kind == "JPEG":
        return _jpeg_size(content)
    if content[12:16] != b"IHDR" or len(content) < 24:
        raise ImageError(_torn(kind, "it has no header"))
    return int.from_bytes(content[20:24]), int.from_bytes(content[16:20])


def _jpeg_size(content: bytes) -> Size:
    """The size in the first frame header, behind any number of other segments."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a byte of filling
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without content
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(content[at + 5 : at + 7]), int.from_bytes(content[at + 7 : at + 9])
        else:
            at += 2 + int.from_bytes(content[at + 2 : at + 4])
    raise ImageError(_torn("JPEG", "it has no frame header"))


def _torn(kind: str, reason: str) -> str:
    return f"torn image ({kind}): {plain(reason.splitlines()[0] if reason else 'nothing is known of it', 160)}"
