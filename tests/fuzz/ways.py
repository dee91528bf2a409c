"""Kinds of which each goes wrong in one way: the harness is tried on them."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings

from smolpilot.common.errors import DatasetError

from .changes import Change
from .kinds import Changer, Kind
from .looks import Place, Values


def behave(place: Place) -> Values:
    """Do what the input says."""
    way = place.given.read_text()
    if way == "raises":
        raise ZeroDivisionError
    if way == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == "waits":
        time.sleep(60)
    if way == "spins":
        while True:
            pass
    if way == "takes memory":
        return {"value": len(bytearray(1 << 40))}
    if way == "leaves a file":
        (place.out / ".result.partial").write_text("half")
    if way == "changes the source":
        place.given.write_text("other")
    if way == "writes elsewhere":
        (place.root.parent / "elsewhere").write_text("x")
    if way == "writes to a folder outside":
        (place.outside / "x").write_text("x")
    if way == "copies a secret":
        (place.out / "result").write_bytes((place.world / "secret.txt").read_bytes())
    if way == "refuses":
        raise DatasetError("It is damaged.")
    if way == "refuses and leaves its result":
        (place.out / "result").mkdir()
        raise DatasetError("It is damaged.")
    if way == "fails in a thread":
        thread = threading.Thread(target=lambda: 1 // 0)
        thread.start()
        thread.join()
    if way == "prints a traceback":
        _verb(place, "import traceback; traceback.print_exc()")
    if way == "warns of another value":
        warnings.warn("something else", stacklevel=1)
    if "another value" in way:
        return {"value": 2}
    return {"value": 1}


def _verb(place: Place, _: str) -> None:
    """`status` on something that prints a traceback on its way."""
    import smolpilot.training.status as module

    def failing(*_: object, **__: object) -> None:
        print("Traceback (most recent call last):", file=sys.stderr)
        raise DatasetError("It is damaged.")

    module.run_status = failing  # type: ignore[assignment]
    place.verb("status", place.given)


def _say(way: str) -> Changer:
    def change(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
        return Change("bytes", way), way.encode()

    return change


WAYS = {
    "raises": "traceback", "prints a traceback": "traceback", "crashes": "traceback", "waits": "hang", "spins": "hang",
    "takes memory": "hang", "leaves a file": "traceback", "changes the source": "traceback",
    "writes elsewhere": "traceback", "writes to a folder outside": "traceback", "copies a secret": "traceback",
    "refuses and leaves its result": "traceback", "fails in a thread": "traceback", "another value": "silent",
    "warns of another value": "error",
    "refuses": "error", "does well": "right",
}  # fmt: skip
KINDS = [
    Kind(f"way {way}", "secret.txt", ("",), (_say(way),), (behave,), cases=1, entries=False, limits_s=(0.5, 1))
    for way in WAYS
]
