"""The frame cache: what a frozen vision-language model makes of each frame, computed once and read from disk.

`vision` keeps the image tokens [C, N, D]; `prefix` the keys and values of images and instruction of every text layer
[L, 2, K, G, E], so that a training step runs only the state token and the expert. Both are stored in the model's own
dtype unless a lower precision is asked for (`codec`). Fresh tensors are read back from the cache, too, so that a run
does not depend on what was cached before. Nothing of it is an approximation (docs/architecture.md).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.errors import TrainingError
from smolpilot.common.hashing import content_name, known_digest, tensors_digest
from smolpilot.common.machine import user_cache
from smolpilot.common.progress import working
from smolpilot.common.text import format_bytes, pluralize
from smolpilot.datasets import Dataset
from smolpilot.smolvla import Policy
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.training.data.augment import Augmentation
from smolpilot.training.data.frames import CameraPlan, Decoder, to_device

from .block_store import BlockStore
from .build import build
from .codec import CacheCodec, CacheDtype

Kind = Literal["vision", "prefix"]
Rows = npt.NDArray[np.int64]
Assemble = Callable[[Rows, Mapping[str, Tensor]], PolicyInputs]
Job = tuple[int, int]  # view, block

FORMAT = 2
_BLOCK = 32


def default_folder() -> Path:
    """Where caches are kept unless told otherwise."""
    return user_cache("frames")


def free_gb(folder: Path) -> float:
    """Free disk space where `folder` is or will be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free / 1e9


@dataclass(frozen=True)
class CacheSpec:
    """What is kept of a frame, in `views` augmented versions of its images (1: as they are, or one)."""

    kind: Kind
    codec: CacheCodec
    views: int = 1

    def gigabytes(self, rows: int) -> float:
        """Room on disk of `rows` frames."""
        return rows * self.views * self.codec.row_bytes / 1e9


