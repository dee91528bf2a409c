"""Runs cases in children of a process that has loaded everything: what a case breaks, breaks there.

`python -m fuzz.server WORLD` (with tests/ on PYTHONPATH) reads requests as lines of JSON and answers with results.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HARD_LIMIT_S = 180.0
MEMORY = 3_000_000_000
"""What a case may take beside what is loaded already, in bytes of address space."""


def load() -> None:
    """Import what cases use, once; no thread is started here, so that children may be forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    without = _NoPandas()  # pyarrow would import it at its first array: seconds, in every child
    sys.meta_path.insert(0, without)
    import pyarrow as pa

    pa.array([0])
    sys.meta_path.remove(without)  # torch looks for it, too, and is content with what it finds
    import torch

    for name in _MODULES:
        importlib.import_module(name)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # children share these pages for good


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


_MODULES = (
    "av", "pyarrow.parquet", "PIL.Image", "tyro", "rich.console", "rich.markup", "jinja2", "yaml", "xxhash", "psutil",
    "smolpilot.cli.main", "smolpilot.cli.parsing.options", "smolpilot.cli.dataset.info",
    "smolpilot.cli.dataset.check", "smolpilot.cli.dataset.convert", "smolpilot.cli.dataset.repair",
    "smolpilot.cli.dataset.view",
    "smolpilot.cli.train", "smolpilot.cli.status", "smolpilot.cli.robot", "smolpilot.cli.bundle",
    "smolpilot.datasets.read.reader",
    "smolpilot.datasets.write.writer", "smolpilot.datasets.check", "smolpilot.datasets.check.page",
    "smolpilot.datasets.repair",
    "smolpilot.datasets.copy", "smolpilot.datasets.edit", "smolpilot.datasets.view", "smolpilot.datasets.summary",
    "smolpilot.datasets.compare", "smolpilot.inference.example_frame",
    "smolpilot.smolvla.loading", "smolpilot.smolvla.summary",
    "smolpilot.robots", "smolpilot.training.options.train_options", "smolpilot.training.status",
    "smolpilot.training.stages.plan",
    "smolpilot.training.run.run", "smolpilot.training.stages.sequence",
    "smolpilot.cli.dataset.compare", "smolpilot.cli.dataset.tasks", "smolpilot.cli.dataset.stats",
    "smolpilot.cli.dataset.split", "smolpilot.cli.dataset.exclude", "smolpilot.datasets.convert",
    "smolpilot.datasets.statistics.recompute", "pydantic.dataclasses", "typeguard", "numpy.random",
    "av.subtitles.stream",
    "importlib.resources.readers", "fuzz.case", "fuzz.kinds", "fuzz.ways",
)  # fmt: skip


def in_child(work: Any, limit_s: float) -> Iterator[dict[str, Any]]:
    """Run `work(write)` in a forked child and yield what it writes; the last item says how it ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        code = 1
        try:
            with os.fdopen(writer, "w") as pipe:
                work(lambda item: (pipe.write(json.dumps(item) + "\n"), pipe.flush()))
            code = 0
        except BaseException as error:
            import traceback

            traceback.print_exc()
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    buffer, why = b"", ""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], limit_s)
            if not ready:
                os.kill(pid, signal.SIGKILL)
                why = f"over {limit_s:.0f} s"
                break
            block = pipe.read(1 << 16)
            if not block:
                break
            *lines, buffer = (buffer + block).split(b"\n")
            yield from map(json.loads, lines)
    _, status = os.waitpid(pid, 0)
    yield {"ended": why or ("" if status == 0 else f"status {status} (signal {status & 0x7F})")}


def _limits(log: Path) -> None:
    """Within the child: memory, no core, no waiting for the disk, messages of libraries aside."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.fsync = lambda fd: None
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, 2)
    faulthandler.enable()


def cases(
    world: Path, name: str, seeds: list[int], until: float, keep: Path | None, deep: bool
) -> Iterator[dict[str, Any]]:
    """The results of these seeds; a child that dies costs its case, and the next goes on."""
    from .case import Result, run_case, sound_values
    from .kinds import kind_of

    kind, waiting, log = kind_of(name), list(seeds), world / f"log-{os.getpid()}"
    log.unlink(missing_ok=True)
    while waiting:

        def work(write: Any) -> None:
            _limits(log)
            sound = sound_values(kind, world, deep=deep)
            for seed in list(waiting):
                if until and time.time() > until:
                    return
                write({"begin": seed})
                write(run_case(kind, seed, world, sound, keep, deep=deep).to_json())

        begun, ended = None, ""
        for item in in_child(work, HARD_LIMIT_S):
            if "begin" in item:
                begun = item["begin"]
            elif "ended" in item:
                ended = item["ended"]
            else:
                waiting.remove(item["seed"])
                begun = None
                yield item
        if not ended:
            return
        said = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        if begun is None:
            yield {"broken": f"{name}: the unchanged input: {ended}: {said[-400:]}"}
            return
        waiting.remove(begun)
        outcome = "hang" if ended.startswith("over") else "traceback"
        yield Result(name, begun, "?", "?", "?", outcome, True, "process", f"{ended}: {said}").to_json()


def prepare(world: Path) -> None:
    """Build the sound inputs, in a child, unless another process has done so."""
    import fcntl

    world.parent.mkdir(parents=True, exist_ok=True)
    with (world.parent / f"{world.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (world / "cases").is_dir():
            return

        def work(write: Any) -> None:
            os.fsync = lambda fd: None
            from .world import build

            build(world)
            (world / "sound").mkdir()
            (world / "cases").mkdir()

        for item in in_child(work, 600):
            if item.get("ended"):
                raise SystemExit(f"the sound inputs cannot be built: {item['ended']}")


def main() -> None:
    """Answer requests until the input ends."""
    world = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["MPLCONFIGDIR"] = str(world.parent / "matplotlib")  # which it makes in the home folder otherwise
    load()
    prepare(world)
    for line in sys.stdin:
        request = json.loads(line)
        keep = Path(request["keep"]) if request.get("keep") else None
        for result in cases(world, request["kind"], request["seeds"], request.get("until") or 0, keep, request["deep"]):
            print(json.dumps(result), file=answers, flush=True)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
        cpu = sum(one.ru_utime + one.ru_stime for one in used)
        print(json.dumps({"done": request["kind"], "cpu": cpu}), file=answers, flush=True)


if __name__ == "__main__":
    main()
