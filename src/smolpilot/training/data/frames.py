"""Images of a dataset's frames as the transforms make them: decoded once into memory, or whenever asked for.

A tiny policy takes thousands of samples a second; decoding at random positions gives tens. In memory, images that
already have the policy's size stay uint8, a quarter of the size of float32; others are kept as the network sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import batched

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.progress import track
from smolpilot.datasets import Dataset, DatasetMeta
from smolpilot.smolvla.transforms.transform_list import Transforms


@dataclass(frozen=True)
class CameraPlan:
    """How the images of one dataset camera become images of the policy's size."""

    camera: str
    height: int
    width: int
    native: bool  # the camera's images have the policy's size already
    # uint8 [n, h, w, 3] -> what the network sees, float32 [n, 3, height, width]. Names of cache blocks hold the rest of
    # a plan as it prints itself.
    prepare: Callable[[Tensor], Tensor] = field(repr=False, compare=False)

    @property
    def bytes_per_frame(self) -> int:
        return 3 * self.height * self.width * (1 if self.native else 4)


def camera_plans(meta: DatasetMeta, transforms: Transforms) -> dict[str, CameraPlan]:
    """The plan of each camera slot that a camera of the dataset fills, in the order of the slots."""
    plans = {}
    for slot, name in transforms.filled.items():
        camera = meta.cameras[name]
        width, height = transforms.image_size((camera.width, camera.height))
        native = (camera.width, camera.height) == (width, height)
        plans[slot] = CameraPlan(name, height, width, native, partial(transforms.image_bytes, slot))
    return plans


def predicted_gb(plans: list[CameraPlan], frames: int) -> float:
    """Memory that a FrameStore of `frames` frames takes."""
    return sum(plan.bytes_per_frame for plan in plans) * frames / 1e9


class FrameStore:
    """Images of `rows` of a dataset, per camera slot; each episode is decoded once, in order."""

    def __init__(self, dataset: Dataset, plans: Mapping[str, CameraPlan], rows: npt.NDArray[np.int64]) -> None:
        self._plans = dict(plans)
        self._place = np.full(len(dataset), -1, dtype=np.int64)
        self._place[rows] = np.arange(len(rows))
        self._stored = {slot: _empty(plan, len(rows)) for slot, plan in self._plans.items()}
        wanted = set(dataset.episode_index[rows].tolist())
        jobs = [(slot, episode) for slot in self._plans for episode in dataset.episodes if episode in wanted]
        for slot, episode in track(jobs, len(jobs), "decoding video"):
            self._fill(dataset, slot, episode)

    def images(self, slot: str, rows: npt.NDArray[np.int64], device: torch.device) -> Tensor:
        """Images of a camera slot, float32 [n, 3, H, W] on `device`."""
        plan = self._plans[slot]
        chosen = self._stored[slot][torch.from_numpy(self._place[rows])]
        moved = to_device(chosen, device)
        return plan.prepare(moved) if plan.native else moved

    def _fill(self, dataset: Dataset, slot: str, episode: int) -> None:
        plan, target = self._plans[slot], self._stored[slot]
        rows = np.flatnonzero(dataset.episode_index == episode)
        decoded = dataset.decode_episode(plan.camera, episode)
        for some, images in zip(batched(rows, 64), batched(decoded, 64), strict=True):
            positions = self._place[list(some)]
            kept = np.flatnonzero(positions >= 0)
            if not kept.size:
                continue
            block = torch.from_numpy(np.stack([images[i] for i in kept]))
            target[torch.from_numpy(positions[kept])] = block if plan.native else plan.prepare(block)


def _empty(plan: CameraPlan, count: int) -> Tensor:
    if plan.native:
        return torch.empty(count, plan.height, plan.width, 3, dtype=torch.uint8)
    return torch.empty(count, 3, plan.height, plan.width, dtype=torch.float32)


class Decoder:
    """The same images, decoded when asked for: for datasets that do not fit into memory."""

    def __init__(self, dataset: Dataset, plans: Mapping[str, CameraPlan]) -> None:
        self._dataset, self._plans = dataset, dict(plans)

    def images(self, slot: str, rows: npt.NDArray[np.int64], device: torch.device) -> Tensor:
        """Images of a camera slot, float32 [n, 3, H, W] on `device`."""
        plan = self._plans[slot]
        decoded = torch.from_numpy(self._dataset.pictures(rows, plan.camera))
        return to_device(plan.prepare(decoded.permute(0, 2, 3, 1)), device)


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a GPU without waiting for the copy."""
    if device.type != "cuda" or value.device.type != "cpu":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)
