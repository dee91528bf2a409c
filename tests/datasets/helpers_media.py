"""Hostile and unlucky media: images and videos that no recorder writes, or not of the size that they state."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from smolpilot.datasets.media.encode import own_priority

KEY = "observation.images.top"


def encoded(size: tuple[int, int] = (32, 32), fmt: str = "PNG", mode: str = "RGB") -> bytes:
    """A sound image of this (width, height)."""
    buffer = io.BytesIO()
    Image.new(mode, size, 120 if mode in ("L", "F", "I;16") else "gray").save(buffer, fmt)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """The header of a huge image, and not its content: nothing that looks at the header needs it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def huge_jpeg(width: int, height: int) -> bytes:
    """A sound JPEG whose frame header states another size, behind a segment of 5,000 bytes as cameras write them."""
    content = encoded(fmt="JPEG")
    at = content.index(b"\xff\xc0") + 5
    content = content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]
    return content[:2] + b"\xff\xe1" + struct.pack(">H", 5002) + bytes(5000) + content[2:]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"

NO_IMAGES: dict[str, tuple[bytes, str]] = {
    "EPS": (EPS, "EPS (PostScript)"),
    "EPS with a preview": (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS, "EPS"),
    "PDF": (b"%PDF-1.4\n", "PDF"),
    "ICO": (encoded(fmt="ICO"), "ICO"),
    "GIF": (encoded(fmt="GIF"), "GIF"),
    "WebP": (encoded(fmt="WEBP"), "WebP"),
    "BMP": (encoded(fmt="BMP"), "BMP"),
    "TIFF in a color camera": (encoded(fmt="TIFF"), "TIFF"),
    "JPEG 2000": (encoded(fmt="JPEG2000"), "JPEG 2000"),
    "PPM": (encoded(fmt="PPM"), "PPM"),
    "DDS": (encoded(fmt="DDS"), "DDS"),
    "PSD": (b"8BPS\x00\x01" + bytes(40), "PSD"),
    "FITS": (b"SIMPLE  =                    T" + bytes(50), "FITS"),
    "WMF": (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF"),
    "text": (b"image 7", "no known format"),
    "nothing": (b"", "empty"),
}


def put_image(root: Path, episode: int, frame: int, content: bytes | None, path: str | None = None) -> None:
    """Replace an image of a folder with a table for each episode."""
    file = root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"
    table = pq.read_table(file)
    cells = table[KEY].to_pylist()
    cells[frame] = {"bytes": content, "path": path}
    pq.write_table(table.set_column(table.column_names.index(KEY), KEY, pa.array(cells)), file)


def film(path: Path, codec: str, fmt: str, size: tuple[int, int] = (64, 48), frames: int = 24) -> None:
    """A video in any container and codec that FFmpeg writes."""
    with own_priority(), av.open(str(path), "w", format=fmt) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 60 + 2 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def grown(path: Path) -> None:
    """A video that is 64x48 by its header, and 128x96 from its fifth frame on."""
    parts = []
    for size in ((64, 48), (128, 96)):
        part = path.with_name(f"part_{size[0]}.mp4")
        film(part, "libvpx-vp9", "mp4", size, frames=12)
        parts.append(part)
    with av.open(str(parts[0])) as first, av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream_from_template(first.streams.video[0], opaque=True)
        step = 0
        for number, part in enumerate(parts):
            with av.open(str(part)) as source:
                for packet in source.demux(source.streams.video[0]):
                    if packet.pts is None:
                        continue
                    step = step or packet.duration or 0
                    packet.pts = packet.dts = packet.pts + 12 * number * step
                    packet.stream = stream
                    out.mux(packet)
    for part in parts:
        part.unlink()


def _no_video(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode()]:
            container.mux(packet)


def _written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content) and None


def _sps(width: int, height: int) -> bytes:
    """The parameters of an h264 stream of this size, by the letter of the standard (7.3.2.1.1)."""

    def ue(value: int) -> str:
        digits = format(value + 1, "b")
        return "0" * (len(digits) - 1) + digits

    bits = ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(width // 16 - 1) + ue(height // 16 - 1) + "1100" + "1"
    bits += "0" * (-len(bits) % 8)
    return bytes([0x67, 66, 0, 30]) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _large_header(path: Path) -> None:
    """A few kilobytes of h264 whose header says 8192x8320."""
    content = path.read_bytes()
    at = content.index(b"avcC") + 4
    length = int.from_bytes(content[at + 6 : at + 8])
    header = _sps(8192, 8320)
    path.write_bytes(content[: at + 8] + header.ljust(length, b"\0") + content[at + 8 + length :])


def _without_codec(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b"avc1", content.index(b"stsd"))
    path.write_bytes(content[:at] + b"zzzz" + content[at + 4 :])


def _wide_header(path: Path) -> None:
    """Neither the sample description (65535x65535) nor the parameters (65520x65520) can be."""
    content = path.read_bytes()
    at = content.index(b"avc1", content.index(b"stsd")) + 28
    path.write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    content = path.read_bytes()
    at = content.index(b"avcC") + 4
    length = int.from_bytes(content[at + 6 : at + 8])
    path.write_bytes(content[: at + 8] + _sps(65520, 65520).ljust(length, b"\0") + content[at + 8 + length :])


NO_VIDEOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a playlist": (_written(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"), "HLS playlist"),
    "a list of files": (_written(b"ffconcat version 1.0\nfile 'episode_000001.mp4'\n"), "playlist"),
    "an SDP": (_written(b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"), "SDP"),
    "an image": (_written(encoded((64, 48))), "PNG"),
    "text": (_written(b"frame 1, frame 2"), "no known format"),
    "AVI": (lambda path: film(path, "libx264", "avi"), "AVI"),
    "a transport stream": (lambda path: film(path, "libx264", "mpegts"), "MPEG transport stream"),
    "another codec": (lambda path: film(path, "mjpeg", "mp4"), "coded as mjpeg"),
    "no codec": (_without_codec, "coded as something that FFmpeg lacks"),
    "sound only": (_no_video, "no video stream"),
    "a huge header": (_large_header, "8192x8320"),
    "an impossible header": (_wide_header, "size"),
}
