"""Configuration of a SmolVLA policy: LeRobot's keys, the dimensions of its vision-language model, presets.

Source: lerobot/policies/smolvla/configuration_smolvla.py (keys and defaults), transformers' smolvlm config.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from smolpilot.errors import CheckpointError, UsageError
from smolpilot.keys import ACTION, STATE, camera_name, image_key

from .other_versions import sort_unknown

NormalisationMode = Literal["MEAN_STD", "MIN_MAX", "IDENTITY"]


@dataclass(frozen=True)
class VisionConfig:
    """Dimensions of the SigLIP-type vision tower."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    image_size: int = 512
    patch_size: int = 16
    eps: float = 1e-6

    @property
    def patches_per_side(self) -> int:
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of the Llama-type text model; the expert shares its head layout."""

    width: int = 960
    layers: int = 32
    heads: int = 15
    kv_heads: int = 5
    head_dim: int = 64
    mlp_width: int = 2560
    vocab_size: int = 49280
    eps: float = 1e-5


@dataclass(frozen=True)
class VLMConfig:
    """The vision-language model under the policy: `config.json` of its folder."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    scale_factor: int = 4  # pixel shuffle: scale_factor**2 patches become one image token

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> VLMConfig:
        """Read transformers' `SmolVLMConfig` JSON; absent keys take the values transformers gives them."""
        if values.get("model_type") != "smolvlm":
            raise CheckpointError(
                f"The vision-language model is of type '{values.get('model_type')}'.",
                expected="model_type 'smolvlm' (SmolVLM2)",
                fix="point vlm_model_name at a SmolVLM2 folder",
            )
        text, vision = values.get("text_config", {}), values.get("vision_config", {})
        width, heads = text.get("hidden_size", 2048), text.get("num_attention_heads", 32)
        return cls(
            vision=VisionConfig(
                width=vision.get("hidden_size", 1152),
                layers=vision.get("num_hidden_layers", 12),
                heads=vision.get("num_attention_heads", 16),
                mlp_width=vision.get("intermediate_size", 3072),
                image_size=vision.get("image_size", 224),
                patch_size=vision.get("patch_size", 32),
                eps=vision.get("layer_norm_eps", 1e-6),
            ),
            text=TextConfig(
                width=width,
                layers=text.get("num_hidden_layers", 32),
                heads=heads,
                kv_heads=text.get("num_key_value_heads") or heads,
                head_dim=text.get("head_dim") or width // heads,
                mlp_width=text.get("intermediate_size", 11008),
                vocab_size=text.get("vocab_size", 32000),
                eps=text.get("rms_norm_eps", 1e-6),
            ),
            scale_factor=values.get("scale_factor", 2),
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON that transformers (and `from_json`) read back as the same model, in float32."""
        v, t = self.vision, self.text
        return {
            "model_type": "smolvlm",
            "architectures": ["SmolVLMForConditionalGeneration"],
            "scale_factor": self.scale_factor,
            "tie_word_embeddings": False,
            "dtype": "float32",
            "vision_config": {
                "model_type": "smolvlm_vision",
                "hidden_size": v.width,
                "num_hidden_layers": v.layers,
                "num_attention_heads": v.heads,
                "intermediate_size": v.mlp_width,
                "image_size": v.image_size,
                "patch_size": v.patch_size,
                "layer_norm_eps": v.eps,
                "hidden_act": "gelu_pytorch_tanh",
            },
            "text_config": {
                "model_type": "llama",
                "hidden_size": t.width,
                "num_hidden_layers": t.layers,
                "num_attention_heads": t.heads,
                "num_key_value_heads": t.kv_heads,
                "head_dim": t.head_dim,
                "intermediate_size": t.mlp_width,
                "vocab_size": t.vocab_size,
                "rms_norm_eps": t.eps,
                "hidden_act": "silu",
                "attention_bias": False,
                "mlp_bias": False,
                "max_position_embeddings": 8192,
                "dtype": "float32",
            },
        }


@dataclass(frozen=True)
class PolicyConfig:
    """A SmolVLA policy as LeRobot's `config.json` describes it; same keys, same defaults.

    `image_shapes` maps a camera slot (without `observation.images.`) to (channels, height, width); `other` keeps
    the keys of `config.json` that say nothing about the computation, so that they survive a round trip; `newer` those
    that LeRobot 0.6.1 does not have (`other_versions`).
    """

    state_dim: int = 6
    action_dim: int = 6
    image_shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    vlm: VLMConfig = field(default_factory=VLMConfig)
    n_obs_steps: int = 1
    chunk_size: int = 50
    n_action_steps: int = 50
    normalization_mapping: dict[str, str] = field(
        default_factory=lambda: {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    )
    max_state_dim: int = 32
    max_action_dim: int = 32
    resize_imgs_with_padding: tuple[int, int] | None = (512, 512)  # (width, height)
    empty_cameras: int = 0
    adapt_to_pi_aloha: bool = False
    tokenizer_max_length: int = 48
    num_steps: int = 10
    freeze_vision_encoder: bool = True
    train_expert_only: bool = True
    train_state_proj: bool = True
    vlm_model_name: str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"
    add_image_special_tokens: bool = False
    attention_mode: str = "cross_attn"
    prefix_length: int = -1
    pad_language_to: str = "longest"
    num_expert_layers: int = -1
    num_vlm_layers: int = 16
    self_attn_every_n_layers: int = 2
    expert_width_multiplier: float = 0.75
    min_period: float = 4e-3
    max_period: float = 4.0
    # Tokens around an image; only read with add_image_special_tokens. They come from the tokenizer's folder.
    fake_image_token_id: int | None = None
    global_image_token_id: int | None = None
    other: dict[str, Any] = field(default_factory=dict)
    newer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
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
        for camera, shape in self.image_shapes.items():
            if len(shape) != 3 or shape[0] != 3:
                raise UsageError(
                    f"Camera '{camera}' has shape {tuple(shape)}.",
                    expected="3 colour channels (channels, height, width); depth cameras are not supported",
                )
        if self.resize_imgs_with_padding is not None:
            width, height = self.resize_imgs_with_padding
            if width != height:
                raise UsageError(
                    f"resize_imgs_with_padding is {width}x{height}.",
                    expected="a square: the pixel shuffle after the vision tower needs one",
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
    def from_lerobot(cls, values: dict[str, Any], vlm: VLMConfig, **more: Any) -> PolicyConfig:
        """Read LeRobot's `config.json`; another policy type is a CheckpointError.

        So is a key of another LeRobot version that may change a prediction; the others are kept in `newer`.
        """
        if values.get("type") != "smolvla":
            raise CheckpointError(
                f"The checkpoint holds a policy of type '{values.get('type')}'.", expected="type 'smolvla'"
            )
        if values.get("use_delta_joint_actions_aloha"):
            raise CheckpointError("use_delta_joint_actions_aloha is set, which neither LeRobot nor smolpilot supports.")
        own = {item.name for item in dataclasses.fields(cls)} - _OWN_FIELDS
        known = own | _FEATURE_KEYS | _OTHER_KEYS
        newer = sort_unknown(values, [key for key in values if key not in known])
        chosen = {key: values[key] for key in own if key in values}
        if chosen.get("resize_imgs_with_padding") is not None:
            chosen["resize_imgs_with_padding"] = tuple(chosen["resize_imgs_with_padding"])
        other = {key: value for key, value in values.items() if key in _OTHER_KEYS}
        try:
            return cls(**_features(values), **chosen, vlm=vlm, other=other, newer=newer, **more)
        except UsageError as error:
            # The class also checks what a user asks for; here the file is at fault.
            raise CheckpointError(f"config.json: {error.found}", expected=error.expected, fix=error.fix) from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
            raise CheckpointError(
                f"config.json is damaged: {type(error).__name__}: {error}.",
                expected="the config.json that LeRobot or smolpilot wrote beside the weights",
                fix="copy or download it again",
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


def _features(values: dict[str, Any]) -> dict[str, Any]:
    """State and action widths and the camera slots from LeRobot's feature lists."""
    inputs, outputs = values.get("input_features") or {}, values.get("output_features") or {}
    if STATE not in inputs or ACTION not in outputs:
        raise CheckpointError(
            f"config.json names the inputs {sorted(inputs)} and outputs {sorted(outputs)}.",
            expected=f"'{STATE}' among the inputs and '{ACTION}' among the outputs",
        )
    shapes: dict[str, tuple[int, int, int]] = {}
    for key, feature in inputs.items():
        if feature["type"] == "VISUAL":
            channels, height, width = feature["shape"]
            shapes[camera_name(key)] = (channels, height, width)
    # LeRobot appends the empty cameras when the policy is built, so a fresh config.json may not list them yet.
    for i in range(values.get("empty_cameras") or 0):
        shapes.setdefault(f"empty_camera_{i}", (3, 480, 640))
    return {
        "state_dim": inputs[STATE]["shape"][0],
        "action_dim": outputs[ACTION]["shape"][0],
        "image_shapes": shapes,
    }
