"""THE ordered list of transforms between a robot frame and the network; outputs are the inputs mirrored.

    robot frame ─ joint order, units ─ camera slots, letterbox ─ normalise ─ pad ─ instruction to tokens ─► network
    robot action ◄─ joint order, units ◄──────────────────── un-normalise ◄─ crop ◄────────────────────── network

Training, evaluation, serving and export all use this list. A part refuses what it does not understand.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from smolpilot.errors import TransformError
from smolpilot.keys import ACTION, ACTION_IS_PAD, STATE
from smolpilot.statistics import Statistics

from .cameras import CameraMap, CamerasPart
from .config import PolicyConfig
from .inputs import PolicyInputs
from .instruction import InstructionPart
from .joints import FrameLayout, JointsPart
from .normalise import EPS, Normaliser, feature_mode
from .parts import Batch, Part
from .tokenizer import PolicyTokenizer

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


class Transforms:
    """The list as an object: `inputs` runs it forward on frames, `actions` backward on chunks. Picklable, on the CPU.

    Build it with `Transforms.build`. `parts` is the list itself, for people who want to look: each part has a name
    and `describe()`.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        config = recipe.config
        self.parts: list[Part] = [
            JointsPart(config.state_dim, config.action_dim, recipe.profile, recipe.source),
            CamerasPart(config, recipe.camera_map),
            NormalisePart(config, recipe.statistics, recipe.eps),
            PadPart(config),
            InstructionPart(config, recipe.tokenizer, recipe.instructions, recipe.default_instruction),
        ]

    @classmethod
    def build(
        cls,
        config: PolicyConfig,
        statistics: Statistics,
        tokenizer: PolicyTokenizer,
        *,
        camera_map: Mapping[str, str | None] | None = None,
        profile: RobotProfile | None = None,
        source: FrameLayout | None = None,
        instructions: Sequence[str] = (),
        eps: float = EPS,
    ) -> Transforms:
        """Make the list.

        statistics: of `observation.state` and `action`, in the policy's own joint order and units (the profile's).
        camera_map: robot camera -> slot, None for a camera that is left out on purpose; default: the same names.
        source: joints of the frames where they are not in the profile's order and units, such as a dataset's; then
        `actions` are given back in that order and those units, too.
        instructions: trained texts; another one warns once.
        Raises TransformError for a missing statistic or a camera that fits no slot, ProfileError for unknown joints.
        """
        if camera_map is None:
            camera_map = {slot: slot for slot in config.real_cameras}
        return cls(Recipe(config, statistics, tokenizer, dict(camera_map), profile, source, tuple(instructions), eps))

    def for_source(self, source: FrameLayout | None) -> Transforms:
        """The same list for frames of another layout (None: the profile's own)."""
        return Transforms(dataclasses.replace(self.recipe, source=source))

    @property
    def camera_map(self) -> CameraMap:
        return self.recipe.camera_map

    @property
    def action_names(self) -> tuple[str, ...]:
        """The joints of the actions that come back, in their order; empty where nothing names them."""
        return next((part.action_names for part in self.parts if isinstance(part, JointsPart)), ())

    def inputs(self, frames: Sequence[Mapping[str, Any]]) -> PolicyInputs:
        """Frames -> one batch on the CPU; with actions when every frame has `action` [H, A].

        Frames hold `observation.state` [S], `observation.images.<camera>` and `task`; `action_is_pad` [H] bool and
        `observation.images.<camera>_padding_mask` (False: no picture) may be given. Raises TransformError.
        """
        if isinstance(frames, Mapping) or not frames:
            raise TransformError("inputs() takes a list of frames.", fix="for one frame: inputs([frame])")
        batch = Batch(frames=frames, state=_states(frames))
        batch.actions, batch.action_is_pad = _actions(frames, self.recipe.config)
        for part in self.parts:
            part.forward(batch)
        return PolicyInputs(
            images=batch.images,
            image_masks=batch.image_masks,
            tokens=batch.tokens,
            token_mask=batch.token_mask,
            state=batch.state,
            actions=batch.actions,
            action_is_pad=batch.action_is_pad,
        )

    def actions(self, normalised: Tensor) -> Tensor:
        """Chunks of the network [..., max_action_dim] -> float32 [..., A] in robot units, on the CPU."""
        width = self.recipe.config.max_action_dim
        if normalised.shape[-1] != width:
            raise TransformError(
                f"The chunk has {normalised.shape[-1]} dimensions.", expected=f"max_action_dim, {width}"
            )
        out = normalised.detach().to("cpu", torch.float32)
        for part in reversed(self.parts):
            out = part.backward(out)
        return out

    def state(self, state: Any) -> Tensor:
        """One state [S] as the network takes it, [1, max_state_dim]: for a state that comes after the pictures."""
        return self._numbers(Batch(frames=(), state=_states([{STATE: state}]))).state

    def normalise(self, actions: Any) -> Tensor:
        """A chunk or a part of one, [L, A] in robot units -> normalised and padded, float32 [L, max_action_dim]."""
        rows = _vector(actions, ACTION)
        if rows.ndim != 2:
            raise TransformError(f"The actions have shape {list(rows.shape)}.", expected="[steps, joints]")
        batch = Batch(frames=(), state=torch.zeros(1, self.recipe.config.state_dim), actions=rows[None])
        moved = self._numbers(batch).actions
        assert moved is not None
        return moved[0]

    def _numbers(self, batch: Batch) -> Batch:
        """A batch without frames through the parts that work on states and actions."""
        for part in self.parts:
            if isinstance(part, JointsPart | NormalisePart | PadPart):
                part.forward(batch)
        return batch

    def describe(self) -> str:
        """One line per part, in order."""
        return "\n".join(f"{i + 1}. {part.name}: {part.describe()}" for i, part in enumerate(self.parts))


