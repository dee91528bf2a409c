"""How the tensors of a cached frame are stored: as they are, or in lower precision with a scale beside them.

fp8 (four bits of exponent, three of mantissa) and int8 keep one float32 scale for each channel of a frame, over its
tokens: keys have channels that are ten times as large as the others, and one scale for all would round those away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CacheDtype = Literal["float32", "bfloat16", "float16", "fp8", "int8"]
_DTYPES: dict[CacheDtype, torch.dtype] = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "fp8": torch.float8_e4m3fn,
    "int8": torch.int8,
}  # fmt: skip
_LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}


@dataclass(frozen=True, repr=False)
class CacheCodec:
    """Rows of `shape`, stored as `dtype`; `tokens` is the axis of the shape over which a scale holds."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    tokens: int

    @classmethod
    def of(cls, shape: tuple[int, ...], tokens: int, dtype: CacheDtype | None, own: torch.dtype) -> CacheCodec:
        """The codec of the named dtype, or of the model's own."""
        return cls(shape, _DTYPES[dtype] if dtype else own, tokens)

    def __repr__(self) -> str:
        """Part of the names of cache blocks: spelled as in the first version, for ever."""
        return f"Numbers(shape={self.shape!r}, dtype={self.dtype!r}, tokens={self.tokens!r})"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row with its scales."""
        scales = 4 * math.prod(self._scale_shape) if self.scaled else 0
        return math.prod(self.shape) * self.dtype.itemsize + scales

    @property
    def scaled(self) -> bool:
        return self.dtype in _LARGEST

    @property
    def _scale_shape(self) -> tuple[int, ...]:
        return (*self.shape[: self.tokens], 1, *self.shape[self.tokens + 1 :])

    def pack(self, rows: Tensor) -> Tensor:
        """Rows [n, *shape] as bytes, uint8 [n, row_bytes], on the CPU."""
        if rows.shape[1:] != self.shape:
            raise ValueError(f"rows of {tuple(rows.shape[1:])}, not {self.shape}")
        if not self.scaled:
            return _bytes(rows.to(self.dtype).cpu())
        largest = _LARGEST[self.dtype]
        wide = rows.float()
        scale = wide.abs().amax(dim=1 + self.tokens, keepdim=True) / largest
        scale = torch.where(scale > 0, scale, 1.0)
        scaled = (wide / scale).clamp(-largest, largest)
        kept = (scaled.round() if self.dtype == torch.int8 else scaled).to(self.dtype)
        return torch.cat([_bytes(kept.cpu()), _bytes(scale.cpu())], dim=1)

    def unpack(self, content: Tensor, wide: torch.dtype) -> Tensor:
        """Rows [n, *shape] in the dtype `wide` of what `pack` gave, on the same device."""
        if not self.scaled:
            return content.contiguous().view(self.dtype).reshape(-1, *self.shape).to(wide)
        size = math.prod(self.shape) * self.dtype.itemsize
        kept = content[:, :size].contiguous().view(self.dtype).reshape(-1, *self.shape)
        scale = content[:, size:].contiguous().view(torch.float32).reshape(-1, *self._scale_shape)
        return (kept.float() * scale).to(wide)


def _bytes(rows: Tensor) -> Tensor:
    """Each row as uint8."""
    return rows.contiguous().flatten(1).view(torch.uint8)
