"""Runs of `smolpilot run` for realtime.py: started as a person would, and read from the folders that they leave."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import realtime_program as program

from smolpilot.contracts.run_folder import EPISODES, LOG, RUN, EpisodeEnd, read_episodes
from smolpilot.contracts.run_log import RunLog, read_run_log

type Floats = npt.NDArray[np.float64]

_ENDING_S = 60.0
# One thread for each matrix product: the threads of `busy` are counted.
THREADS = dict.fromkeys(("OMP_NUMTHREADS", "OPENBLAS_NUMTHREADS", "MKL_NUMTHREADS"), "1")


@dataclass
class Started:
    """A run that goes on. begun: when it was started, seconds on the monotonic clock."""

    process: subprocess.Popen[bytes]
    out: Path
    begun: float

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.out.with_suffix(".said").read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(_ENDING_S + 600)


@contextlib.contextmanager
def started(out: Path, policy: str, *words: str, robot: str = "so101-emulated", **environ: str) -> Iterator[Started]:
    """`smolpilot run POLICY --robot ROBOT --go --unattended ...`; ended with the block, whatever happens."""
    arguments = ["run", policy, "--robot", robot, "--go", "--unattended", "--start-pose", "here", "--out", str(out)]
    with out.with_suffix(".said").open("wb") as said:
        begun = time.monotonic()
        process = subprocess.Popen(
            program.command("run()", *arguments, *words), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, **THREADS, **environ},
        )  # fmt: skip
        try:
            yield Started(process, out, begun)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(_ENDING_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@dataclass
class Result:
    """What a run left; `refused` where nothing moved: why. stop: why the arm was stopped, where it was."""

    refused: str | None
    log: RunLog | None = None
    episode: EpisodeEnd | None = None
    late: Floats = field(default_factory=lambda: np.zeros(0))
    missed: int = 0

    @property
    def stop(self) -> str | None:
        return None if self.episode is None else self.episode.stop


def result_of(one: Started, late: Path | None = None) -> Result:
    """Wait for the end of a run, and read what it left."""
    code = one.wait()
    if not (one.out / EPISODES).is_file():
        return Result(refusal(one.said) or f"exit code {code}: {one.said.strip()[-300:]}")
    episodes = read_episodes(one.out)
    found = Result(None, read_run_log(one.out / LOG), episodes[0])
    if late is not None and late.is_file():
        values = json.loads(late.read_text(encoding="utf-8"))
        found.late, found.missed = np.array(values["late"], dtype=np.float64), int(values["missed"])
    return found


def refusal(said: str) -> str | None:
    """The failed lines of a preflight in what a run has printed; None without one."""
    lines = said.splitlines()
    found = []
    for at, line in enumerate(lines):
        if re.match(r"\s*fail\b", line, re.IGNORECASE):
            rest = [line]
            for more in lines[at + 1 :]:
                if not more.startswith("   "):
                    break
                rest.append(more)
            found.append(re.sub(r"\s+", " ", " ".join(rest)).strip())
    return "; ".join(found) or None


def peak_megabytes(process: int) -> float | None:
    """The most memory that a process has had resident (VmHWM), in MB; None where it is gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        if found := re.search(r"VmHWM:\s+(\d+) kB", text):
            return int(found[1]) / 1024
    return None


def control_process(out: Path) -> int | None:
    """The number of a run's control process; None before it has opened everything."""
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads((out / RUN).read_text(encoding="utf-8"))["process"])
    return None


_STAGES = {"imported": "opening ", "policy there": "; connecting to", "arm there": "computing "}
"""What a run says -> what it has done by then."""


def start_of_control(out: Path, robot: str) -> dict[str, Any]:
    """Seconds from exec to the first tick, and the most memory of control process and its parent, in MB."""
    with started(out, "free", "--seconds", "1", robot=robot) as one:
        begun = one.begun
        control: float | None = None
        parent: float | None = None
        seen: dict[str, float] = {}
        while one.process.poll() is None:
            for stage, words in _STAGES.items():
                if stage not in seen and words in one.said:
                    seen[stage] = time.monotonic() - begun
            number = control_process(out)
            if number is not None and (found_now := peak_megabytes(number)) is not None:
                control, parent = found_now, peak_megabytes(one.process.pid) or parent
            if (out / EPISODES).is_file():
                one.process.terminate()  # else a setup with a start pose is parked first
            time.sleep(0.02)
        found = result_of(one)
    if found.log is None:
        return {"failed": found.refused}
    first = found.log.ticks[0].sent.sent_at
    return {
        "seconds": first - one.begun,
        "stages": seen,
        "megabytes": control,
        "parent_megabytes": parent,
    }


def quantiles(values: Floats, *shares: float) -> list[float]:
    """Quantiles; NaN where there is nothing."""
    return [float(np.quantile(values, share)) if len(values) else float("nan") for share in shares]


def jerk(numbers: npt.NDArray[np.int64], values: Floats, rate: float) -> Floats:
    """Third differences [T] of values at ticks of that rate, per s³; NaN where one of the four ticks was left out."""
    found = np.full(len(values), np.nan)
    if len(values) > 3:
        whole = numbers[3:] - numbers[:-3] == 3
        found[3:] = np.where(whole, np.diff(values, 3) * rate**3, np.nan)
    return found


def rms(values: Floats) -> float:
    """Root of the mean square, of what is no NaN."""
    kept = values[~np.isnan(values)]
    return float(np.sqrt(np.mean(kept**2))) if len(kept) else float("nan")
