"""Configuration of a SmolVLA policy: LeRobot's keys with their types and ranges.

Source: lerobot/policies/smolvla/configuration_smolvla.py (keys and defaults).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from smolpilot.common.errors import CheckpointError, TransformError, UsageError
from smolpilot.common.keys import ACTION, STATE, camera_name, image_key
from smolpilot.common.text import plain, shown

from .other_versions import sort_unknown
from .settings_form import RESTORE, Form, check_fields, formed, real, refuse, whole
from .vlm_config import Pixels, VLMConfig

# Bounds of what no weight in the file tells. They are far above what anybody uses, and far below what hangs a machine.
MOST_STEPS = 1_000
_MOST_CAMERAS = 64
_MOST_PATCHES = 128  # on a side
_MOST_TOKENS = 8_192  # what the text model was trained for
_FEATURE_TYPES = ("STATE", "VISUAL", "ENV", "ACTION", "REWARD", "LANGUAGE")
_MODES = ("IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10")


def check_steps(steps: int) -> int:
    """The number of denoising steps, where it is one; UsageError otherwise."""
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"num_steps is {steps!r}.", expected=f"1 to {MOST_STEPS:,} denoising steps")
    return steps


def _check_modes(modes: dict[str, str]) -> dict[str, str]:
    # LeRobot leaves as it is what has no mode: a forgotten line would be an action in other numbers.
    known = all(kind in _FEATURE_TYPES and mode in _MODES for kind, mode in modes.items())
    if not known or not {"STATE", "ACTION"} <= modes.keys():
        refuse(f"a mode for STATE and ACTION, of {', '.join(_MODES)}; others only for {', '.join(_FEATURE_TYPES)}")
    return modes


Modes = Annotated[dict[str, str], AfterValidator(_check_modes)]
MaxTokens = Annotated[int, whole(1, _MOST_TOKENS)]
Padding = Literal["longest", "max_length"]
_Cameras = Annotated[int, whole(0, _MOST_CAMERAS)]
_Dim = Annotated[int, whole(1, 10_000)]


@dataclass(frozen=True)
class PolicyConfig:
    """A SmolVLA policy as LeRobot's `config.json` describes it; same keys, same defaults.

    `image_shapes` maps a camera slot (without `observation.images.`) to (channels, height, width); `other` keeps
    the keys of `config.json` that say nothing about the computation, so that they survive a round trip; `newer` those
    that LeRobot 0.6.1 does not have (`other_versions`). Each field is checked against its type and range.
    """

    state_dim: _Dim = 6
    action_dim: _Dim = 6
    image_shapes: dict[str, tuple[_Dim, Pixels, Pixels]] = field(default_factory=dict)
    vlm: VLMConfig = field(default_factory=VLMConfig)
    n_obs_steps: int = 1
    chunk_size: _Dim = 50
    n_action_steps: int = 50
    normalization_mapping: Modes = field(
        default_factory=lambda: {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    )
    max_state_dim: _Dim = 32
    max_action_dim: _Dim = 32
    resize_imgs_with_padding: tuple[Pixels, Pixels] | None = (512, 512)  # (width, height)
    empty_cameras: _Cameras = 0
    adapt_to_pi_aloha: bool = False
    tokenizer_max_length: MaxTokens = 48
    num_steps: Annotated[int, whole(1, MOST_STEPS)] = 10
    freeze_vision_encoder: bool = True
    train_expert_only: bool = True
    train_state_proj: bool = True
    vlm_model_name: str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    add_image_special_tokens: bool = False
    attention_mode: Literal["cross_attn", "self_attn"] = "cross_attn"
    prefix_length: Annotated[int, whole(-1, _MOST_TOKENS)] = -1
    pad_language_to: Padding = "longest"
    num_expert_layers: Annotated[int, whole(-1, 1_000)] = -1
    num_vlm_layers: Annotated[int, whole(-1, 1_000)] = 16
    self_attn_every_n_layers: Annotated[int, whole(-1, 1_000)] = 2
    expert_width_multiplier: Annotated[float, real(1e-3, 16)] = 0.75
    min_period: Annotated[float, real(1e-9, 1e9)] = 4e-3
    max_period: Annotated[float, real(1e-9, 1e9)] = 4.0
    # Tokens around an image; only read with add_image_special_tokens. They come from the tokenizer's folder.
    fake_image_token_id: int | None = None
    global_image_token_id: int | None = None
    other: dict[str, Any] = field(default_factory=dict)
    newer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.adapt_to_pi_aloha:
            raise CheckpointError(
                "The checkpoint uses adapt_to_pi_aloha (joints flipped, grippers in angles), which is not supported.",
                fix="retrain with adapt_to_pi_aloha: false on the robot's own joint values",
            )
        if self.n_action_steps > self.chunk_size or self.n_action_steps < 1:
            raise UsageError(
                f"The execution horizon n_action_steps is {self.n_action_steps}.",
                expected=f"1 to chunk_size ({self.chunk_size})",
            )
        if self.n_obs_steps != 1:
            raise CheckpointError(f"n_obs_steps is {self.n_obs_steps}.", expected="1: SmolVLA sees one frame")
        if self.min_period > self.max_period:
            raise UsageError(
                f"min_period is {self.min_period:g}, max_period {self.max_period:g}.",
                expected="min_period up to max_period",
            )
        if self.expert_width < 2 or self.expert_width % 2:
            raise UsageError(
                f"expert_width_multiplier {self.expert_width_multiplier:g} makes the expert {self.expert_width} wide.",
                expected=f"an even part of the text width {self.vlm.text.width}",
            )
        self._check_layers()
        self._check_images()

    def _check_layers(self) -> None:
        vlm_layers, expert_layers = self.text_layers, self.expert_layers
        if vlm_layers % expert_layers:
            raise UsageError(
                f"num_expert_layers {expert_layers} does not divide the {vlm_layers} text layers.",
                fix="choose a divisor, or 0 for as many as text layers",
            )
        if expert_layers < vlm_layers and (self.self_attn_every_n_layers > 0 or "cross" not in self.attention_mode):
            raise UsageError(
                f"num_expert_layers {expert_layers} < {vlm_layers} text layers with self-attention layers "
                f"(attention_mode '{self.attention_mode}', self_attn_every_n_layers {self.self_attn_every_n_layers}).",
                expected="fewer expert layers only with attention_mode 'cross_attn' and self_attn_every_n_layers 0",
                fix="LeRobot cannot train and sample this combination either: set self_attn_every_n_layers to 0",
            )

    def _check_images(self) -> None:
        if len(self.image_shapes) > _MOST_CAMERAS:
            raise UsageError(f"There are {len(self.image_shapes)} cameras.", expected=f"at most {_MOST_CAMERAS}")
        for camera, shape in self.image_shapes.items():
            if len(shape) != 3 or shape[0] != 3:
                raise UsageError(
                    f"Camera '{plain(camera, 80)}' has shape {shown(tuple(shape))}.",
                    expected="3 color channels (channels, height, width); depth cameras are not supported",
                )
        if self.resize_imgs_with_padding is not None:
            self._check_size("resize_imgs_with_padding is", *self.resize_imgs_with_padding)
            return
        for camera in self.real_cameras:
            _, height, width = self.image_shapes[camera]
            self._check_size(f"Nothing is resized, and camera '{plain(camera, 80)}' has", width, height)

    def _check_size(self, what: str, width: int, height: int) -> None:
        if width != height:
            raise UsageError(
                f"{what} {width}x{height}.", expected="a square: the pixel shuffle after the vision tower needs one"
            )
        patch, scale = self.vlm.vision.patch_size, self.vlm.scale_factor
        side = width // patch
        if not 1 <= side <= _MOST_PATCHES or side % scale:
            raise UsageError(
                f"{what} {width}x{height}: {side} patches of {patch} pixels on a side.",
                expected=f"1 to {_MOST_PATCHES} patches on a side"
                + (f", a multiple of {scale} for the pixel shuffle" if scale > 1 else ""),
            )

    @property
    def text_layers(self) -> int:
        """Text layers in use: the first `num_vlm_layers`, or all."""
        limit = self.num_vlm_layers
        return min(limit, self.vlm.text.layers) if limit > 0 else self.vlm.text.layers

    @property
    def expert_layers(self) -> int:
        return self.num_expert_layers if self.num_expert_layers > 0 else self.text_layers

    @property
    def expert_width(self) -> int:
        return int(self.vlm.text.width * self.expert_width_multiplier)

    @property
    def expert_mlp_width(self) -> int:
        """2/3 of four times the width, rounded up to a multiple of 256 (LeRobot: get_intermediate_size)."""
        hidden = int(4 * int(2 * self.expert_width / 3))
        return 256 * ((hidden + 255) // 256)

    @property
    def cameras(self) -> list[str]:
        """Camera slots in order, the empty ones (`empty_camera_i`) last."""
        return list(self.image_shapes)

    @property
    def real_cameras(self) -> list[str]:
        """Camera slots that a robot camera must fill."""
        return [name for name in self.image_shapes if not name.startswith("empty_camera_")]

    @property
    def around_image(self) -> tuple[int, int] | None:
        """Ids of the tokens around an image (fake, global), None where there are none; TransformError if unknown."""
        if not self.add_image_special_tokens:
            return None
        if self.fake_image_token_id is None or self.global_image_token_id is None:
            raise TransformError(
                "add_image_special_tokens is set, but the tokenizer names no image tokens.",
                expected="<fake_token_around_image> and <global-img> in the tokenizer's special tokens",
            )
        return self.fake_image_token_id, self.global_image_token_id

    def is_self_attention(self, layer: int) -> bool:
        """Whether expert layer at text layer `layer` attends to itself and the prefix, or only to the prefix."""
        if "cross" not in self.attention_mode:
            return True
        return self.self_attn_every_n_layers > 0 and layer % self.self_attn_every_n_layers == 0

    def to_lerobot(self) -> dict[str, Any]:
        """The content of LeRobot's `config.json`: its keys only."""
        inputs: dict[str, Any] = {STATE: {"type": "STATE", "shape": [self.state_dim]}}
        for camera, shape in self.image_shapes.items():
            inputs[image_key(camera)] = {"type": "VISUAL", "shape": list(shape)}
        values: dict[str, Any] = {
            "type": "smolvla",
            "input_features": inputs,
            "output_features": {ACTION: {"type": "ACTION", "shape": [self.action_dim]}},
        }
        for item in dataclasses.fields(self):
            if item.name not in _OWN_FIELDS:
                value = getattr(self, item.name)
                values[item.name] = list(value) if isinstance(value, tuple) else value
        return {**values, **self.other}

    @classmethod
    def from_lerobot(
        cls, values: dict[str, Any], vlm: VLMConfig, where: object = "config.json", **more: Any
    ) -> PolicyConfig:
        """Read LeRobot's `config.json`, which messages call `where`; another policy type is a CheckpointError.

        So is a key of another LeRobot version that may change a prediction; the others are kept in `newer`.
        """
        if values.get("type") != "smolvla":
            raise CheckpointError(
                f"The checkpoint holds a policy of type {shown(values.get('type'))}.", expected="type 'smolvla'"
            )
        if values.get("use_delta_joint_actions_aloha"):
            raise CheckpointError("use_delta_joint_actions_aloha is set, which neither LeRobot nor smolpilot supports.")
        own = {item.name for item in dataclasses.fields(cls)} - _OWN_FIELDS
        known = own | _FEATURE_KEYS | _OTHER_KEYS
        newer = sort_unknown(values, [key for key in values if key not in known])
        chosen = {key: values[key] for key in own if key in values}
        if isinstance(chosen.get("resize_imgs_with_padding"), list):
            chosen["resize_imgs_with_padding"] = tuple(chosen["resize_imgs_with_padding"])
        other = {key: value for key, value in values.items() if key in _OTHER_KEYS}
        try:
            return cls(**_features(values, where), **chosen, vlm=vlm, other=other, newer=newer, **more)
        except UsageError as error:
            # The class also checks what a user asks for; here the file is at fault.
            raise CheckpointError(
                f"{where}: {error.found}", expected=error.expected, fix=error.fix or RESTORE
            ) from error


