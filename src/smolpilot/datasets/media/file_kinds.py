"""What a file or an image is by its first bytes, for errors that name what was found; and how large one may be."""

from __future__ import annotations

import re

MAX_PIXELS = 2**26
"""Of one image or video frame: twice those of an 8K camera. More is an attack on the memory, not a recording."""

_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+", "TIFF"),
    (rb"GIF8", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"RIFF....AVI ", "AVI"),
    (rb"....ftyp(avif|avis)", "AVIF"),
    (rb"....ftyp(heic|heix|mif1)", "HEIF"),
    (rb"....(ftyp|styp|moov|mdat|free|skip|wide|pnot)", "mp4"),
    (rb"\x1a\x45\xdf\xa3", "mkv"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "EPS (PostScript)"),
    (rb"%PDF", "PDF"),
    (rb"8BPS", "PSD"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"\x00\x00\x02\x00", "CUR"),
    (rb"SIMPLE", "FITS"),
    (rb"\xd7\xcd\xc6\x9a", "WMF"),
    (rb".{40} EMF", "EMF"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"DDS ", "DDS"),
    (rb"icns", "ICNS"),
    (rb"P[1-7fF][\s#]", "PPM"),
    (rb"BM....\x00\x00\x00\x00", "BMP"),
    (rb"\s*(<\?xml|<svg|<!DOCTYPE|<html)", "XML, SVG or HTML"),
    (rb"#EXTM3U", "HLS playlist"),
    (rb"\s*<MPD|ffconcat|file ", "playlist"),
    (rb"v=0\r?\n", "SDP"),
    (rb"FLV\x01", "FLV"),
    (rb"OggS", "Ogg"),
    (rb"G.{187}G|G@", "MPEG transport stream"),
    (rb"\x00\x00\x01[\xb3\xba]", "MPEG program stream"),
    (rb"\x00\x00\x00?\x01", "raw video stream"),
    (rb"\x30\x26\xb2\x75", "ASF (WMV)"),
    (rb"\x1f\x8b", "gzip"),
    (rb"PK\x03\x04", "zip"),
    (rb"\x93NUMPY", "numpy"),
    (rb"\x80[\x02-\x05]", "pickle"),
    (rb"PAR1", "parquet"),
    (rb"SQLite format 3", "SQLite"),
)
_PATTERNS = [(re.compile(pattern, re.DOTALL), name) for pattern, name in _KINDS]


def kind_of(head: bytes) -> str:
    """The name of the format of a file that begins with these bytes (some 200 are enough); empty when unknown."""
    return next((name for pattern, name in _PATTERNS if pattern.match(head)), "")


def kind_words(head: bytes) -> str:
    """The format in words, for an error."""
    kind = kind_of(head)
    if kind:
        return f"of the format {kind}"
    return f"of no known format (it begins with {head[:8].hex(' ')})" if head else "empty"


def size_words(width: int, height: int) -> str:
    """Why an image of this size is not decoded."""
    return f"it has {width}x{height} pixels; at most {MAX_PIXELS:,} in all are decoded"
