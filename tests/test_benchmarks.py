"""Every benchmark still runs: its imports, also those in functions and in programs that it starts, and its --help."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py"))

# One process for all of them: each would import torch again.
HELP = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv, shown = [script, "--help"], io.StringIO()
    sys.path.insert(0, script.rpartition("/")[0])
    try:
        with contextlib.redirect_stdout(shown):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code and shown.getvalue().startswith("usage:"), (script, end.code, shown.getvalue()[:80])
    else:
        assert "argparse.ArgumentParser(" not in open(script).read(), f"{script} takes no --help"
    sys.path.pop(0)
"""


def programs(text: str) -> Iterator[ast.Module]:
    """A script, and the programs that stand in its texts; what an f-string fills in is a number here."""
    tree = ast.parse(text)
    yield tree
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [] if id(node) in inner else [node]
        said = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in parts)
        if any(isinstance(part, ast.Constant) for part in parts) and "from smolpilot" in said:
            yield ast.parse(said)


def wanted(text: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each import of smolpilot."""
    for tree in programs(text):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "smolpilot":
                yield from ((str(node.module), alias.name) for alias in node.names)


def test_the_programs_in_texts_are_found() -> None:
    text = 'def f():\n    from smolpilot.a import b\nRUN = "from smolpilot.c import d\\n"\n'
    assert list(wanted(text)) == [("smolpilot.a", "b"), ("smolpilot.c", "d")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(script: Path) -> None:
    for module, name in wanted(script.read_text(encoding="utf-8")):
        found = importlib.import_module(module)
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"


def test_every_benchmark_shows_its_help() -> None:
    assert len(SCRIPTS) > 10
    done = subprocess.run(
        [sys.executable, "-c", HELP, *map(str, SCRIPTS)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def realtime(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of benchmarks/realtime.py, by what follows `realtime_`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"realtime{name}")


def test_realtime_jerk_is_that_of_ticks_that_follow_each_other(realtime: Callable[[str], Any]) -> None:
    runs = realtime("_runs")
    cubes = np.arange(8.0) ** 3
    assert runs.rms(runs.jerk(np.arange(8), cubes, 1.0)) == 6.0
    assert runs.rms(runs.jerk(np.arange(8), cubes, 10.0)) == pytest.approx(6000.0)
    found = runs.jerk(np.array([0, 1, 2, 3, 5, 6, 7, 8]), cubes, 1.0)
    assert np.isfinite(found).tolist() == [False] * 3 + [True] + [False] * 3 + [True]
    assert np.isnan(runs.rms(runs.jerk(np.arange(2), cubes[:2], 1.0)))


def test_realtime_finds_why_a_run_was_refused(realtime: Callable[[str], Any]) -> None:
    said = "ok    joints  6\nfail  schedule    async: it would run out before\n        the next one\nwarn  start  no\n"
    assert realtime("_runs").refusal(said) == "fail schedule async: it would run out before the next one"
    assert realtime("_runs").refusal("ok    failures  none\n") is None


def test_realtime_chunks_agree_wherever_they_are_planned(realtime: Callable[[str], Any]) -> None:
    program = realtime("_program")
    first, later = program.plan(0.0, np.arange(6.0)), program.plan(7.5, np.arange(6.0))
    assert first.shape == (program.CHUNK, 6)
    assert np.abs(first[:, 0]).max() == pytest.approx(program.SINE_DEGREES, rel=0.01)
    assert later[:10, 0] == pytest.approx(program.sine(np.arange(7.5, 17.0)))
    assert first[:, 1:].tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0]] * program.CHUNK


def test_realtime_reads_goals_out_of_sync_writes(realtime: Callable[[str], Any]) -> None:
    goal_of = realtime("_bus").goal_of
    # Acceleration, goal, time, speed of servos 1 and 2, from register 41 on; then only the goal; then the torque.
    wide = bytes([41, 7, 1, 0, 0x10, 0x08, 0, 0, 0, 0, 2, 0, 0x34, 0x02, 0, 0, 0, 0])
    assert (goal_of(wide, 1), goal_of(wide, 2), goal_of(wide, 3)) == (0x810, 0x234, None)
    assert goal_of(bytes([42, 2, 5, 0x00, 0x04]), 5) == 0x400
    assert goal_of(bytes([40, 1, 5, 1]), 5) is None


def test_realtime_setup_has_the_scene_and_tells_its_outcome(realtime: Callable[[str], Any], tmp_path: Path) -> None:
    from smolpilot.runtime.setup.robot_setup import RobotSetup

    closed, file = realtime("_closed"), tmp_path / "setup.yaml"
    file.write_text(closed.setup_of(7, tmp_path / "outcomes"), encoding="utf-8")
    setup = RobotSetup.load(str(file))
    assert (setup.driver.options.seed, setup.driver.options.outcomes) == (7, str(tmp_path / "outcomes"))  # type: ignore[attr-defined]
    assert setup.start_pose == {}
    assert closed.outcome_of(tmp_path / "outcomes") is None
    (tmp_path / "outcomes").write_text('{"seed": 7, "success": tr')
    assert closed.outcome_of(tmp_path / "outcomes") is None
    (tmp_path / "outcomes").write_text('{"seed": 7, "success": true}\n{"seed"')
    assert closed.outcome_of(tmp_path / "outcomes") == {"seed": 7, "success": True}


def test_realtime_shows_whatever_was_measured(
    realtime: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    main = realtime("")
    played = {"p50": 0.4, "p95": 0.8, "max": 0.9, "played": 9, "waited": 1, "starved": 2, "chunks": 3, "stop": None}
    jerk = {"sine": 70.0, "planned": 1.0, "commanded": 1.25, "near_seams": 1.3, "elsewhere": 1.2, "bus": 50.0,
            "ticks": 400, "chunks": 9, "held": 3, "stop": "A person stopped it."}  # fmt: skip
    rate = {"successes": 4, "episodes": 5, "interval": [0.28, 0.99]}
    realtime("_tables").show({
        "machine": "here", "load_before": [0.1], "load_after": [1.2],
        "start": {
            "so101-emulated": {"seconds": 1.0, "megabytes": 52.0, "parent_megabytes": 60.0, "stages": {"there": 0.5}},
            "lerobot-rollout": {"failed": "no module", "import_seconds": 9.0, "megabytes": 900.0},
        },
        "cadence": {
            "smolpilot run, --realtime @ 100": main.lateness(np.full(100, 0.0005), 100.0, 1) | {"note": "said once"},
            "LeRobot's loop": main.lateness(np.full(100, 0.0025), 100.0, None),
        },
        "age": {"20 ms, sync": played, "1500 ms, rtc": main.age(realtime("_runs").Result("it would run out"))},
        "jerk": {"100 Hz": jerk},
        "closed": {
            "episodes": 5, "seed": 1, "policy": "run", "engine": "exact", "schedule": "rtc", "run": rate,
            "rollout": rate, "unfinished": {3: "late"},
            "paired": {"both": 3, "only_a": 1, "only_b": 1, "neither": 0, "difference": 0.0, "interval": [-0.5, 0.5],
                       "p": 1.0},
        },
    })  # fmt: skip
    shown = capsys.readouterr().out
    for text in ("memory met, time met", "failed: no module", "lateness met", "80.0 Hz", "refused: it would run out",
                 "goal of 10 % MISSED", "stopped: A person", "both 3, only run 1", "seed 3: late"):  # fmt: skip
        assert text in shown, shown