@dataclass(frozen=True)
class Recipe:
    """What the list is built from (see `Transforms.build`), so that it can be built again in another setting."""

    config: PolicyConfig
    statistics: Statistics
    tokenizer: PolicyTokenizer
    camera_map: dict[str, str | None]
    profile: RobotProfile | None = None
    source: FrameLayout | None = None
    instructions: tuple[str, ...] = ()
    eps: float = EPS

    @property
    def default_instruction(self) -> str | None:
        return self.profile.default_instruction if self.profile is not None else None


class NormalisePart:
    """States and actions to the network's scale and actions back."""

    name = "normalise"

    def __init__(self, config: PolicyConfig, statistics: Statistics, eps: float) -> None:
        mapping = config.normalization_mapping
        if mapping.get("VISUAL", "IDENTITY") != "IDENTITY":
            raise TransformError(
                f"The policy normalises images by {mapping['VISUAL']}.",
                expected="IDENTITY: SmolVLA's vision tower takes pictures in [-1, 1]",
            )
        self.state = Normaliser(STATE, feature_mode(mapping, STATE), statistics, config.state_dim, eps=eps)
        self.action = Normaliser(ACTION, feature_mode(mapping, ACTION), statistics, config.action_dim, eps=eps)

    def describe(self) -> str:
        return f"{self.state.describe()}; {self.action.describe()}"

    def forward(self, batch: Batch) -> None:
        batch.state = self.state.forward(batch.state)
        if batch.actions is not None:
            batch.actions = self.action.forward(batch.actions)

    def backward(self, actions: Tensor) -> Tensor:
        return self.action.backward(actions)


class PadPart:
    """Zeros up to the network's widths: mean 0, std 1 on the added dimensions; cropped on the way back."""

    name = "pad"

    def __init__(self, config: PolicyConfig) -> None:
        self.state_dim, self.max_state_dim = config.state_dim, config.max_state_dim
        self.action_dim, self.max_action_dim = config.action_dim, config.max_action_dim
        for what, dim, limit in (
            ("state", self.state_dim, self.max_state_dim),
            ("action", self.action_dim, self.max_action_dim),
        ):
            if dim > limit:
                raise TransformError(
                    f"The {what} has {dim} dimensions, the policy takes {limit} (max_{what}_dim).",
                    fix="widen the projections: start the training from this policy (it widens them and says so)",
                )

    def describe(self) -> str:
        return (
            f"state {self.state_dim} -> {self.max_state_dim}, action {self.action_dim} -> {self.max_action_dim} zeros"
        )

    def forward(self, batch: Batch) -> None:
        batch.state = torch.nn.functional.pad(batch.state, (0, self.max_state_dim - self.state_dim))
        if batch.actions is not None:
            batch.actions = torch.nn.functional.pad(batch.actions, (0, self.max_action_dim - self.action_dim))

    def backward(self, actions: Tensor) -> Tensor:
        return actions[..., : self.action_dim]


def _states(frames: Sequence[Mapping[str, Any]]) -> Tensor:
    """The states of all frames, float32 [B, S]."""
    rows = []
    for frame in frames:
        if STATE not in frame:
            raise TransformError(f"The frame has no '{STATE}'; it holds {sorted(map(str, frame))}.")
        row = _vector(frame[STATE], STATE)
        if row.ndim != 1:
            raise TransformError(f"'{STATE}' has shape {list(row.shape)}.", expected="[S], one value per joint")
        rows.append(row)
    return _stack(rows, STATE)


def _actions(frames: Sequence[Mapping[str, Any]], config: PolicyConfig) -> tuple[Tensor | None, Tensor | None]:
    """The action chunks [B, H, A] and their padding [B, H] bool, when every frame has them."""
    given = [ACTION in frame for frame in frames]
    if not any(given):
        return None, None
    if not all(given):
        raise TransformError(f"Only {sum(given)} of {len(frames)} frames have '{ACTION}'.", expected="all or none")
    rows, pads = [], []
    for frame in frames:
        row = _vector(frame[ACTION], ACTION)
        if row.ndim != 2 or row.shape[0] != config.chunk_size:
            raise TransformError(
                f"'{ACTION}' has shape {list(row.shape)}.",
                expected=f"[{config.chunk_size}, A]: chunk_size steps",
                fix=f"open the dataset with chunk_size={config.chunk_size}",
            )
        pad = frame.get(ACTION_IS_PAD)
        pad = torch.zeros(len(row)) if pad is None else torch.as_tensor(pad)
        if pad.shape != (len(row),):
            raise TransformError(f"'{ACTION_IS_PAD}' has shape {list(pad.shape)}.", expected=f"[{len(row)}]")
        rows.append(row)
        pads.append(pad.bool())
    return _stack(rows, ACTION), torch.stack(pads)


def _vector(value: Any, key: str) -> Tensor:
    """A vector or chunk of any real dtype as float32."""
    with warnings.catch_warnings():
        # A read-only array (from a table) is only read here.
        warnings.simplefilter("ignore", UserWarning)
        try:
            tensor = torch.as_tensor(np.asarray(value) if isinstance(value, list | tuple) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TransformError(f"'{key}' cannot be read as numbers: {error}") from error
    if tensor.dtype == torch.bool or tensor.is_complex():
        raise TransformError(f"'{key}' is {str(tensor.dtype).removeprefix('torch.')}.", expected="real numbers")
    return tensor.detach().to("cpu", torch.float32)


def _stack(rows: list[Tensor], key: str) -> Tensor:
    shapes = {tuple(row.shape) for row in rows}
    if len(shapes) > 1:
        raise TransformError(f"The frames have '{key}' of different shapes: {sorted(shapes)}.")
    return torch.stack(rows)
