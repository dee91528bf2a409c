"""Runs simulators in an interpreter that has no smolpilot, and perhaps other versions of everything.

    PYTHON worker.py

Requests come on stdin and answers leave on stdout; what a simulation prints goes to stderr. A message is 8 bytes (two
little-endian numbers of 32 bits: the length of the header and of the arrays), a JSON object, and the arrays' raw bytes
one after the other; their names, dtypes and shapes stand in the header as `arrays`. The first answer, unasked, says
which protocol and interpreter it is. Every other answer belongs to the request before it, and holds `failed` (what went
wrong and what to do, as the user is to read it) or `crashed` (an exception of the simulation) where it was not done.

Imports the standard library and numpy; the simulators beside this file are loaded by name, and import their simulation.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import struct
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

PROTOCOL = 1
_SIZES = struct.Struct("<II")
NOISE_MEMORY = 0.8  # share of a push that is left one step later
_MOST = 1 << 30  # bytes of one message: anything longer is no message of ours

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class Readable(Protocol):
    """What messages come from: a pipe, or one with a deadline."""

    def read(self, size: int, /) -> bytes: ...


class Disconnected(Exception):  # noqa: N818
    """The other side is gone, or what it sends is no message."""


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays = {}) -> None:  # noqa: B006 - never changed
    """Write a message."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = [{"name": name, "dtype": array.dtype.str, "shape": array.shape} for name, array in whole.items()]
    text = json.dumps({**header, "arrays": about}).encode()
    stream.write(_SIZES.pack(len(text), sum(array.nbytes for array in whole.values())) + text)
    for array in whole.values():
        stream.write(memoryview(array).cast("B") if array.size else b"")
    stream.flush()


