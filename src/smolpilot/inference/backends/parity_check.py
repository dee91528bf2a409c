"""Is the engine still the policy? Its chunk beside the plain network's, on real frames and the same noise.

A verdict is kept on disk, named by all that it depends on: weights and settings of the policy, mode, backend,
precision, shapes, machine and versions. What has changed is checked again; what has not starts without the plain
network.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.hashing import DIGESTS, content_name, differences, sealed
from smolpilot.common.json_input import read_json_file
from smolpilot.common.machine import machine_facts, user_cache
from smolpilot.common.text import pluralize
from smolpilot.version import __version__

FORMAT = 1
# The largest difference of a chunk that is let pass, in the network's own scale: standard deviations of each joint's
# recorded actions where the policy normalizes by them. `exact` must be equal in every bit.
LIMITS = {"exact": 0.0, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.1, "int8": 0.3}
_PACKAGES = ("torch", "numpy", "openvino", "onnxruntime")


@dataclass(frozen=True)
class ParityReport:
    """How far an engine's chunks are from the plain network's, over `frames` frames.

    difference: largest difference per joint in robot units; sigma: the largest of all in the network's scale.
    """

    sigma: float
    limit: float
    difference: dict[str, float]
    unit: dict[str, str]
    frames: int
    created: str = ""
    stored: bool = False  # read from disk, not measured by this engine

    @property
    def passed(self) -> bool:
        return self.sigma <= self.limit  # False for NaN, too

    @property
    def largest(self) -> tuple[str, float]:
        """The joint with the largest difference, and that difference in its unit."""
        name = max(self.difference, key=lambda joint: self.difference[joint])
        return name, self.difference[name]

    def text(self) -> str:
        """One sentence for a person."""
        joint, value = self.largest
        if self.sigma == 0.0:
            said = "equal to the plain network in every bit"
        else:
            unit = self.unit.get(joint, "")
            said = (
                f"differs from the plain network by at most {value:.3g}{' ' + unit if unit else ''} ({joint}), "
                f"{self.sigma:.2g} standard deviations (limit {self.limit:g})"
            )
        when = f", checked {self.created}" if self.stored else ""
        return f"{said}, {pluralize(self.frames, 'frame')}{when}"


def compare(
    ours: Tensor, plain: Tensor, units: tuple[Tensor, Tensor], joints: Mapping[str, str], limit: float
) -> ParityReport:
    """The verdict on normalized chunks [F, H, A] of both, and the same chunks in robot units; joints: name -> unit."""
    width = units[0].shape[-1]
    apart = (ours[..., :width].float().cpu() - plain[..., :width].float().cpu()).abs()
    # An engine that gives NaN where the plain network does not must never pass.
    sigma = float(apart.max()) if bool(torch.isfinite(apart).all()) else float("inf")
    largest = (units[0] - units[1]).abs().amax(dim=(0, 1)).tolist()
    names = list(joints) if len(joints) == width else [f"dimension {i}" for i in range(width)]
    return ParityReport(
        sigma=sigma,
        limit=limit,
        difference=dict(zip(names, largest, strict=True)),
        unit=dict(joints) if len(joints) == width else {},
        frames=len(ours),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


class ParityStore:
    """One verdict in `folder`, which carries the key in its name; a damaged file counts as none."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "verdict.json"

    def read(self, limit: float) -> ParityReport | None:
        """The stored verdict, judged by the limit of now."""
        try:
            values = read_json_file(self.path)
            if not isinstance(values, dict) or differences(values, self.path.name, self.path.parent, []):
                return None
            if values.pop("format") != FORMAT:
                return None
            values.pop(DIGESTS)
            return ParityReport(**{**values, "limit": limit, "stored": True})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, verdict: ParityReport) -> None:
        values = sealed({"format": FORMAT, **dataclasses.asdict(verdict)}, self.path.name, {})
        write_text_atomic(self.path, json.dumps(values, indent=2) + "\n")

    def forget(self) -> None:
        """The engine is to be checked again."""
        self.path.unlink(missing_ok=True)


def default_folder() -> Path:
    """Where verdicts and compiled engines are kept unless told otherwise."""
    return user_cache("engines")


def engine_key(policy: str, settings: Mapping[str, Any], device: torch.device) -> str:
    """A name for an engine: policy digest, settings, machine and versions."""
    facts = {"policy": policy, "settings": dict(settings), "machine": hardware(device), "versions": versions()}
    return content_name(json.dumps(facts, sort_keys=True, default=str))


def hardware(device: torch.device) -> dict[str, Any]:
    """What the last bits of a result depend on in the machine."""
    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": machine_facts(device)["processor"],
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["compute"] = torch.cuda.get_device_capability(device)
    else:
        facts["threads"] = torch.get_num_threads()
    return facts


def versions() -> dict[str, str]:
    """Versions of everything that computes."""
    found = {"smolpilot": __version__, "cuda": str(torch.version.cuda)}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
