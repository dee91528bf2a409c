"""Policy: the network with its transforms; frames in, actions in robot units out."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.errors import CheckpointError, TransformError, UsageError
from smolpilot.keys import ACTION, ACTION_IS_PAD
from smolpilot.statistics import Statistics

from .cameras import check_camera_map
from .config import PolicyConfig
from .finite import finite_chunk, finite_input
from .model import SmolVLA
from .report import LoadReport
from .tokenizer import PolicyTokenizer
from .transforms import Recipe, Transforms
from .weights import Carried

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


class Policy:
    """A policy that is ready to run. Make one with `load_policy`, `new_policy` or `adapt_policy`.

    A frame is a dict: `observation.state` [S], `observation.images.<camera>` ([3, h, w] float in [0, 1], or
    [h, w, 3] uint8) and `task` text; joints in the order and units of the robot profile.
    """

    def __init__(
        self,
        model: SmolVLA,
        transforms: Transforms | Recipe,
        *,
        lineage: Mapping[str, Any] | None = None,
        report: LoadReport | None = None,
        carried: Carried | None = None,
    ) -> None:
        self.model = model
        self._transforms: Transforms | None = transforms if isinstance(transforms, Transforms) else None
        self._recipe: Recipe = transforms.recipe if isinstance(transforms, Transforms) else transforms
        self.lineage: dict[str, Any] = dict(lineage or {})
        self.report = report or LoadReport(source="", kind="policy")
        self.carried = carried
        self._horizon = model.config.n_action_steps
        self._queue: deque[Tensor] = deque()

    @property
    def config(self) -> PolicyConfig:
        return self.model.config

    @property
    def transforms(self) -> Transforms:
        """The transform list. CheckpointError for a parent that was loaded without statistics."""
        if self._transforms is None:
            if self.report.statistics_problem:
                raise CheckpointError(
                    self.report.statistics_problem, fix="give those of the recording: --stats-from DATASET"
                )
            self._transforms = Transforms(self._recipe)
        return self._transforms

    @transforms.setter
    def transforms(self, transforms: Transforms) -> None:
        self._transforms, self._recipe = transforms, transforms.recipe

    def use_cameras(self, camera_map: Mapping[str, str | None]) -> None:
        """Take other cameras into the slots (robot camera -> slot; None: not used). TransformError for a wrong map."""
        recipe = dataclasses.replace(self._recipe, camera_map=dict(camera_map))
        if self._transforms is not None:
            self.transforms = Transforms(recipe)
        else:
            check_camera_map(camera_map, recipe.config)
            self._recipe = recipe

    @property
    def profile(self) -> RobotProfile | None:
        """The robot that the policy drives; None for a checkpoint that does not say."""
        return self._recipe.profile

    @property
    def statistics(self) -> Statistics:
        """Of `observation.state` and `action`, in the policy's joint order and units."""
        return self._recipe.statistics

    @property
    def tokenizer(self) -> PolicyTokenizer:
        return self._recipe.tokenizer

    @property
    def recipe(self) -> Recipe:
        """What the transforms are built from."""
        return self._recipe

    @property
    def instructions(self) -> list[str]:
        """The texts that the policy was trained with."""
        return list(self._recipe.instructions)

    @property
    def device(self) -> torch.device:
        return self.model.state_proj.weight.device

    @property
    def n_action_steps(self) -> int:
        """Execution horizon: how many actions of a chunk `select_action` hands out before it plans again."""
        return self._horizon

    @n_action_steps.setter
    def n_action_steps(self, steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= self.config.chunk_size:
            raise UsageError(
                f"The execution horizon n_action_steps is {steps!r}.",
                expected=f"1 to {self.config.chunk_size}, the length of a chunk",
            )
        self._horizon = steps
        self.reset()

    def predict_chunk(self, frame: Mapping[str, Any], noise: Tensor | npt.ArrayLike | None = None) -> Tensor:
        """The next actions in robot units, float32 [H, A] on the CPU.

        noise [H, max_action_dim] (torch or numpy) fixes the draw; without it torch's global generator is used. Raises
        TransformError for a frame that does not fit the policy, NotFiniteError instead of a chunk that is not finite.
        """
        if not isinstance(frame, Mapping):
            raise TransformError(
                f"predict_chunk was given a {type(frame).__name__}.",
                expected="one frame: a dict with LeRobot's keys",
                fix="for several frames: predict_chunks",
            )
        return self.predict_chunks([frame], None if noise is None else torch.as_tensor(noise)[None])[0]

    @torch.no_grad()
    def predict_chunks(
        self, frames: Sequence[Mapping[str, Any]], noise: Tensor | npt.ArrayLike | None = None
    ) -> Tensor:
        """One chunk for each frame, float32 [B, H, A] on the CPU; noise [B, H, max_action_dim]."""
        # A recorded frame brings its actions along: they are no input, whatever their number.
        if not isinstance(frames, Mapping):
            frames = [{key: value for key, value in f.items() if key not in (ACTION, ACTION_IS_PAD)} for f in frames]
        inputs = self.transforms.inputs(frames).to(self.device)
        start = None
        if noise is not None:
            start = torch.as_tensor(noise)
            shape = (len(frames), self.config.chunk_size, self.config.max_action_dim)
            if tuple(start.shape) != shape:
                raise TransformError(
                    f"The noise of {len(frames)} frames has shape {list(start.shape)}.",
                    expected=f"{list(shape)}: for each frame [chunk_size, max_action_dim]",
                )
            start = finite_input(start.to(self.device, torch.float32), "The noise")
        chunks = self.transforms.actions(self.model.sample(inputs, start), self.transforms.states(frames))
        return finite_chunk(chunks, self.transforms.action_names)

    def select_action(self, frame: Mapping[str, Any]) -> Tensor:
        """The next action [A]: from the current chunk, or of a new one when the execution horizon is used up."""
        if not self._queue:
            self._queue.extend(self.predict_chunk(frame)[: self._horizon])
        return self._queue.popleft()

    def reset(self) -> None:
        """Forget the rest of the current chunk: call it at the start of an episode."""
        self._queue.clear()

    def __repr__(self) -> str:
        robot = self.profile.name if self.profile is not None else "unknown robot"
        return (
            f"Policy({robot}: state {self.config.state_dim}, action {self.config.action_dim}, "
            f"cameras {', '.join(self._recipe.camera_map)}; chunk {self.config.chunk_size}, "
            f"horizon {self._horizon}; {self.device})"
        )


def fill_sizes(report: LoadReport, model: SmolVLA) -> LoadReport:
    """Write the network's sizes, dtype and place into a report."""
    parameters = list(model.parameters())
    report.parameters = sum(parameter.numel() for parameter in parameters)
    report.trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    report.memory_bytes = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    report.dtype = "+".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters}))
    report.device = str(parameters[0].device)
    return report