def receive(stream: Readable) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a message: the header and the arrays by name. Disconnected at the end of the stream and for other bytes."""
    header_size, array_size = _SIZES.unpack(_exactly(stream, _SIZES.size))
    if header_size > _MOST or array_size > _MOST:
        raise Disconnected(f"a message of {header_size} and {array_size} bytes")
    try:
        header = json.loads(_exactly(stream, header_size))
        # What comes out of it belongs to the caller, who may write into it.
        content, arrays, begin = bytearray(_exactly(stream, array_size)), {}, 0
        for about in header.pop("arrays"):
            dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
            if dtype.hasobject or min(shape, default=0) < 0:
                raise Disconnected(f"an array of dtype {dtype} and shape {shape}")
            count = int(np.prod(shape, dtype=np.int64))
            arrays[about["name"]] = np.frombuffer(content, dtype, count, begin).reshape(shape)
            begin += count * dtype.itemsize
    except (ValueError, KeyError, TypeError) as error:
        raise Disconnected(f"a message that cannot be read: {error}") from error
    return header, arrays


def _exactly(stream: Readable, size: int) -> bytes:
    blocks: list[bytes] = []  # joined at the end: a pipe gives 64 kB at a time, of messages of many MB
    left = size
    while left > 0:
        block = stream.read(left)
        if not block:
            raise Disconnected("the stream has ended")
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


class Server:
    """Simulations by slot, and the operations on them. Also runs within smolpilot, for environments of its own."""

    def __init__(self, make: Any) -> None:
        """make: (name, settings) -> a simulation."""
        self._make = make
        self._simulations: dict[int, Any] = {}

    def answer(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """Do what a request asks for."""
        try:
            answer: tuple[dict[str, Any], dict[str, Any]] = getattr(self, f"_do_{header['op']}")(header, arrays)
            return answer
        except ValueError as error:
            if len(error.args) == 3 and all(isinstance(part, str) for part in error.args):
                return {"failed": error.args}, {}
            return {"crashed": _told(error)}, {}
        except Exception as error:
            return {"crashed": _told(error)}, {}

    def close(self) -> None:
        """Close every simulation."""
        for simulation in self._simulations.values():
            simulation.close()
        self._simulations.clear()

    def _do_make(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        simulation = self._make(header["name"], header["settings"])
        self._simulations[header["slot"]] = simulation
        return {"facts": simulation.facts}, {}

    def _do_reset(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        simulation = self._simulations[header["slot"]]
        more = {"instruction": header["instruction"]} if header.get("instruction") is not None else {}
        info = simulation.reset(header["seed"], **more)
        return {"info": info}, self._seen(simulation, header)

    def _do_replay(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode that was recorded: its actions and states, and what is seen now."""
        simulation = self._simulations[header["slot"]]
        info, recorded = simulation.begin_recorded(header["number"])
        return {"info": info}, self._seen(simulation, header) | recorded

    def _do_compare(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """Replay a recorded episode, with actions of one's own if there are any, and how far it is from the record."""
        return {"found": self._simulations[header["slot"]].replay(header["number"], arrays.get("actions"))}, {}

    def _do_act(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """Up to len(actions) steps; the observation after the last one, and the views for people on the way."""
        simulation = self._simulations[header["slot"]]
        images, shown = header.get("images", "always"), header.get("frames", False)
        steps, outcome, frames = run(simulation, arrays["actions"], frames=shown, images=images)
        seen = self._seen(simulation, header, ended=outcome is not None)
        return {"steps": steps, "outcome": outcome}, seen | ({"frames": np.stack(frames)} if frames else {})

    def _do_show(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """Execute actions, and answer what is seen before each of them: states [k, S], images [k, h, w, 3]."""
        simulation, outcome, seen = self._simulations[header["slot"]], None, []
        for action in arrays["actions"]:
            seen.append(self._seen(simulation, header))
            outcome = simulation.act(action)
            if outcome is not None:
                break
        return {"outcome": outcome}, {name: np.stack([one[name] for one in seen]) for name in seen[0]}

    def _do_demonstrate(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """A whole episode of the expert, without any image."""
        simulation = self._simulations[header["slot"]]
        info, steps, outcome = demonstrate(
            simulation, header["seed"], header.get("instruction"), **header.get("expert", {})
        )
        return {"info": info, "outcome": outcome, "steps": steps}, {}

    def _do_perform(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """A whole episode of the expert, without any image: its actions, and what was executed, noise included."""
        simulation, outcome = self._simulations[header["slot"]], None
        simulation.reset(header["seed"])
        expert = simulation.expert(**header.get("expert", {}))
        noise, rng = header.get("noise", 0.0), np.random.default_rng([header["seed"], 1])
        scale, push = np.asarray(getattr(simulation, "NOISE", 1.0)), 0.0
        clean, executed = [], []
        while outcome is None:
            action = np.asarray(expert.action(), np.float32)
            push = NOISE_MEMORY * push + noise * scale * rng.normal(size=action.shape)
            clean.append(action)
            executed.append(np.asarray(action + push, np.float32))
            outcome = simulation.act(executed[-1])
        found = {"actions": np.stack(clean), "executed": np.stack(executed)}
        return {"outcome": outcome, "steps": len(clean)}, found

    def _do_render(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"frame": self._simulations[header["slot"]].render()}

    def _do_pose(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is seen with the joints at each of the states [k, S]."""
        simulation = self._simulations[header["slot"]]
        frames = []
        for state in arrays["states"]:
            simulation.pose(state)
            frames.append(simulation.render())
        return {}, {"frames": np.stack(frames)}

    def _do_close(self, header: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
        if (simulation := self._simulations.pop(header["slot"], None)) is not None:  # to close it twice is no error
            simulation.close()
        return {}, {}

    def _seen(self, simulation: Any, header: Mapping[str, Any], ended: bool = False) -> dict[str, Any]:
        state, images = simulation.observe(images=draws(header.get("images", "always"), ended))
        return {"state": state, **{f"images.{camera}": image for camera, image in images.items()}}


def run(simulation: Any, actions: Any, *, frames: bool, images: str = "always") -> tuple[int, Any, list[Any]]:
    """Actions [k, A] until the episode ends: how many were executed, how it ended, a view after each if asked for.

    images: what will be observed then, for a simulation that has `run` itself, as those of `environments.host` may.
    """
    if hasattr(simulation, "run"):
        own: tuple[int, Any, list[Any]] = simulation.run(actions, images=images, frames=frames)
        return own
    steps, outcome, shown = 0, None, []
    for action in actions:
        outcome = simulation.act(action)
        steps += 1
        if frames:
            shown.append(simulation.render())
        if outcome is not None:
            break
    return steps, outcome, shown


def demonstrate(simulation: Any, seed: int, instruction: str | None, **expert: Any) -> tuple[Any, int, Any]:
    """An episode of the simulation's expert: how it began, its steps, and how it ended. Nothing is drawn."""
    more = {} if instruction is None else {"instruction": instruction}
    if hasattr(simulation, "demonstrate"):
        own: tuple[Any, int, Any] = simulation.demonstrate(seed, **more)
        return own
    info, outcome, steps = simulation.reset(seed, **more), None, 0
    player = simulation.expert(**expert)
    while outcome is None:
        outcome = simulation.act(player.action())
        steps += 1
    return info, steps, outcome


def draws(images: str, ended: bool) -> bool:
    """Whether images are drawn: `always`, `running` (not after the end, where nobody plans) or `never`."""
    return images == "always" or (images == "running" and not ended)


def _told(error: BaseException) -> str:
    """One line of what was raised, and where in the simulation."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def load(name: str, settings: Mapping[str, Any]) -> Any:
    """The simulation of the file or folder beside this one that has the name."""
    here = Path(__file__).parent
    if not (name.isidentifier() and ((here / f"{name}.py").is_file() or (here / name / "__init__.py").is_file())):
        raise ValueError(f"There is no simulator {name!r}.", "a file beside worker.py", "")
    # A package of what lies here, under a name of its own: none of it is on the path, and files may import each other.
    beside = sys.modules.setdefault(_BESIDE, types.ModuleType(_BESIDE))
    beside.__path__ = [str(here)]
    module = None
    try:
        module = importlib.import_module(f"{_BESIDE}.{name}")
        return module.SIMULATION(**settings)
    except ImportError as error:
        raise ValueError(
            f"The environment {name} cannot be imported in {sys.executable}: {error}.",
            f"an interpreter with {module.NEEDS if module is not None else name}",
            f"smolpilot env install {name} DIR makes one; give it as --env-python DIR",
        ) from error


_BESIDE = "beside_worker"


def serve(make: Any) -> None:
    """Answer requests until stdin ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a simulation that asks a question gets the end of the file
    os.dup2(2, 1)
    server = Server(make)
    about = {"python": platform.python_version(), "executable": sys.executable, "pid": os.getpid()}
    send(answers, {"protocol": PROTOCOL, **about})
    try:
        while True:
            header, arrays = receive(requests)
            send(answers, *server.answer(header, arrays))
    except (Disconnected, BrokenPipeError):
        server.close()


if __name__ == "__main__":
    # By name, `metaworld` and `libero` are the packages, and not the files beside this one.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]
    serve(load)
