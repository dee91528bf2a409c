"""From a test or a script: start the server, ask for cases, get results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


class Server:
    """A process with everything loaded, see `server`."""

    def __init__(self, world: Path) -> None:
        paths = [str(TESTS), *(path for path in sys.path if path)]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore", "COLUMNS": "100",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.server", str(world)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.cpu = 0.0

    def cases(
        self, kind: str, seeds: Sequence[int], *, until: float = 0.0, keep: str | None = None, deep: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The result of each seed; until: the time at which no further case is begun; deep: with the slow looks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"kind": kind, "seeds": list(seeds), "until": until, "keep": keep, "deep": deep}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        broken = ""
        for line in self._process.stdout:
            answer = json.loads(line)
            if "done" in answer:
                self.cpu = answer["cpu"]
                if broken:
                    raise RuntimeError(broken)
                return
            if "broken" in answer:
                broken = answer["broken"]
            else:
                yield answer
        raise RuntimeError("the fuzz server ended")

    def close(self) -> None:
        """End the process."""
        with self._process:  # which closes both pipes
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(60)
