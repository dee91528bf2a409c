"""A simulator in a process of its own: what is said over the pipes, and what becomes of one that breaks."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smolpilot.common.errors import SimulationError, UsageError
from smolpilot.environments.simulators import worker
from smolpilot.environments.simulators.worker import Disconnected, receive, send
from smolpilot.environments.worker_process import WORKER, WorkerProcess, interpreter

SIMULATOR = '''
import os, sys, time
import numpy as np

NEEDS = "nothing"
print("a word on stdout while loading")


class SIMULATION:
    """Counts; the state is what was summed up."""

    def __init__(self, length=3, missing=False):
        if missing:
            import no_such_simulation
        if length < 1:
            raise ValueError(f"Setting 'length' is {length}.", "at least 1", "give a larger one")
        self.length, self.sum, self.steps = length, 0.0, 0
        self.facts = {"rate": 10.0, "max_steps": length, "executable": sys.executable,
                      "smolpilot": any(name.startswith("smolpilot") for name in sys.modules)}

    def reset(self, seed):
        self.sum, self.steps = float(seed), 0
        return {"groups": {"parity": "even" if seed % 2 == 0 else "odd"}}

    def act(self, action):
        value = float(action[0])
        if value == 100:
            raise RuntimeError("the physics exploded")
        if value == 200:
            print("going down", file=sys.stderr, flush=True)
            os._exit(7)
        if value == 300:
            time.sleep(60)
        if value == 400:
            input("continue? ")
        print("a word on stdout")
        self.sum, self.steps = self.sum + value, self.steps + 1
        if self.steps < self.length:
            return None
        return {"success": self.sum > 10, "label": "end", "facts": {"sum": self.sum}}

    def observe(self, *, images=True):
        image = np.full((4, 6, 3), int(self.sum) % 256, np.uint8)
        return np.array([self.sum], np.float32), {"top": image} if images else {}

    def render(self):
        return np.full((2, 2, 3), self.steps, np.uint8)

    def close(self):
        print("closed", file=sys.stderr)
'''


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers beside whose file the counting simulator lies."""
    shutil.copy(WORKER, tmp_path)
    (tmp_path / "counting.py").write_text(SIMULATOR)
    (tmp_path / "broken.py").write_text("import no_such_simulation\nNEEDS = 'x'\n")
    made: list[WorkerProcess] = []

    def one(python: str = sys.executable, **settings: Any) -> WorkerProcess:
        made.append(WorkerProcess([python, str(tmp_path / "worker.py")], "counting"))
        if settings or not made[1:]:
            made[-1].ask("make", slot=0, name="counting", settings=settings)
        return made[-1]

    yield one
    for process in made:
        process.close()


