"""Channel: the control process's end of what a person sees and says. Nothing here waits."""

from __future__ import annotations

import contextlib
import os

from .snapshot import Key, Snapshot

_KEYS = {key.value.encode(): key for key in Key}


class Channel:
    """Keys in, snapshots out, each as lines on a pipe. Either may be missing: then nobody says or sees anything."""

    def __init__(self, keys: int | None = None, snapshots: int | None = None) -> None:
        """keys, snapshots: descriptors; they are set to wait for nothing."""
        self._keys, self._snapshots, self._rest = keys, snapshots, b""
        self._unsent = b""
        for descriptor in (keys, snapshots):
            if descriptor is not None:
                os.set_blocking(descriptor, False)

    def said(self) -> list[Key]:
        """What was said since; words that are none are left out."""
        if self._keys is None:
            return []
        with contextlib.suppress(OSError):
            while more := os.read(self._keys, 4096):
                self._rest += more
        *lines, self._rest = self._rest.split(b"\n")
        return [_KEYS[line] for line in lines if line in _KEYS]

    def show(self, snapshot: Snapshot) -> bool:
        """Show one; left out while the last one is not read yet. A line that went half through is finished first.

        Whether it went through, or nobody looks.
        """
        if self._snapshots is None:
            return True
        first = not self._unsent
        line = self._unsent or snapshot.model_dump_json().encode() + b"\n"
        try:
            self._unsent = line[os.write(self._snapshots, line) :]
        except BlockingIOError:
            return False
        except OSError:  # nobody looks any more; whether that stops the arm is the supervisor's business
            self._snapshots = None
            return True
        return first and not self._unsent
