"""The vision tower (SigLIP-type ViT) and the connector that turns its patches into image tokens.

Source: transformers' smolvlm (vision transformer, pixel shuffle). Letters: B images, N patches, D width.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smolpilot.common.errors import TransformError
from smolpilot.smolvla.config import VisionConfig, VLMConfig

_ROWS = 2048  # patches of two images of 512 pixels


class PatchEmbeddings(nn.Module):
    """Patches by a strided convolution, plus learned positions. [B, 3, h, w] -> [B, N, D]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        self.position_embedding = nn.Embedding(config.patches_per_side**2, config.width)

    def forward(self, images: Tensor) -> Tensor:
        check_square(images, self.config.patch_size)
        patches = self.patch_embedding(images)  # [B, D, h/p, w/p]
        positions = patch_positions(patches.shape[-1], self.config.patches_per_side, images.device)
        out: Tensor = patches.flatten(2).transpose(1, 2) + self.position_embedding(positions)
        return out.contiguous()  # a convolution's layout would be copied before every product of every layer


def check_square(images: Tensor, patch_size: int) -> None:
    """TransformError for images [B, 3, h, w] of which no square grid of patches is made."""
    height, width = images.shape[-2:]
    what = f"The vision tower got images of {width}x{height} pixels."
    if min(height, width) < patch_size:
        raise TransformError(what, expected=f"at least one patch of {patch_size} pixels")
    if height // patch_size != width // patch_size:
        raise TransformError(what, expected="square images", fix="set resize_imgs_with_padding to a square")


@cache
def patch_positions(side: int, trained_side: int, device: torch.device) -> Tensor:
    """Index into the learned positions for each patch of a `side` x `side` grid, [side*side].

    The reference finds them by bucketing float coordinates, which is not the identity for some sides (19, 25, 29 ...)
    even at the trained size; checkpoints were trained that way, so the same float32 arithmetic is repeated here.
    Kept: a copy from the CPU at every call would make a GPU wait, and cannot be recorded in a CUDA graph.
    """
    with torch.inference_mode(False):  # the kept tensor serves training, too
        boundaries = torch.arange(1 / trained_side, 1.0, 1 / trained_side)
        coordinates = torch.arange(side, dtype=torch.float32) * (1.0 / torch.tensor(side))
        buckets = torch.bucketize(coordinates.clamp(max=1.0 - 1e-6), boundaries, right=True)
        return (buckets[:, None] * trained_side + buckets[None, :]).flatten().to(device)


class VisionAttention(nn.Module):
    """Full attention between patches, with biases. [B, N, D] -> [B, N, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)
        )  # each [B, heads, N, D/heads]
        out = F.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return result


class VisionMLP(nn.Module):
    """Two linear layers with a tanh-approximated GELU. [B, N, D] -> [B, N, D]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return out


class VisionLayer(nn.Module):
    """Pre-norm transformer layer. [B, N, D] -> [B, N, D]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.self_attn = VisionAttention(config.width, config.heads)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = VisionMLP(config.width, config.mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class VisionTower(nn.Module):
    """Images in [-1, 1] to patch features. [B, 3, h, w] -> [B, N, D]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.layers))
        self.post_layernorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embeddings(images)
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            # What one layer needs of so many rows stays in the processor's cache.
            return torch.cat([self._encode(part) for part in x.split(max(1, _ROWS // x.shape[1]))])
        return self._encode(x)

    def _encode(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.post_layernorm(x)
        return out


class Connector(nn.Module):
    """Pixel shuffle and one linear layer: s x s neighboring patches become one image token.

    [B, N, D] -> [B, N/s^2, text width].
    """

    def __init__(self, config: VLMConfig) -> None:
        super().__init__()
        self.scale = config.scale_factor
        self.proj = nn.Linear(config.vision.width * self.scale**2, config.text.width, bias=False)

    def forward(self, patches: Tensor) -> Tensor:
        out: Tensor = self.proj(pixel_shuffle(patches, self.scale))
        return out


def pixel_shuffle(patches: Tensor, s: int) -> Tensor:
    """s x s neighboring patches side by side. [B, N, D] -> [B, N/s^2, s*s*D]."""
    b, n, d = patches.shape
    side = round(n**0.5)
    if side % s:
        raise TransformError(
            f"The image gives {side}x{side} patches.",
            expected=f"a multiple of {s} per side, for the pixel shuffle",
            fix="choose resize_imgs_with_padding accordingly",
        )
    grid = patches.reshape(b, side // s, s, side // s, s, d)  # rows, within, columns, within
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(b, (side // s) ** 2, s * s * d)