def cache_spec(
    policy: Policy,
    kind: Kind,
    plans: Mapping[str, CameraPlan],
    tokens: int,
    dtype: CacheDtype | None = None,
    views: int = 1,
) -> CacheSpec:
    """What a cache keeps per frame, for the filled camera slots and instructions of `tokens` tokens."""
    config, model = policy.config, policy.model
    vision, text = config.vlm.vision, config.vlm.text
    patch = vision.patch_size * config.vlm.scale_factor
    per_image = [(plan.height // patch) * (plan.width // patch) for plan in plans.values()]
    if kind == "vision":
        shape: tuple[int, ...] = (len(plans), per_image[0], text.width)
    else:
        special = 3 * len(config.image_shapes) if config.add_image_special_tokens else 0
        shape = (model.expert.text_layers_read, 2, sum(per_image) + special + tokens, text.kv_heads, text.head_dim)
    axis = 1 if kind == "vision" else 2
    return CacheSpec(kind, CacheCodec.of(shape, axis, dtype, own_dtype(policy, kind)), views)


def own_dtype(policy: Policy, kind: Kind) -> torch.dtype:
    """The dtype in which the model computes what is kept."""
    model = policy.model
    return (model.connector.proj if kind == "vision" else model.text.embed_tokens).weight.dtype


class FrameCache:
    """The cached tensors of the `rows` of a dataset; built on first use, verified, shared between runs.

    With an augmentation each frame is kept in `spec.views` augmented versions, else once as it is.
    """

    def __init__(
        self, policy: Policy, dataset: Dataset, plans: Mapping[str, CameraPlan], rows: Rows, spec: CacheSpec,
        assemble: Assemble, folder: Path, augmentation: Augmentation | None = None,
    ) -> None:  # fmt: skip
        self.spec, self.policy, self._dataset, self._plans = spec, policy, dataset, dict(plans)
        self._decoder, self._device = Decoder(dataset, plans), torch.device(policy.device)
        self._assemble, self._augmentation = assemble, augmentation
        self._store = BlockStore(folder, (spec.codec.row_bytes,), torch.uint8)
        with working("reading the videos' fingerprints for the frame cache"):
            self._blocks = list(self._plan_blocks(rows))
        self._place = np.full((len(dataset), 2), -1, dtype=np.int64)
        for number, (_, members) in enumerate(self._blocks):
            self._place[members] = np.stack([np.full(len(members), number), np.arange(len(members))], axis=1)

    def build(self, turn: int = 0) -> int:
        """Compute and store what is missing; returns the number of computed blocks. TrainingError: the disk is full.

        Several processes may do so at once; another `turn` begins at another block.
        """
        self._store.sweep()
        jobs = [(view, block) for view in range(self.spec.views) for block in range(len(self._blocks))]
        missing = [job for job in jobs if not self._there(job)]
        if not missing:
            return 0
        if self._store.damaged and turn == 0:
            damaged = pluralize(len(self._store.damaged), "block")
            print(f"cache: damaged, so computed anew: {damaged} in {self._store.folder}", flush=True)
        self._require_room(sum(len(self._blocks[block][1]) for _, block in missing))
        first = turn * 7919 % len(missing)  # far from the others'
        return build(
            [*missing[first:], *missing[:first]],
            path=lambda job: self._store.path(self._name(job)),
            there=self._there,
            load=lambda job: self._images(self._blocks[job[1]][1]),
            compute=self._write,
            text=f"{self.spec.kind} cache",
        )

    def fields(self, rows: Rows, device: torch.device, views: Rows | None = None) -> dict[str, Tensor]:
        """The cached fields of PolicyInputs for `rows`, of the view of each (default: the first)."""
        views = np.zeros_like(rows) if views is None else views
        places = zip(self._place[rows], views, strict=True)
        tensors = [self._block((int(view), int(block)))[place] for (block, place), view in places]
        stacked = to_device(torch.stack(tensors), device)
        wide = self.spec.codec.unpack(stacked, own_dtype(self.policy, self.spec.kind))
        return {"image_tokens" if self.spec.kind == "vision" else "context": wide}

    @property
    def all_tokens(self) -> bool:
        """Whether instructions have to be padded to the longest one: keys and values are kept for all its tokens."""
        return self.spec.kind == "prefix"

    def fill(self, inputs: PolicyInputs, rows: Rows, sample_ids: Rows | None = None) -> PolicyInputs:
        """The inputs of the frames `rows` with the cached tensors in place of images; each sample draws its view."""
        views = None
        if self._augmentation is not None and sample_ids is not None:
            views = self._augmentation.rng.views(sample_ids, self.spec.views)
        fields = self.fields(rows, inputs.token_mask.device, views)
        if self.spec.kind == "prefix":
            # Images and special tokens come first, and are all seen.
            before = self.spec.codec.shape[2] - inputs.token_mask.shape[1]
            seen = torch.ones(len(rows), before, dtype=torch.bool, device=inputs.token_mask.device)
            fields["context_mask"] = torch.cat([seen, inputs.token_mask], dim=1)
        return dataclasses.replace(inputs, **fields)

    def exact(self, rows: Rows, view: int = 0) -> PolicyInputs:
        """What the cache stands in for: inputs with the images of a view, computed anew."""
        return self._inputs(rows, self._images(rows), view)

    def _there(self, job: Job) -> bool:
        return self._store.read(self._name(job), len(self._blocks[job[1]][1])) is not None

    def _block(self, job: Job) -> Tensor:
        name, members = self._name(job), self._blocks[job[1]][1]
        found = self._store.read(name, len(members))
        if found is None:  # removed or damaged since it was built
            self._write(job, self._images(members))
            found = self._store.read(name, len(members))
        assert found is not None, "it was read back"
        return found

    def _name(self, job: Job) -> str:
        view, block = job
        if self._augmentation is None:
            return self._blocks[block][0]
        return content_name(self._blocks[block][0], self._augmentation.describe(), view)

    def _write(self, job: Job, images: Mapping[str, Tensor]) -> None:
        view, block = job
        self._store.write(self._name(job), self.spec.codec.pack(self._compute(self._blocks[block][1], images, view)))
        if not self._there(job):
            raise TrainingError(
                f"A block of the cache in {self._store.folder} does not read back as it was written.",
                fix="check that disk, or train with --cache none",
            )

    def _require_room(self, rows: int) -> None:
        free, needed = free_gb(self._store.folder), self.spec.gigabytes(rows)
        if needed > free - 1:
            raise TrainingError(
                f"The {self.spec.kind} cache needs {format_bytes(1e9 * needed)} and 1 GB to spare in "
                f"{self._store.folder}, {format_bytes(1e9 * free)} are free.",
                fix="--cache vision is smaller than prefix, --cache none needs nothing; --cache-dir names another disk",
            )

    def _plan_blocks(self, rows: Rows) -> Iterator[tuple[str, Rows]]:
        """Blocks of frames of one episode, each with a name made of everything its numbers depend on."""
        policy, model = self.policy, self.policy.model
        modules = [("vision", model.vision), ("connector", model.connector)]
        if self.spec.kind == "prefix":
            modules.append(("text", model.text))
        weights = {f"{name}.{key}": value for name, module in modules for key, value in module.state_dict().items()}
        base = content_name(
            FORMAT, self.spec.kind, self.spec.codec, tensors_digest(weights), policy.config.resize_imgs_with_padding,
            policy.config.add_image_special_tokens, list(self._plans.items()), *policy.transforms.image_changes(),
        )  # fmt: skip
        frames, episodes = self._dataset.frame_index, self._dataset.episode_index
        for episode in np.unique(episodes[rows]):
            info = self._dataset.meta.episode(int(episode))
            sources: list[object] = []
            for plan in self._plans.values():
                span = info.videos.get(plan.camera)
                path = span.path if span is not None else info.data_path
                sources += [known_digest(path), span.start if span is not None else int(episode)]
            of_episode = np.sort(rows[episodes[rows] == episode])
            times = self._dataset.timestamps[of_episode]
            for first in range(0, len(of_episode), _BLOCK):
                members = of_episode[first : first + _BLOCK]
                instruction = self._tokens(members) if self.spec.kind == "prefix" else b""
                stamp = (
                    times[first : first + _BLOCK].tobytes()
                    + frames[members].tobytes()
                    + episodes[members].tobytes() * (self._augmentation is not None)
                )
                yield content_name(base, *sources, stamp, instruction), members

    def _tokens(self, rows: Rows) -> bytes:
        inputs = self._assemble(rows, {})
        return inputs.tokens.cpu().numpy().tobytes() + inputs.token_mask.cpu().numpy().tobytes()

    @torch.no_grad()
    def _compute(self, rows: Rows, images: Mapping[str, Tensor], view: int) -> Tensor:
        """The tensors of the frames `rows`, as the model gives them."""
        model = self.policy.model
        training = model.training
        model.eval()
        try:
            inputs = self._inputs(rows, images, view)
            return torch.cat([self.tensor(inputs[first : first + 8]) for first in range(0, len(rows), 8)])
        finally:
            model.train(training)

    def _inputs(self, rows: Rows, images: Mapping[str, Tensor], view: int) -> PolicyInputs:
        inputs = self._assemble(rows, images)
        if self._augmentation is None:
            return inputs
        ids = [self._dataset.episode_index[rows], self._dataset.frame_index[rows], np.full(len(rows), view)]
        return self._augmentation(inputs, np.stack(ids, axis=1).astype(np.int64))

    @torch.no_grad()
    def tensor(self, inputs: PolicyInputs) -> Tensor:
        """What is kept of inputs with images, as the model computes it."""
        model = self.policy.model
        if self.spec.kind == "prefix":
            return model.encode_context(inputs).pack()
        real = len(self._plans)
        tokens = model.embed_images(inputs.images[:, :real].flatten(0, 1))
        return tokens.reshape(len(inputs), real, *tokens.shape[1:])

    def _images(self, rows: Rows) -> dict[str, Tensor]:
        """The images of the camera slots, decoded anew: what the cache is computed from."""
        return {slot: self._decoder.images(slot, rows, self._device) for slot in self._plans}
