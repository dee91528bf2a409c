"""Is this machine fit for the job? Checks with a verdict and, where something is wrong, the fix."""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from smolpilot.common.text import format_bytes
from smolpilot.version import __version__

from . import codec_samples

Verdict = Literal["ok", "warning", "error"]
GIGABYTE = 1e9
LOW_DISK, NO_DISK = 10 * GIGABYTE, 1 * GIGABYTE  # a checkpoint of the full model with optimizer is about 2.6 GB
LOW_MEMORY = 4 * GIGABYTE
# The names of the encoders that a dataset may be written with, best first.
ENCODERS = {"h264": ("libx264", "libopenh264"), "hevc": ("libx265",), "av1": ("libsvtav1", "libaom-av1")}
_REINSTALL_AV = "install PyAV's own wheel: uv pip install --reinstall --only-binary av av"


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, the verdict, what was found, and the fix unless it is ok."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


def run_checks(dataset: Path | None = None) -> Iterator[Check]:
    """All checks, one by one as they finish; with `dataset`, also one frame of each of its cameras' codecs."""
    yield from _guarded("Python", _python)
    yield from _guarded("packages", _packages)
    yield from _guarded("torch", _torch)
    yield from _guarded("device", _device)
    yield from _guarded("memory", _memory)
    for codec in codec_samples.CODECS:
        yield check_codec(codec)
    yield from _guarded("disk", _disk)
    yield from _guarded("hub", _hub)
    yield from _guarded("lerobot", _lerobot)
    if dataset is not None:
        yield from _guarded("dataset", lambda: check_videos(dataset))


def worst(checks: list[Check]) -> Verdict:
    """The verdict of the whole report."""
    verdicts = {check.verdict for check in checks}
    return "error" if "error" in verdicts else "warning" if "warning" in verdicts else "ok"


def _guarded(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    """A check that breaks is itself a finding; the others still run."""
    try:
        return check()
    except Exception as error:
        return [Check(name, "error", f"the check failed: {type(error).__name__}: {error}", "reinstall: uv sync")]


def _python() -> list[Check]:
    version = platform.python_version()
    found = f"{version} ({sys.executable}), smolpilot {__version__}, {platform.platform()}"
    if (3, 12) <= sys.version_info[:2] < (3, 14):
        return [Check("Python", "ok", found)]
    return [Check("Python", "error", found, "use Python 3.12 or 3.13: uv python pin 3.12 && uv sync")]


def _packages() -> list[Check]:
    """Every package that smolpilot itself needs, against its declared minimum."""
    versions, missing, old = [], [], []
    for requirement in importlib.metadata.requires("smolpilot") or []:
        if "extra ==" in requirement:
            continue
        name, minimum = _requirement(requirement)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        versions.append(f"{name} {version}")
        if _numbers(version) < _numbers(minimum):
            old.append(f"{name} {version} (needs {minimum})")
    if missing or old:
        found = "; ".join(
            [f"missing: {', '.join(missing)}"] * bool(missing) + [f"too old: {', '.join(old)}"] * bool(old)
        )
        return [Check("packages", "error", found, "install the project's packages: uv sync (or pip install smolpilot)")]
    return [Check("packages", "ok", ", ".join(versions))]


def _requirement(text: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9._-]+)[^>]*(?:>=\s*([0-9.]+))?", text)
    return (match.group(1), match.group(2) or "0") if match else (text, "0")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _torch() -> list[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check("torch", "error", f"cannot be imported: {error}", "uv sync --reinstall-package torch")]
    build = torch.version.cuda and f"CUDA {torch.version.cuda}"
    return [Check("torch", "ok", f"{torch.__version__} ({build or 'CPU build'}), {torch.get_num_threads()} threads")]


