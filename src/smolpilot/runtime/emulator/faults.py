"""Faults of the bus: what becomes of replies on their way to the host."""

from __future__ import annotations

import random

from .options import FaultOptions


class Faults:
    """Attributes may be set at any time. The first ones are those of FaultOptions; the others count down."""

    def __init__(self, options: FaultOptions | None = None) -> None:
        options = options or FaultOptions()
        self.corrupt, self.drop, self.noise, self.delay = options.corrupt, options.drop, options.noise, options.delay
        self.silent = set(options.silent)
        self.corrupt_next = 0
        """So many replies from now on are corrupted."""
        self.drop_next = 0
        """So many replies from now on are lost."""
        self._random = random.Random(options.seed)

    def passed(self, reply: bytes) -> bytes:
        """What the host gets of a reply (all that servos say to one request)."""
        if not reply:
            return reply
        # Drawn for each reply, whatever comes of it: one fault does not change when the others strike.
        dropped, corrupted = self._random.random() < self.drop, self._random.random() < self.corrupt
        if self.drop_next > 0:
            self.drop_next, dropped = self.drop_next - 1, True
        if dropped:
            return b""
        if self.corrupt_next > 0:
            self.corrupt_next, corrupted = self.corrupt_next - 1, True
        if corrupted:
            at = self._random.randrange(len(reply))
            reply = reply[:at] + bytes([reply[at] ^ self._random.randrange(1, 256)]) + reply[at + 1 :]
        return self._random.randbytes(self.noise) + reply