_OWN_FIELDS = {
    "state_dim", "action_dim", "image_shapes", "vlm", "other", "newer", "fake_image_token_id",
    "global_image_token_id",
}  # fmt: skip
_FEATURE_KEYS = {"type", "input_features", "output_features"}
_OTHER_KEYS = {
    "device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path", "use_peft",
    "pretrained_revision", "use_delta_joint_actions_aloha", "use_cache", "load_vlm_weights", "rtc_config",
    "compile_model", "compile_mode", "optimizer_lr", "optimizer_betas", "optimizer_eps", "optimizer_weight_decay",
    "optimizer_grad_clip_norm", "scheduler_warmup_steps", "scheduler_decay_steps", "scheduler_decay_lr",
}  # fmt: skip


class Feature(Form):
    """What LeRobot says of an input or output of a policy."""

    type: str
    shape: list[Annotated[int, whole(1, 1_000_000)]]


class _Features(Form):
    input_features: dict[str, Feature] | None = None
    output_features: dict[str, Feature] | None = None
    empty_cameras: _Cameras = 0


def _features(values: dict[str, Any], where: object) -> dict[str, Any]:
    """State and action widths and the camera slots from LeRobot's feature lists."""
    read = formed(_Features, values, where)
    inputs, outputs = read.input_features or {}, read.output_features or {}
    if STATE not in inputs or ACTION not in outputs:
        raise CheckpointError(
            f"{where} names the inputs {shown(sorted(inputs))} and outputs {shown(sorted(outputs))}.",
            expected=f"'{STATE}' among the inputs and '{ACTION}' among the outputs",
        )
    for key, feature in ((STATE, inputs[STATE]), (ACTION, outputs[ACTION])):
        if len(feature.shape) != 1:
            raise CheckpointError(
                f"{where}: the shape of '{key}' is {shown(feature.shape)}.", expected="one number", fix=RESTORE
            )
    shapes: dict[str, Any] = {
        camera_name(key): tuple(feature.shape) for key, feature in inputs.items() if feature.type == "VISUAL"
    }
    # LeRobot appends the empty cameras when the policy is built, so a fresh config.json may not list them yet.
    for i in range(read.empty_cameras):
        shapes.setdefault(f"empty_camera_{i}", (3, 480, 640))
    return {
        "state_dim": inputs[STATE].shape[0],
        "action_dim": outputs[ACTION].shape[0],
        "image_shapes": shapes,
    }