def _device() -> list[Check]:
    import torch

    if torch.cuda.is_available():
        return [_cuda(torch, index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return [Check("device", "ok", "Apple GPU (mps)")]
    cores = os.cpu_count() or 1
    if _has_nvidia():
        fix = "install a torch build for your driver's CUDA version, and check `nvidia-smi`"
        return [Check("device", "warning", f"an NVIDIA GPU is here, but torch cannot use it; CPU, {cores} cores", fix)]
    return [Check("device", "ok", f"CPU, {cores} cores (the tiny preset and the demo run well on it)")]


def _cuda(torch: Any, index: int) -> Check:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    found = (
        f"GPU {index}: {properties.name}, compute capability {properties.major}.{properties.minor}, "
        f"{format_bytes(free)} of {format_bytes(total)} free"
    )
    try:
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        works = float((ones @ ones).sum()) == 512.0
    except RuntimeError as error:
        return Check("device", "error", f"{found}; a product fails: {error}", "install a torch build for this GPU")
    if not works:
        return Check("device", "error", f"{found}; it computes wrong products", "check the driver and the card")
    if free < LOW_MEMORY:
        return Check("device", "warning", found, "close other programs on the GPU, or use --device cpu")
    return Check("device", "ok", found)


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def _memory() -> list[Check]:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{format_bytes(memory.available)} of {format_bytes(memory.total)} available"
    if memory.available < LOW_MEMORY:
        fix = "close other programs; the full model needs about 2 GB for inference, more for training"
        return [Check("memory", "warning", found, fix)]
    return [Check("memory", "ok", found)]


def check_codec(codec: str) -> Check:
    """Decode a shipped frame of `codec`, compare its colors, then encode and decode one where an encoder exists."""
    name = f"video {codec}"
    try:
        decoder = _decode(codec_samples.sample(codec))
    except Exception as error:
        return Check(name, "error", f"one frame cannot be decoded: {type(error).__name__}: {error}", _REINSTALL_AV)
    writable = [encoder for encoder in ENCODERS[codec] if _has_encoder(encoder)]
    failed = ""
    for encoder in writable:
        try:
            _decode(_encode(encoder))
            return Check(name, "ok", f"decodes ({decoder}), encodes ({encoder})")
        except Exception as error:
            failed += f"; {encoder} fails: {error}"
    found = f"decodes ({decoder}), does not encode{failed or ': no encoder in this build'}"
    # Datasets are written in h264; the others are only ever read.
    return Check(name, "error", found, _REINSTALL_AV) if codec == "h264" else Check(name, "ok", found)


def _has_encoder(name: str) -> bool:
    import av.codec

    try:
        av.codec.Codec(name, "w")
    except Exception:
        return False
    return True


def _decode(data: bytes) -> str:
    """Decode the first frame, check red left and blue right, return the decoder's name."""
    import av
    import numpy as np

    with av.open(io.BytesIO(data), "r") as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        decoder = container.streams.video[0].codec_context.codec.name
    size = codec_samples.SIZE
    if frame.shape != (size, size, 3):
        raise ValueError(f"the frame has shape {frame.shape}")
    for x, color in ((size // 4, codec_samples.RED), (3 * size // 4, codec_samples.BLUE)):
        difference = int(np.abs(frame[size // 2, x] - color).max())
        if difference > 20:
            raise ValueError(f"a color is off by {difference} of 255")
    return str(decoder)


def _encode(encoder: str) -> bytes:
    import av
    import numpy as np

    from smolpilot.datasets.media.encode import own_priority

    size, buffer = codec_samples.SIZE, io.BytesIO()
    image = np.zeros((size, size, 3), np.uint8)
    image[:, : size // 2], image[:, size // 2 :] = codec_samples.RED, codec_samples.BLUE
    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 prints its settings otherwise
    with own_priority(), av.open(buffer, "w", format="mp4") as container:
        options = {"x265-params": "log-level=none"} if encoder == "libx265" else {}
        stream: Any = container.add_stream(encoder, rate=30, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def check_videos(dataset: Path) -> list[Check]:
    """Decode the first frame of one video file per camera of a dataset folder."""
    if not dataset.is_dir():
        return [Check("dataset", "error", f"{dataset} is not a folder", "check the path given to --dataset")]
    from smolpilot.datasets.format.files import file_state, lfs_advice
    from smolpilot.datasets.media.video_file import VideoFile

    first: dict[str, Path] = {}
    for path in sorted(dataset.glob("videos/**/*.mp4")):
        camera = next((part for part in path.parts if part.startswith("observation.image")), str(path.parent))
        first.setdefault(camera, path)
    checks = []
    for camera, path in first.items():
        try:
            with VideoFile(path) as video:
                frame = next(video.frames())
                codec = video.context.name
            found = f"{frame.width} x {frame.height}, {frame.format.name}, decoded by {codec}"
            checks.append(Check(camera, "ok", found))
        except Exception as error:
            pointer = file_state(path) == "pointer"
            fix = (
                lfs_advice(path) if pointer else f"`smolpilot dataset check {dataset}` says what is wrong with the file"
            )
            # A file without a frame ends the iteration, which has no words of its own.
            reason = (
                getattr(error, "reason", None) or getattr(error, "found", None) or str(error) or "it holds no frames"
            )
            checks.append(Check(camera, "error", f"{path} cannot be decoded: {reason}", fix))
    return checks or [Check("dataset", "warning", f"{dataset} holds no videos/**/*.mp4", "check the path")]


def _disk() -> list[Check]:
    checks = []
    places = {"disk (this folder)": Path.cwd(), "disk (temporary)": Path(tempfile.gettempdir())}
    for name, place in places.items():
        free = shutil.disk_usage(place).free
        found = f"{format_bytes(free)} free at {place}"
        if not os.access(place, os.W_OK):
            checks.append(Check(name, "warning", f"{found}, not writable", "give --out a folder you may write to"))
        elif free < LOW_DISK:
            fix = "free some space: a checkpoint of the full model with its optimizer takes about 2.6 GB"
            checks.append(Check(name, "error" if free < NO_DISK else "warning", found, fix))
        else:
            checks.append(Check(name, "ok", found))
    return checks


def _hub() -> list[Check]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(path.name for path in cache.glob("models--*")) if cache.is_dir() else []
    state = "offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "online, used only when you name a hub id"
    found = f"{state}; cache {cache}: {len(models)} models"
    nearest = next(path for path in (cache, *cache.parents) if path.exists())
    if not os.access(nearest, os.W_OK):
        return [Check("hub", "warning", f"{found}, not writable", "set HF_HOME to a folder you may write to")]
    return [Check("hub", "ok", found)]


def _lerobot() -> list[Check]:
    try:
        version = importlib.metadata.version("lerobot")
    except importlib.metadata.PackageNotFoundError:
        return [Check("lerobot", "ok", "not installed (smolpilot needs it only for its robots and for comparison)")]
    if version != "0.6.1":
        fix = "formats are proven against 0.6.1: uv sync --extra lerobot"
        return [Check("lerobot", "warning", f"{version}, untested", fix)]
    return [Check("lerobot", "ok", version)]
