"""Dimensions of the vision-language model under a policy: the `config.json` of its folder.

Source: transformers' smolvlm config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import shown

from .settings_form import RESTORE, Form, formed, real, whole

Pixels = Annotated[int, whole(1, 8_192)]
_Width = Annotated[int, whole(1, 65_536)]
# Compared with the weights before anything is built; more than are in use may be said.
_Layers = Annotated[int, whole(1, 10_000)]


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
    def from_json(cls, values: dict[str, Any], where: object = "config.json") -> VLMConfig:
        """Read transformers' `SmolVLMConfig` JSON; absent keys take the values transformers gives them.

        CheckpointError, which names `where`, for another model and for sizes that make no network.
        """
        if values.get("model_type") != "smolvlm":
            raise CheckpointError(
                f"The vision-language model of {where} is of type {shown(values.get('model_type'))}.",
                expected="model_type 'smolvlm' (SmolVLM2)",
                fix="point vlm_model_name at a SmolVLM2 folder",
            )
        read = formed(_VLMForm, values, where)
        text, vision = read.text_config or _TextForm(), read.vision_config or _VisionForm()
        heads = text.num_attention_heads
        config = cls(
            vision=VisionConfig(
                width=vision.hidden_size,
                layers=vision.num_hidden_layers,
                heads=vision.num_attention_heads,
                mlp_width=vision.intermediate_size,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                eps=vision.layer_norm_eps,
            ),
            text=TextConfig(
                width=text.hidden_size,
                layers=text.num_hidden_layers,
                heads=heads,
                kv_heads=text.num_key_value_heads or heads,
                head_dim=text.head_dim or text.hidden_size // heads,
                mlp_width=text.intermediate_size,
                vocab_size=text.vocab_size,
                eps=text.rms_norm_eps,
            ),
            scale_factor=read.scale_factor,
        )
        config._check_sizes(where)
        return config

    def _check_sizes(self, where: object) -> None:
        """Sizes that each are in their range and do not fit each other."""
        v, t = self.vision, self.text
        for fits, found, expected in (
            (v.width % v.heads == 0, f"vision hidden_size {v.width} with {v.heads} heads", "a multiple of the heads"),
            (v.image_size >= v.patch_size, f"patches of {v.patch_size} pixels in images of {v.image_size}",
             "patch_size up to image_size"),
            (t.heads % t.kv_heads == 0, f"{t.heads} heads with {t.kv_heads} key-value heads",
             "num_key_value_heads that divides num_attention_heads"),
            (t.head_dim % 2 == 0 and t.head_dim > 0, f"a text head_dim of {t.head_dim}",
             "an even one: rotary positions turn pairs of numbers"),
        ):  # fmt: skip
            if not fits:
                raise CheckpointError(f"{where} has {found}.", expected=expected, fix=RESTORE)

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


class _VisionForm(Form):
    hidden_size: _Width = 1152
    num_hidden_layers: _Layers = 12
    num_attention_heads: _Width = 16
    intermediate_size: _Width = 3072
    image_size: Pixels = 224
    patch_size: Pixels = 32
    layer_norm_eps: Annotated[float, real(1e-30, 1)] = 1e-6
    hidden_act: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"


class _TextForm(Form):
    hidden_size: _Width = 2048
    num_hidden_layers: _Layers = 32
    num_attention_heads: _Width = 32
    num_key_value_heads: _Width | None = None
    head_dim: _Width | None = None
    intermediate_size: Annotated[int, whole(1, 1_000_000)] = 11008
    vocab_size: Annotated[int, whole(1, 10_000_000)] = 32000
    rms_norm_eps: Annotated[float, real(1e-30, 1)] = 1e-6
    hidden_act: Literal["silu"] = "silu"


class _VLMForm(Form):
    text_config: _TextForm | None = None
    vision_config: _VisionForm | None = None
    scale_factor: Annotated[int, whole(1, 64)] = 2
