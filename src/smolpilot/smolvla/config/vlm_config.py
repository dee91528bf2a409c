"""Dimensions of the vision-language model under a policy: the `config.json` of its folder.

Source: transformers' smolvlm config.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from smolpilot.common.errors import CheckpointError
from smolpilot.common.text import shown

from .settings_form import RESTORE, formed, real, whole

Pixels = Annotated[int, whole(1, 8_192)]
_Width = Annotated[int, whole(1, 65_536)]
# Compared with the weights before anything is built; more than are in use may be said.
_Layers = Annotated[int, whole(1, 10_000)]
_Eps = Annotated[float, real(1e-30, 1)]


@dataclass(frozen=True)
class VisionConfig:
    """Dimensions of the SigLIP-type vision tower, with transformers' names of them."""

    width: Annotated[_Width, Field(alias="hidden_size")] = 768
    layers: Annotated[_Layers, Field(alias="num_hidden_layers")] = 12
    heads: Annotated[_Width, Field(alias="num_attention_heads")] = 12
    mlp_width: Annotated[_Width, Field(alias="intermediate_size")] = 3072
    image_size: Pixels = 512
    patch_size: Pixels = 16
    eps: Annotated[_Eps, Field(alias="layer_norm_eps")] = 1e-6
    hidden_act: Literal["gelu_pytorch_tanh"] = field(default="gelu_pytorch_tanh", repr=False)

    @property
    def patches_per_side(self) -> int:
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TextConfig:
    """Dimensions of the Llama-type text model; the expert shares its head layout."""

    width: Annotated[_Width, Field(alias="hidden_size")] = 960
    layers: Annotated[_Layers, Field(alias="num_hidden_layers")] = 32
    heads: Annotated[_Width, Field(alias="num_attention_heads")] = 15
    kv_heads: Annotated[_Width, Field(alias="num_key_value_heads")] = 5
    head_dim: _Width = 64
    mlp_width: Annotated[int, whole(1, 1_000_000), Field(alias="intermediate_size")] = 2560
    vocab_size: Annotated[int, whole(1, 10_000_000)] = 49280
    eps: Annotated[_Eps, Field(alias="rms_norm_eps")] = 1e-5
    hidden_act: Literal["silu"] = field(default="silu", repr=False)


@dataclass(frozen=True)
class VLMConfig:
    """The vision-language model under the policy: `config.json` of its folder."""

    vision: Annotated[VisionConfig, Field(alias="vision_config")] = field(default_factory=VisionConfig)
    text: Annotated[TextConfig, Field(alias="text_config")] = field(default_factory=TextConfig)
    scale_factor: Annotated[int, whole(1, 64)] = 4  # pixel shuffle: scale_factor**2 patches become one image token

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
        config = formed(cls, _completed(values), where)
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
        own = TypeAdapter(VLMConfig).dump_python(self, by_alias=True)
        fixed = {"attention_bias": False, "mlp_bias": False, "max_position_embeddings": 8192, "dtype": "float32"}
        return {
            "model_type": "smolvlm",
            "architectures": ["SmolVLMForConditionalGeneration"],
            "scale_factor": self.scale_factor,
            "tie_word_embeddings": False,
            "dtype": "float32",
            "vision_config": {"model_type": "smolvlm_vision", **own["vision_config"]},
            "text_config": {"model_type": "llama", **own["text_config"], **fixed},
        }


# What transformers' SmolVLMConfig takes for keys that are absent.
_ABSENT: dict[str, dict[str, Any]] = {
    "vision_config": {
        "hidden_size": 1152, "num_hidden_layers": 12, "num_attention_heads": 16, "intermediate_size": 3072,
        "image_size": 224, "patch_size": 32,
    },
    "text_config": {
        "hidden_size": 2048, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 11008,
        "vocab_size": 32000, "rms_norm_eps": 1e-6,
    },
}  # fmt: skip


def _completed(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON with transformers' values for what it leaves out; what is no object is left to the form to refuse."""
    found = {"scale_factor": 2, **values}
    for key, absent in _ABSENT.items():
        given = {} if found.get(key) is None else found[key]
        found[key] = {**absent, **given} if isinstance(given, dict) else given
    text = found["text_config"]
    if isinstance(text, dict):
        heads, width = text["num_attention_heads"], text["hidden_size"]
        if text.get("num_key_value_heads") is None:
            text["num_key_value_heads"] = heads
        if text.get("head_dim") is None:
            whole_numbers = isinstance(heads, int) and isinstance(width, int) and heads > 0
            text["head_dim"] = width // heads if whole_numbers else heads
    return found
