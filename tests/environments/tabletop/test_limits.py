"""The tabletop: what is refused, and how often a demonstration may miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.environments.tabletop import TabletopEnv
from smolpilot.environments.tabletop import recording as module
from smolpilot.environments.tabletop.recording import record

# Recording gives up after so many misses in a row.
PATIENCE = 20


def test_an_environment_with_a_target_of_another_color_is_refused() -> None:
    with pytest.raises(UsageError, match=r"The target 'grean' is not among the colors.\nFix: Did you mean 'green'"):
        TabletopEnv(colors=["red", "green"], target="grean")
    assert TabletopEnv(colors=["red", "green"], target="green").reset(seed=0)[1]["target"] == "green"


@pytest.mark.parametrize(("misses", "recorded"), [(PATIENCE, True), (PATIENCE + 1, False)])
def test_so_many_demonstrations_in_a_row_may_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misses: int, recorded: bool
) -> None:
    tries, real = [0], module.demonstrate

    def demonstrate(env: Any, *args: Any, **more: Any) -> tuple[list[Any], bool]:
        # Misses, then one that hits, and again: a hit begins a new count.
        tries[0] += 1
        if tries[0] % (misses + 1):
            return [], False
        return real(env, *args, **more)

    monkeypatch.setattr(module, "demonstrate", demonstrate)
    path = tmp_path / "demos"
    if recorded:
        summary = record(path, 2)
        assert (summary.episodes, summary.discarded) == (2, 2 * misses)
        return
    with pytest.raises(DatasetError, match=f"{PATIENCE} demonstrations in a row missed their block"):
        record(path, 2)
    assert tries == [PATIENCE + 1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("colors", "words"),
    [(["red"], "The colors are"), (["red", "red"], "The colors are"), ([], "The colors are"),
     (["red", "rde"], "There is no rde block")],
)  # fmt: skip
def test_colors_of_a_scene(colors: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TabletopEnv(colors=colors)


def test_a_block_that_is_not_there() -> None:
    env = TabletopEnv(colors=["red", "blue"])
    env.reset(seed=0)
    assert env.block("blue").color == "blue"
    with pytest.raises(UsageError, match="No green block in the scene"):
        env.block("green")
    with pytest.raises(UsageError, match=r"Unknown reset option 'targt'.\nFix: Did you mean 'target'"):
        env.reset(seed=0, options={"colors": ["red", "blue"], "targt": "red"})
