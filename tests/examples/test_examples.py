"""Every script of examples/ runs as a user would run it, small, on a dataset of `smolpilot record`."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smolpilot.cli.main import main

type Script = Callable[..., str]

EXAMPLES = Path(__file__).parents[2] / "examples"
# Where the others are tested.
ELSEWHERE = {
    "own_policy.py": "policies/test_own_policy.py",
    "own_environment.py": "environments/test_own_environment.py",
    "mountain_car.yaml": "environments/test_described.py",
    "kuavo_stages.yaml": "training/stages/test_plan.py",
}
HERE = {"convert.py", "fine_tune.py", "evaluate.py", "control_loop.py", "own_robot.py", "own_robot.yaml"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "dataset"
    assert main(["record", "--out", str(path), "--episodes", "6"]) == 0
    return path


@pytest.fixture(scope="module")
def policy(dataset: Path) -> Path:
    out = dataset.parent / "parent"
    words = "--preset tiny --from-scratch --steps 1 --batch-size 2 --held-out 0.2 --eval-frames 2 --device cpu"
    assert main(["train", "--dataset", str(dataset), "--out", str(out), *words.split()]) == 0
    return out


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs an example with these words behind its name, as `python NAME WORDS` does; what it prints."""

    def as_script(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return as_script


def test_convert(run: Script, dataset: Path, tmp_path: Path) -> None:
    older, newer = tmp_path / "older", tmp_path / "newer"
    assert run("convert.py", dataset, older, "v2.1").startswith(f"{older}: LeRobot v2.1, 6 episodes, ")
    assert "LeRobot v3.0" in run("convert.py", older, newer)
    assert main(["dataset", "compare", str(dataset), str(newer)]) == 0


def test_fine_tune_and_evaluate(run: Script, dataset: Path, policy: Path, tmp_path: Path) -> None:
    said = run("fine_tune.py", dataset, policy, tmp_path / "run", 2)
    best = tmp_path / "run" / "checkpoints" / "best"
    assert said.splitlines()[-1] == f"The best policy so far: {best}"
    said = run("evaluate.py", best, dataset)
    # A tenth of six episodes is one.
    assert re.match(r"\d+ frames, Held-out episode \d ", said)
    assert len(re.findall(r"^\w+: MAE \d\.\d{4} rad, holding still \d\.\d{4}$", said, re.MULTILINE)) == 3


def test_control_loop(run: Script, policy: Path) -> None:
    said = run("control_loop.py", policy, "tabletop", 2).splitlines()
    assert len(said) == 3
    assert said[-1].endswith(" of 2 episodes succeeded")
    # Who holds still touches nothing.
    assert run("control_loop.py", "hold-state", "tabletop", 1).splitlines()[-1] == "0 of 1 episodes succeeded"


def test_own_robot(run: Script, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run("own_robot.py", dataset).splitlines()
    assert [line.partition(":")[0] for line in said] == ["base", "lift", "elbow", "cameras"]
    assert all(" deg, within " in line for line in said[:3])
    assert said[3] == "cameras: all there"
    # Radians that are taken for degrees end near zero.
    assert "elbow" in run("own_robot.py", dataset, EXAMPLES / "own_robot.yaml", "deg")
    assert "elbow: -2.2 to -1.5 deg, BEYOND -149.0 to -6.0" in run(
        "own_robot.py", dataset, EXAMPLES / "own_robot.yaml", "deg"
    )
    assert main(["robot", "profile", "check", str(EXAMPLES / "own_robot.yaml")]) == 0


def test_every_example_is_run_and_short() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names == HERE | set(ELSEWHERE)
    for name, test in ELSEWHERE.items():
        assert name.partition(".")[0] in (EXAMPLES.parent / "tests" / test).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert path.read_text(encoding="utf-8").count("\n") < 60, path.name
