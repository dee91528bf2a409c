"""How much of what a source asks for has to be clamped, joint by joint, over the last seconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smolpilot.runtime.limits import EffectiveLimits

_MOST_TICKS = 100_000  # of a window, for a joint that hardly moves
_LONGER = 1.5  # than the whole range takes: a single far request is clamped all the way, and is no fault


class ClampShare:
    """Counts clamped ticks in a window that slides, for each joint long enough to cross its range in."""

    def __init__(self, limits: EffectiveLimits, tick: float, window_s: float) -> None:
        crossing = (limits.high - limits.low) / limits.velocity + limits.velocity / limits.acceleration
        self.seconds = np.minimum(np.maximum(window_s, _LONGER * crossing), _MOST_TICKS * tick)
        self._tick = tick
        self._sizes = np.maximum(2, np.round(self.seconds / tick)).astype(np.int64)
        self._joints = np.arange(len(self._sizes))
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._ring = np.zeros((int(self._sizes.max()), len(self._sizes)), dtype=bool)
        self._counts = np.zeros(len(self._sizes), dtype=np.int64)
        self._ticks = 0
        self._since, self._clamped = 0.0, np.zeros(len(self._sizes), dtype=bool)

    def add(self, clamped: npt.NDArray[np.bool_], dt: float) -> npt.NDArray[np.float64]:
        """The share of clamped ticks after `dt` seconds more in which these joints were [A]; 0 for a joint whose window
        is not yet full. Whoever calls more often than each tick fills no window sooner."""
        self._since += dt
        self._clamped |= clamped
        if self._since < 0.5 * self._tick:
            return self._share()
        self._since -= self._tick
        clamped, self._clamped = self._clamped, np.zeros_like(self._clamped)
        size = len(self._ring)
        left = self._ring[(self._ticks - self._sizes) % size, self._joints]
        self._counts += clamped.astype(np.int64) - np.where(self._ticks >= self._sizes, left, False)
        self._ring[self._ticks % size] = clamped
        self._ticks += 1
        return self._share()

    def _share(self) -> npt.NDArray[np.float64]:
        return np.where(self._ticks >= self._sizes, self._counts / self._sizes, 0.0)