def act(process: WorkerProcess, *values: float, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return process.ask("act", {"actions": np.array(values)[:, None]}, slot=0, **fields)


def test_an_episode(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    header, arrays = process.ask("reset", slot=0, seed=4)
    assert header["info"] == {"groups": {"parity": "even"}}
    assert arrays["state"].tolist() == [4.0]
    assert arrays["images.top"].shape == (4, 6, 3)
    header, arrays = act(process, 1, 2, images="never")
    assert (header["steps"], header["outcome"]) == (2, None)
    assert arrays["state"].tolist() == [7.0]
    assert set(arrays) == {"state"}  # no image was drawn
    header, arrays = act(process, 5, 6, 7, frames=True, images="running")
    assert header["steps"] == 1  # what comes after the end is not executed
    assert header["outcome"] == {"success": True, "label": "end", "facts": {"sum": 12.0}}
    assert arrays["frames"].shape == (1, 2, 2, 3)
    assert set(arrays) == {"state", "frames"}  # nobody plans after the end


def test_slots_are_apart(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.ask("make", slot=1, name="counting", settings={"length": 9})
    process.ask("reset", slot=0, seed=1)
    process.ask("reset", slot=1, seed=50)
    act(process, 1)
    assert process.ask("act", {"actions": np.array([[2.0]])}, slot=1)[1]["state"].tolist() == [52.0]
    process.ask("close", slot=1)
    assert act(process, 1)[1]["state"].tolist() == [3.0]


def test_what_the_user_can_put_right(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    with pytest.raises(UsageError, match="Setting 'length' is 0") as caught:
        process.ask("make", slot=1, name="counting", settings={"length": 0})
    assert (caught.value.expected, caught.value.fix) == ("at least 1", "give a larger one")
    with pytest.raises(UsageError, match=r"cannot be imported in .*no_such_simulation") as caught:
        process.ask("make", slot=1, name="counting", settings={"missing": True})
    assert "smolpilot env install counting" in caught.value.fix
    with pytest.raises(UsageError, match=r"There is no simulator '\.\./worker'"):
        process.ask("make", slot=1, name="../worker", settings={})


def test_a_simulation_that_raises_goes_on(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.ask("reset", slot=0, seed=0)
    with pytest.raises(SimulationError, match=r"RuntimeError: the physics exploded \(counting.py, line \d+\)"):
        act(process, 100)
    process.ask("reset", slot=0, seed=3)
    assert act(process, 1)[1]["state"].tolist() == [4.0]


def test_a_process_that_dies_says_its_last_words(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.ask("reset", slot=0, seed=0)
    with pytest.raises(SimulationError, match=r"has ended \(exit code 7\)\. Its last words: going down"):
        act(process, 200)
    with pytest.raises(SimulationError, match="has ended"):
        act(process, 1)


def test_a_process_that_hangs_is_ended(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.ask("reset", slot=0, seed=0)
    process.put("act", {"actions": np.array([[300.0]])}, slot=0)
    begin = time.monotonic()
    with pytest.raises(SimulationError, match="has not answered for 0 s, and was ended"):
        process.take(0.3)
    assert time.monotonic() - begin < 10
    with pytest.raises(SimulationError, match="has ended"):
        process.ask("reset", slot=0, seed=0)


def test_a_simulation_that_asks_gets_no_answer(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.ask("reset", slot=0, seed=0)
    with pytest.raises(SimulationError, match="EOFError"):
        act(process, 400)


def test_an_interpreter_with_numpy_and_gymnasium_alone(start: Callable[..., WorkerProcess], tmp_path: Path) -> None:
    """Nothing of smolpilot is imported there, and nothing of it could be."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here, there = Path(sysconfig.get_path("purelib")), next(folder.glob("lib/python*/site-packages"))
    for name in ("numpy", "numpy.libs", "gymnasium", "farama_notifications", "cloudpickle", "typing_extensions.py"):
        if (here / name).exists():
            (there / name).symlink_to(here / name)
    python = str(interpreter(folder))
    assert subprocess.run([python, "-c", "import smolpilot"], capture_output=True, check=False).returncode == 1
    assert subprocess.run([python, "-c", "import gymnasium"], capture_output=True, check=False).returncode == 0
    process = start(python, length=2)
    assert process.about["executable"] == python
    header, _ = process.ask("make", slot=1, name="counting", settings={})
    assert (header["facts"]["executable"], header["facts"]["smolpilot"]) == (python, False)
    process.ask("reset", slot=0, seed=4)
    assert act(process, 1, 2)[0]["outcome"]["facts"] == {"sum": 7.0}


def test_the_simulators_import_nothing_of_smolpilot() -> None:
    above = ("from .", "from ..")  # of a file beside the worker, of one in a folder there: beyond that nothing is found
    for path in WORKER.parent.rglob("*.py"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert not [line for line in lines if line.startswith(("import smolpilot", "from smolpilot"))], path
        beyond = above[path.parent != WORKER.parent] + "."
        assert not [line for line in lines if line.startswith(beyond)], path


def test_what_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no Python interpreter at"):
        interpreter(tmp_path)
    assert interpreter(Path(sys.executable)) == Path(sys.executable)
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no; exit 3\n")
    script.chmod(0o755)
    with pytest.raises(UsageError, match=r"does not start: .*The process .* has ended"):
        WorkerProcess.of("counting", script)


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER.read_text().replace("PROTOCOL = 1", "PROTOCOL = 2"))
    with pytest.raises(UsageError, match="speaks protocol 2") as caught:
        WorkerProcess([sys.executable, str(tmp_path / "worker.py")], "counting")
    assert caught.value.expected == "protocol 1"


def test_closing_twice_is_quiet(start: Callable[..., WorkerProcess]) -> None:
    process = start()
    process.close()
    process.close()
    with pytest.raises(SimulationError, match="has ended"):
        process.ask("reset", slot=0, seed=0)


# The bytes


def test_a_message_comes_back_as_it_was() -> None:
    arrays: dict[str, Any] = {
        "state": np.arange(6, dtype=np.float32).reshape(2, 3),
        "image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1],  # not contiguous
        "nothing": np.zeros((0, 3), np.int64),
        "one": np.array(2.5),
    }
    stream = io.BytesIO()
    send(stream, {"op": "x", "text": "ä\n"}, arrays)
    send(stream, {"op": "y"})
    stream.seek(0)
    header, found = receive(stream)
    assert header == {"op": "x", "text": "ä\n"}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert receive(stream) == ({"op": "y"}, {})
    with pytest.raises(Disconnected, match="has ended"):
        receive(stream)


def test_a_message_may_come_in_small_pieces() -> None:
    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(7, size or 0))

    stream = io.BytesIO()
    send(stream, {"op": "act"}, {"actions": np.arange(1000.0)})
    header, arrays = receive(Dribble(stream.getvalue()))
    assert header == {"op": "act"}
    np.testing.assert_array_equal(arrays["actions"], np.arange(1000.0))


def test_every_cut_is_told() -> None:
    stream = io.BytesIO()
    send(stream, {"op": "x"}, {"state": np.arange(3.0)})
    whole = stream.getvalue()
    for length in range(len(whole)):
        with pytest.raises(Disconnected, match="has ended"):
            receive(io.BytesIO(whole[:length]))


def message(header: dict[str, Any]) -> bytes:
    """A header without the arrays that it tells of."""
    text = json.dumps(header).encode()
    return worker._SIZES.pack(len(text), 0) + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Traceback (most recent call last):", "a message of .* bytes"),
        (worker._SIZES.pack(2, 0) + b"{}", "cannot be read"),
        (worker._SIZES.pack(2, 0) + b"[]", "cannot be read"),
        (worker._SIZES.pack(3, 0) + b"\xff{}", "cannot be read"),
        (message({"arrays": [{"name": "a", "dtype": "|O", "shape": [1]}]}), "an array of dtype object"),
        (message({"arrays": [{"name": "a", "dtype": "<f8", "shape": [9]}]}), "cannot be read"),
        (message({"arrays": [{"name": "a", "dtype": "<f8", "shape": [-1]}]}), "shape .-1"),
    ],
)  # fmt: skip
def test_other_bytes_are_no_message(content: bytes, words: str) -> None:
    with pytest.raises(Disconnected, match=words):
        receive(io.BytesIO(content))


def test_a_worker_ends_with_its_parent() -> None:
    """Its requests end: no process is left behind by a smolpilot that was killed."""
    process = WorkerProcess.of("pusht")
    pid = process.about["pid"]
    assert process._process.stdin is not None
    process._process.stdin.close()
    assert process._process.wait(20) == 0
    assert not Path(f"/proc/{pid}").exists()
    process.close()
