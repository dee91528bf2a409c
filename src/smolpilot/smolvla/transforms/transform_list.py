"""THE ordered list of transforms between a robot frame and the network; outputs are the inputs mirrored.

    robot frame ─ joint order, units ─ camera slots, letterbox ─ normalize ─ pad ─ instruction to tokens ─► network
    robot action ◄─ joint order, units ◄──────────────────── un-normalize ◄─ crop ◄────────────────────── network

Training, evaluation, serving, the LeRobot plugin and export all use this list, each through the form of it that it
needs: frames (`inputs`, `actions`), whole arrays (`numbers`), images of one slot (`images`), instructions (`tokens`),
or the list as plain data (`spec`). A transform refuses what it does not understand.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics
from smolpilot.robots.layout import FrameLayout
from smolpilot.smolvla.config import PolicyConfig
from smolpilot.smolvla.network.inputs import PolicyInputs

from .camera_slots import CameraMap
from .cameras import CamerasTransform
from .frame_arrays import as_numbers, frame_actions, frame_states
from .images import bytes_to_unit_range
from .instruction import InstructionTransform, TokenTable
from .joints import JointsTransform
from .normalize import EPS, NormalizeTransform
from .padding import PadTransform
from .tokenizer import PolicyTokenizer
from .transform import Size, Transform

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile


@dataclass(frozen=True)
class TransformsConfig:
    """What the list is built from, so that it can be built again in another setting.

    statistics: of `observation.state` and `action`, in the policy's own joint order and units (the profile's).
    camera_map: robot camera -> slot, None for a camera that is left out on purpose.
    source: joints of the frames where they are not in the profile's order and units, such as a dataset's; then
    `actions` are given back in that order and those units, too.
    instructions: those of the training; another one warns once.
    extra: further transforms in order. They see states and actions in the policy's joint order and units, images in
    [0, 1] as the camera gives them, and instructions. What has no place for one of them, such as a bundle, an export or
    LeRobot's processors, refuses it by name.
    """

    policy: PolicyConfig
    statistics: Statistics
    tokenizer: PolicyTokenizer
    camera_map: CameraMap
    profile: RobotProfile | None = None
    source: FrameLayout | None = None
    instructions: Sequence[str] = ()
    eps: float = EPS
    extra: Sequence[Transform] = ()


class Transforms:
    """The list as an object: `inputs` runs it forward on frames, `actions` backward on chunks. Picklable, on the CPU.

    Iterating gives the transforms in order: each has a name and `describe()`. Raises TransformError for a missing
    statistic or a camera that fits no slot, ProfileError for unknown joints.
    """

    def __init__(self, config: TransformsConfig) -> None:
        self.config = config
        policy, profile, statistics = config.policy, config.profile, config.statistics
        for transform in config.extra:
            statistics = transform.statistics(statistics)
        self._joints = JointsTransform(policy.state_dim, policy.action_dim, profile, config.source)
        self._cameras = CamerasTransform(policy, config.camera_map)
        default = profile.default_instruction if profile is not None else None
        self._instruction = InstructionTransform(policy, config.tokenizer, config.instructions, default)
        # The list is made here and nowhere else.
        self._list: list[Transform] = [
            self._joints,
            *config.extra,
            self._cameras,
            NormalizeTransform(policy, statistics, config.eps),
            PadTransform(policy),
            self._instruction,
        ]
        names = [transform.name for transform in self]
        if twice := [name for name in names if names.count(name) > 1]:
            raise TransformError(f"Two transforms have the name '{twice[0]}'.", expected="a name of its own for each")

    def for_source(self, source: FrameLayout | None) -> Transforms:
        """The same list for frames of another layout (None: the profile's own)."""
        return Transforms(dataclasses.replace(self.config, source=source))

    def __iter__(self) -> Iterator[Transform]:
        return iter(self._list)

    def describe(self) -> str:
        """One line per transform, in order."""
        return "\n".join(f"{i + 1}. {transform.name}: {transform.describe()}" for i, transform in enumerate(self))

    # -- frames ------------------------------------------------------------------------------------------------------

    def inputs(self, frames: Sequence[Mapping[str, Any]], *, unseen: Collection[str] = ()) -> PolicyInputs:
        """Frames -> one batch on the CPU; with actions when every frame has `action` [H, A].

        Frames hold `observation.state` [S], `observation.images.<camera>` and `task`; `action_is_pad` [H] bool and
        `observation.images.<camera>_padding_mask` (False: no image) may be given. Camera slots in `unseen` hold no
        image whatever the frames say. Raises TransformError.
        """
        if isinstance(frames, Mapping) or not frames:
            raise TransformError("inputs() takes a list of frames.", fix="for one frame: inputs([frame])")
        states = frame_states(frames)
        actions, is_pad = frame_actions(frames, self.config.policy.chunk_size)
        states, actions = self.numbers(states, actions)
        raw, present = self._cameras.read(frames, unseen)
        images, masks = self.stack_images({slot: self._batch_of(slot, some) for slot, some in raw.items()}, present)
        tokens, token_mask = self.tokens(self._instruction.read(frames))
        return PolicyInputs(images, masks, tokens, token_mask, states, actions, is_pad)

    def actions(self, normalized: Tensor, states: Any = None) -> Tensor:
        """Chunks of the network [..., H, max_action_dim] -> float32 [..., H, A] in robot units, on the CPU.

        states [..., S]: of the frames that the chunks are for, as the frames hold them. TransformError without them
        where a transform needs them.
        """
        width = self.config.policy.max_action_dim
        if normalized.shape[-1] != width:
            raise TransformError(
                f"The chunk has {normalized.shape[-1]} dimensions.", expected=f"max_action_dim, {width}"
            )
        out = normalized.detach().to("cpu", torch.float32)
        for transform, seen in reversed(list(zip(self, self._states_before(states), strict=True))):
            out = transform.backward(out, seen)
        return out

    def states(self, frames: Sequence[Mapping[str, Any]]) -> Tensor:
        """The states of frames as they hold them, float32 [B, S]: what `actions` takes beside the chunks."""
        return frame_states(frames)

    def _batch_of(self, slot: str, raw: list[Tensor]) -> Tensor:
        """The images of one slot over the batch, as the network sees them [B, 3, h, w]."""
        if len({image.shape for image in raw}) == 1:
            return self.images(slot, torch.stack(raw))
        images = [self.images(slot, image[None]) for image in raw]
        if len({image.shape for image in images}) > 1:
            camera = self._cameras.filled[slot]
            raise TransformError(f"Camera '{camera}' has images of different sizes in one batch.")
        return torch.cat(images)

    # -- whole arrays of states and actions --------------------------------------------------------------------------

    def numbers(self, states: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """States [B, S] and the chunks that begin there [B, H, A], in the frames' order and units -> for the network.

        Float32 [B, max_state_dim] and [B, H, max_action_dim]; H may be any where the list is `per_row`.
        """
        for transform in self:
            states, actions = transform.numbers(states, actions)
        return states, actions

    @property
    def per_row(self) -> bool:
        """Whether every action row goes through by itself, so that rows can be transformed before chunks are made."""
        return all(transform.per_row for transform in self)

    def state(self, state: Any) -> Tensor:
        """One state [S] as the network takes it, [1, max_state_dim]: for a state that comes after the images."""
        return self.numbers(frame_states([{STATE: state}]))[0]

    def normalize(self, actions: Any, state: Any = None) -> Tensor:
        """A chunk or a part of one, [L, A] in robot units -> normalized and padded, float32 [L, max_action_dim].

        state [S]: of the frame at which the chunk begins; TransformError without it where a transform needs it.
        """
        rows = as_numbers(actions, ACTION)
        if rows.ndim != 2:
            raise TransformError(f"The actions have shape {list(rows.shape)}.", expected="[steps, joints]")
        if state is None:
            self._need_no_state()
            state = torch.zeros(self.config.policy.state_dim)
        moved = self.numbers(frame_states([{STATE: state}]), rows[None])[1]
        assert moved is not None
        return moved[0]

    def robot_numbers(self, states: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """States [B, S] and actions [B, H, A] in the frames' order and units -> in the policy's own, checked."""
        return self._joints.numbers(states, actions)

    @property
    def action_names(self) -> tuple[str, ...]:
        """The joints of the actions that come back, in their order; empty where nothing names them."""
        return self._joints.action_names

    def _states_before(self, states: Any) -> list[Tensor | None]:
        """The states as each transform is given them; nothing where none asks."""
        if not any(transform.needs_state for transform in self):
            return [None] * len(self._list)
        if states is None:
            self._need_no_state()
        seen, found = as_numbers(states, STATE), list[Tensor | None]()
        for transform in self:
            found.append(seen)
            seen, _ = transform.numbers(seen, None)
        return found

    def _need_no_state(self) -> None:
        for transform in self:
            if transform.needs_state:
                raise TransformError(
                    f"The transform '{transform.name}' needs the state beside the actions.",
                    expected="the state of the frame at which each chunk begins, in robot units",
                )

    # -- images ------------------------------------------------------------------------------------------------------

    @property
    def camera_map(self) -> CameraMap:
        return self.config.camera_map

    @property
    def filled(self) -> dict[str, str]:
        """Camera slot -> the robot camera that fills it, in the order of the slots."""
        return dict(self._cameras.filled)

    def images(self, slot: str, images: Tensor) -> Tensor:
        """Images of one slot, float32 [n, 3, h, w] in [0, 1] -> as the network sees them, [n, 3, H, W]."""
        for transform in self:
            images = transform.images(images, slot)
        return images

    def image_bytes(self, slot: str, images: Tensor) -> Tensor:
        """The same of images as cameras and videos give them, uint8 [n, h, w, 3]."""
        return self.images(slot, bytes_to_unit_range(images))

    def image_size(self, size: Size) -> Size:
        """(width, height) of what the network sees of images of this (width, height)."""
        for transform in self:
            size = transform.image_size(size)
        return size

    def stack_images(self, images: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Images of the slots [B, 3, H, W], `present` bool [B, filled slots] -> images [B, C, 3, H, W], masks [B, C].

        Slots without images are -1 and the empty ones masked. No image at all (a cache has what is made of them):
        images [B, C, 0].
        """
        return self._cameras.stack_images(images, present)

    def image_changes(self) -> list[str]:
        """What is done to images besides letterbox and range, as text: names of caches are made of it.

        UsageError names a transform that cannot be told apart from another by its `spec`.
        """
        changes = [transform for transform in self.config.extra if transform.has("images")]
        return [json.dumps(spec_of(transform, "be cached"), sort_keys=True) for transform in changes]

    # -- instructions ------------------------------------------------------------------------------------------------

    def tokens(self, instructions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens int64 [B, T] and mask bool [B, T] of instructions."""
        return self._instruction.tokens([self._reworded(text) for text in instructions])

    def token_table(self, instructions: Sequence[str], device: torch.device) -> TokenTable:
        """The tokens of instructions that many frames share."""
        return TokenTable(*self.tokens(instructions), device, shorten=self._instruction.padding == "longest")

    def _reworded(self, instruction: str) -> str:
        if isinstance(instruction, str):  # anything else the tokenizer refuses
            for transform in self:
                instruction = transform.instruction(instruction)
        return instruction

    # -- data --------------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, dict[str, Any]]:
        """The list as plain data, by name in order. UsageError names a transform that has none."""
        return {transform.name: spec_of(transform, "be exported") for transform in self}


def spec_of(transform: Transform, what: str) -> dict[str, Any]:
    """`spec` with the name; UsageError where there is none, so that it cannot `what`."""
    spec = transform.spec()
    if spec is None:
        raise UsageError(
            f"The transform '{transform.name}' cannot {what}: it does not say what it depends on.",
            expected="its settings as plain data",
            fix=f"implement {type(transform).__name__}.spec",
        )
    return {"name": transform.name, **spec}
