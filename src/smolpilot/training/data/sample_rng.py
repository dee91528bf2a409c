"""Random numbers of a run by the place of the sample: the same on any device, in any batch, in any process.

Each sample has a place, its number in the endless stream of samples (step * batch size + number in the batch). What is
drawn for it comes from a counter-based generator (Philox) whose counter is that place, so that neither the order of
drawing nor how the batch is shared out changes a number, and a resumed run needs no generator's state.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.smolvla.network.flow_matching import time_of_uniform

SampleIds = npt.NDArray[np.int64]

# What is drawn; each has numbers of its own, so that switching one off leaves the others as they were.
NOISE, TIME, AUGMENT, VIEW = range(4)


class SampleRng:
    """The random numbers of the run with `seed`. `sample_ids` [n], or [n, m] for what more than a place identifies
    (m up to 3)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def noise(self, sample_ids: SampleIds, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, float32 [n, *shape]."""
        out = np.empty((len(sample_ids), *shape), dtype=np.float32)
        for row, generator in enumerate(_generators(self.seed, NOISE, sample_ids)):
            generator.standard_normal(out=out[row], dtype=np.float32)
        return torch.from_numpy(out)

    def times(self, sample_ids: SampleIds) -> Tensor:
        """Times of the flow, float32 [n], distributed as `draw_time` says."""
        # In float64: in float32 a number's last bit depends on where it stands in the batch, on some processors.
        return time_of_uniform(self.uniform(TIME, sample_ids, (1,))[:, 0].double()).float()

    def views(self, sample_ids: SampleIds, count: int) -> SampleIds:
        """One of `count` cached views for each sample, int [n]."""
        return (self.uniform(VIEW, sample_ids, (1,))[:, 0].numpy() * count).astype(np.int64)

    def uniform(self, purpose: int, sample_ids: SampleIds, shape: tuple[int, ...]) -> Tensor:
        """Numbers from 0 to below 1, float32 [n, *shape]."""
        out = np.empty((len(sample_ids), *shape), dtype=np.float32)
        for row, generator in enumerate(_generators(self.seed, purpose, sample_ids)):
            generator.random(out=out[row], dtype=np.float32)
        return torch.from_numpy(out)


def _generators(seed: int, purpose: int, sample_ids: SampleIds) -> Iterator[np.random.Generator]:
    """One generator, set to the counter of each place in turn (a new one each time would cost thrice as much)."""
    bits = np.random.Philox(key=np.array([seed, purpose], dtype=np.uint64))
    generator = np.random.Generator(bits)
    # The lowest word of the counter counts what is drawn for one place.
    counters = np.zeros((len(sample_ids), 4), dtype=np.uint64)
    wide = sample_ids.reshape(len(sample_ids), -1)
    counters[:, 1 : 1 + wide.shape[1]] = wide
    state = bits.state
    for counter in counters:
        state["state"]["counter"][:] = counter
        state |= {"buffer_pos": 4, "has_uint32": 0}  # nothing is left over from the place before
        bits.state = state
        yield generator
