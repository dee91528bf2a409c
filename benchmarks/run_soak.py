"""An hour of `smolpilot run` on the emulated arm: do memory, descriptors or cadence change? Exit code 1 where they do.

    uv run python benchmarks/run_soak.py POLICY [--minutes 60] [--robot tabletop-emulated] [--instruction TEXT] [...]

What follows goes to `smolpilot run` as it is. The control, policy and camera processes are looked at every ten seconds;
printed is each one's resident memory and number of open descriptors in the first tenth of the time and in the last, and
the loop's lateness in the first and the last tenth of its log.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from startup import machine

from smolpilot.contracts.run_folder import LOG, RUN, read_episodes, read_facts
from smolpilot.contracts.run_log import read_run_log

_EVERY_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--robot", default="tabletop-emulated")
    arguments, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        words = ["run", arguments.policy, "--robot", arguments.robot, "--go", "--unattended", "--log-only",
                 "--seconds", str(60 * arguments.minutes), "--out", str(out), *more]  # fmt: skip
        process = subprocess.Popen([sys.executable, "-m", "smolpilot", *words], stdin=subprocess.DEVNULL)
        try:
            seen = _watch(process, out)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        print(machine())
        grows = _print(seen)
        _print_log(out)
    return max(code, int(grows))


def _watch(process: subprocess.Popen[bytes], out: Path) -> dict[str, list[tuple[float, float, int]]]:
    """Process -> (seconds, MB, descriptors), every ten seconds, while the run goes on."""
    seen: dict[str, list[tuple[float, float, int]]] = {}
    begun = time.monotonic()
    while process.poll() is None:
        if (out / RUN).is_file():
            for name, number in read_facts(out).processes.items():
                try:
                    one = psutil.Process(number)
                    told = (time.monotonic() - begun, one.memory_info().rss / 2**20, one.num_fds())
                except psutil.Error:
                    continue
                seen.setdefault(name, []).append(told)
        time.sleep(_EVERY_S)
    return seen


def _print(seen: dict[str, list[tuple[float, float, int]]]) -> bool:
    """Whether a process has grown by more than a tenth, or opens ever more."""
    grows = False
    print(f"{'process':10} {'MB first':>9} {'MB last':>9} {'fds first':>10} {'fds last':>9}")
    for name, told in seen.items():
        tenth = max(1, len(told) // 10)
        # The very first look is at a process that still starts.
        first, last = np.array(told[1 : tenth + 2] or told), np.array(told[-tenth:])
        (_, mb, fds), (_, mb_last, fds_last) = np.median(first, axis=0), np.median(last, axis=0)
        grows |= bool(mb_last > 1.1 * mb or fds_last > fds)
        print(f"{name:10} {mb:9.1f} {mb_last:9.1f} {fds:10.0f} {fds_last:9.0f}")
    return grows


def _print_log(out: Path) -> None:
    facts, log = read_facts(out), read_run_log(out / LOG)
    ticks = [tick for tick in log.ticks if tick.source in ("policy", "hold")]
    numbers = np.array([tick.number for tick in ticks])
    late = np.array([tick.sent.sent_at for tick in ticks]) - numbers / facts.rate
    tenth = max(1, len(late) // 10)
    values: dict[str, Any] = {"ticks": len(ticks), "missed": int(numbers[-1] - numbers[0] + 1 - len(numbers))}
    for name, part in (("first", late[:tenth]), ("last", late[-tenth:])):
        late_ms = 1e3 * (part - part.min())
        told = (*np.quantile(late_ms, (0.5, 0.99)), late_ms.max())
        values[f"late p50, p99, max ms, {name} tenth"] = [round(float(v), 2) for v in told]
    values["log MB"] = round((out / LOG).stat().st_size / 2**20, 1)
    values["ended"], values["stops"] = facts.ended, [end.stop for end in read_episodes(out) if end.stop]
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    sys.exit(main())
