"""Floors and ceilings on the policy's own seeds: played once, kept, compared, and never in the policy's way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import PROCESS_GONE, SimulationError, UsageError
from smolpilot.contracts import Demonstration, EpisodeInfo, Outcome, Policy, PolicySpec
from smolpilot.environments import environment_factory
from smolpilot.evaluation import embodiment_in, rollout
from smolpilot.evaluation.rollout.environment_pool import LocalPool
from smolpilot.evaluation.rollout.floor_cache import FloorCache
from smolpilot.evaluation.rollout.floors import Floor, floor_rows, play_floors, recording_row, verdict
from smolpilot.evaluation.rollout.results import CRASHED, Run
from smolpilot.policies import open_policy
from smolpilot.policies.floor_policies import FLOORS

from .helpers_world import TEXTS, Driver, Line, obedient

SEEDS = range(5, 25)


class ExpertLine(Line):
    """The line, with an expert that knows where to go, in 4 steps."""

    has_expert = True
    played: list[int] = []  # noqa: RUF012 - of all of them

    def demonstrate(self, seed: int, *, instruction: str | None = None) -> Demonstration:
        self.played.append(seed)
        _, info = self.reset(seed, instruction=instruction)
        outcome, steps = None, 0
        while outcome is None:
            _, outcome = self.step([0.25 * obedient(info.instruction)])
            steps += 1
        return Demonstration(info, steps, outcome)


class Looking(Policy):
    """Another policy that wants the image from above, too."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner

    @property
    def spec(self) -> PolicySpec:
        return dataclasses.replace(self._inner.spec, cameras=("top",))

    def predict(self, observations: Any, **more: Any) -> Any:
        assert all(one["observation.images.top"].shape == (64, 64, 3) for one in observations)
        return self._inner.predict(observations, **more)


def floors_of(make: Callable[[], Any]) -> Mapping[str, Callable[[], Policy]]:
    body = embodiment_in(make().spec)
    return {name: partial(open_policy, name, embodiment=body) for name in FLOORS}


def test_each_plays_the_same_seeds() -> None:
    found, missing = play_floors(floors_of(ExpertLine), partial(LocalPool, ExpertLine, 3), SEEDS, expert=True)
    assert missing == []
    assert [(one.name, one.kind) for one in found] == [
        ("no-op", "floor"), ("random", "floor"), ("hold-state", "floor"), ("expert", "ceiling"),
    ]  # fmt: skip
    by_name = {one.name: one for one in found}
    assert all([run.seed for run in one.runs] == list(SEEDS) for one in found)
    assert not any(run.success for run in by_name["no-op"].runs)
    assert all(run.success and run.steps == 4 for run in by_name["expert"].runs)
    assert 0 < sum(run.success for run in by_name["random"].runs) < len(SEEDS)  # it runs into an end, whichever
    assert {run.plans for run in by_name["random"].runs} == {1}
    assert all(run.instruction == TEXTS["right" if run.seed % 2 else "left"] for one in found for run in one.runs)


def test_swapped_scenes_are_swapped_for_all() -> None:
    found, _ = play_floors(floors_of(ExpertLine), partial(LocalPool, ExpertLine, 1), SEEDS, expert=True, swap=True)
    assert all(run.instruction == TEXTS["left" if run.seed % 2 else "right"] for one in found for run in one.runs)
    assert all(run.success for run in found[-1].runs)


def test_what_was_played_is_kept(tmp_path: Path) -> None:
    cache = FloorCache({"env": "line"}, tmp_path)
    opened: list[int] = []

    def pool() -> LocalPool:
        opened.append(1)
        return LocalPool(ExpertLine, 1)

    def again(seeds: range, kept: FloorCache = cache) -> tuple[int, list[Floor]]:
        before = len(opened)
        found, missing = play_floors(floors_of(ExpertLine), pool, seeds, expert=True, cache=kept)
        assert missing == []
        return len(opened) - before, found

    count, first = again(SEEDS)
    assert count == 4
    assert again(SEEDS) == (0, first)
    ExpertLine.played.clear()
    count, more = again(range(20, 30))
    assert count == 4
    assert ExpertLine.played == [25, 26, 27, 28, 29]  # the others are known
    assert [run.seed for run in more[0].runs] == list(range(20, 30))
    assert again(range(5, 30))[0] == 0
    assert again(SEEDS, FloorCache({"env": "line", "settings": {"reach": 2}}, tmp_path))[0] == 4


@pytest.mark.parametrize("content", ["", "{", '{"format": "other"}', '{"format": "smolpilot-floors/1"}', "no-file"])
def test_a_cache_that_cannot_be_read_is_made_anew(tmp_path: Path, content: str) -> None:
    cache = FloorCache({"env": "line"}, tmp_path)
    kept = [Run(3, "go", {}, "there", success=True, steps=2, facts={"place_m": 1.0}, success_at_end=True)]
    cache.keep("no-op", kept)
    assert cache.known("no-op") == kept
    (file,) = tmp_path.iterdir()
    if content == "no-file":
        file.unlink()
    else:
        file.write_text(content)
    assert cache.known("no-op") == []
    cache.keep("no-op", kept)
    assert cache.known("no-op") == kept
    document = json.loads(file.read_text())
    for spoilt in ({**document, "runs": [{"sed": 3}]}, {**document, "identity": {"env": "plane"}}):
        file.write_text(json.dumps(spoilt))
        assert cache.known("no-op") == []


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = FloorCache({}, tmp_path / "file" / "folder")
    cache.keep("no-op", [Run(1, "")])
    assert cache.known("no-op") == []


def test_a_simulation_that_broke_is_kept_and_a_process_that_died_is_not(tmp_path: Path) -> None:
    broke = Run(1, "", label=CRASHED, error="The environment aloha broke: PhysicsError.")
    died = Run(2, "", label=CRASHED, error="The process of the environment aloha has ended (exit code -9).")
    FloorCache({}, tmp_path).keep("random", [broke, died])
    assert FloorCache({}, tmp_path).known("random") == [broke]


class Fragile:
    """A pool of two in one process, as workers have them: seed 8 breaks, seed 12 takes the process along."""

    def __init__(self) -> None:
        self.environments: list[Any] = [ExpertLine(), ExpertLine()]
        self.renewed: list[int] = []

    def each(self, places: Sequence[int], work: Callable[[int], Any]) -> list[Any]:
        found: list[Any] = []
        for place in places:
            result = work(place)
            if result.seed == 8:
                found.append(SimulationError("The environment line broke: it melted."))
            elif result.seed == 12:
                found += [SimulationError(f"{PROCESS_GONE} line has ended.")] + [SimulationError("lost")] * 9
                break
            else:
                found.append(result)
        return found[: len(places)]

    def renew(self, place: int) -> list[int]:
        self.renewed.append(place)
        return [0, 1] if len(self.renewed) == 2 else []

    def close(self) -> None: ...


def test_an_experts_episode_that_crashes_is_no_success_and_costs_no_other(tmp_path: Path) -> None:
    cache, seeds = FloorCache({}, tmp_path), range(6, 17)
    found, missing = play_floors({}, Fragile, seeds, expert=True, cache=cache)
    assert missing == []
    assert [(run.seed, run.success) for run in found[0].runs] == [(seed, seed not in (8, 12)) for seed in seeds]
    assert "the simulation failed in 2 of 11 episodes, counted as no success" in found[0].text
    assert sorted(run.seed for run in cache.known("expert")) == [seed for seed in seeds if seed != 12]


def test_a_floor_that_fails_is_named_and_the_others_are_played() -> None:
    broken = partial(ExpertLine, broken=7)
    policies = dict(floors_of(ExpertLine))
    policies["of nobody"] = partial(open_policy, "of nobody")
    found, missing = play_floors(policies, partial(LocalPool, broken, 1), SEEDS, expert=True)
    assert found == []
    assert "The floor no-op is missing: The environment line fails in the episode of seed 7, at step 2" in missing[0]
    assert "The ceiling expert is missing: " in missing[4]
    assert "The floor of nobody is missing: There is no checkpoint at of nobody" in missing[3]


def test_an_expert_that_breaks_the_contract_is_named() -> None:
    class Odd(ExpertLine):
        def demonstrate(self, seed: int, *, instruction: str | None = None) -> Any:
            if seed < 7:
                return Demonstration(EpisodeInfo("go"), 3, Outcome(True, "there"))
            return None

    _, missing = play_floors({}, partial(LocalPool, Odd, 1), SEEDS, expert=True)
    assert "breaks its contract in the episode of seed 7, at the start: demonstrate is None" in missing[0]


def scored(successes: Callable[[int], bool]) -> list[Run]:
    return [
        Run(seed, "go", success=successes(seed), success_at_end=successes(seed), facts={"x": float(seed)})
        for seed in SEEDS
    ]


class TestRows:
    def test_counts_and_the_pairs(self) -> None:
        own = scored(lambda seed: seed >= 8)
        rows = floor_rows(own, [
            Floor("no-op", "floor", "stays", scored(lambda seed: False)),
            Floor("random", "floor", "walks", scored(lambda seed: seed < 10)),
            Floor("expert", "ceiling", "knows", scored(lambda seed: True)),
            Floor("replay", "ceiling", "people", [Run(1, "go", success=True)]),
        ])  # fmt: skip
        assert [(row["name"], row["successes"], row["successes_at_end"]) for row in rows] == [
            ("no-op", 0, 0), ("random", 5, 5), ("expert", 20, 20), ("replay", 1, 0),
        ]  # fmt: skip
        assert rows[0]["facts"] == {"x": 14.5}
        assert rows[0]["interval"] == pytest.approx([0, 0.1684], abs=1e-4)
        cells = ("both", "only_policy", "only_other", "neither")
        assert [tuple(row["paired"][cell] for cell in cells) for row in rows[:3]] == [
            (0, 17, 0, 3), (2, 15, 3, 0), (17, 0, 3, 0),
        ]  # fmt: skip
        assert [row["paired"]["decision"] for row in rows[:3]] == ["better", "better", "not told apart"]
        assert rows[1]["paired"]["test"] == "McNemar, exact; adjusted for 2 by Holm"
        assert rows[2]["paired"]["test"] == "McNemar, exact"  # a question of its own
        assert rows[3]["paired"] is None  # other seeds
        assert rows[1]["paired"]["text"].startswith("The policy is better than random on the same 20 episodes: both")

    def test_the_verdict_is_against_the_best_floor(self) -> None:
        document = rollout(Driver(obedient), Line, episodes=20, seed=5).document
        assert verdict(document)["text"].endswith("it was not compared with a floor.")
        assert verdict(document)["against"] is None
        document["floors"] = floor_rows(scored(lambda seed: True), [
            Floor("no-op", "floor", "stays", scored(lambda seed: False)),
            Floor("random", "floor", "walks", scored(lambda seed: seed < 22)),
            Floor("expert", "ceiling", "knows", scored(lambda seed: True)),
        ])  # fmt: skip
        found = verdict(document)
        assert (found["against"], found["decision"]) == ("random", "not told apart")
        assert "is not told apart from the best floor, random, with 17 of 20 on the same seeds" in found["text"]

    @pytest.mark.parametrize(
        ("gate", "words"),
        [
            ({"verdict": "passed"}, "; gate passed)"),
            ({"verdict": "replay-exact", "overridden": False}, "; gate replay-exact)"),
            ({"verdict": "not gated"}, "; not gated)"),
            ({"verdict": "failed", "overridden": True}, "; gate failed, scored all the same)"),
        ],
    )
    def test_the_gate_stands_in_it(self, gate: dict[str, Any], words: str) -> None:
        document = {**rollout(Driver(obedient), Line, episodes=2, seed=5).document, "gate": gate}
        assert words in verdict(document)["text"]

    def test_who_it_is_about(self) -> None:
        document = rollout(Driver(obedient), Line, episodes=2, seed=5, swap_instruction=True, untrained=True).document
        assert verdict(document)["text"].startswith(
            "The untrained policy succeeded in 2 of 2 fresh episodes of line with the instruction swapped (100 %, 95 %"
        )


def test_the_tabletops_expert_touches_the_block_of_each_scene() -> None:
    make = environment_factory("tabletop")
    for swap in (False, True):
        found, missing = play_floors(
            {}, partial(LocalPool, make, 1), range(1_000_000, 1_000_020), expert=True, swap=swap
        )
        assert missing == []
        assert all(run.success and run.label == "named" for run in found[0].runs)


class TestImages:
    """A policy without cameras has none drawn, where the environment can do without."""

    @pytest.fixture
    def drawn(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from smolpilot.environments.tabletop.env import TabletopEnv

        found: list[str] = []
        draw = TabletopEnv.image

        def image(self: TabletopEnv, camera: str, size: int) -> Any:
            found.append(camera)
            return draw(self, camera, size)

        monkeypatch.setattr(TabletopEnv, "image", image)
        return found

    def test_none_without_cameras(self, drawn: list[str]) -> None:
        make = environment_factory("tabletop")
        found, _ = play_floors(floors_of(make), partial(LocalPool, make, 1), range(3), expert=True)
        assert len(found) == 4
        assert drawn == []

    def test_at_plans_only_with_cameras(self, drawn: list[str]) -> None:
        make = environment_factory("tabletop")
        blind = open_policy("hold-state", embodiment=embodiment_in(make().spec))
        result = rollout(Looking(blind), make, episodes=2, seed=1)
        assert [run.steps for run in result.runs] == [50, 50]
        assert len(drawn) == 2 * 2 * 5  # two cameras at five plans in each episode
        drawn.clear()
        other = rollout(blind, make, episodes=2, seed=1)
        assert drawn == []
        runs = [[{**vars(run), "planning_s": 0} for run in one.runs] for one in (result, other)]
        assert runs[0] == runs[1]


def test_a_swapped_expert_needs_an_alternative() -> None:
    class Single(ExpertLine):
        def reset(self, seed: int, *, instruction: str | None = None) -> Any:
            seen, info = super().reset(seed, instruction=instruction)
            return seen, EpisodeInfo(info.instruction)

    _, missing = play_floors({}, partial(LocalPool, Single, 1), SEEDS, expert=True, swap=True)
    assert missing == ["The ceiling expert is missing: The scene of seed 5 has no other instruction."]
    with pytest.raises(UsageError, match="no other instruction for the scene of seed 5"):
        rollout(Driver(obedient), Single, episodes=2, seed=5, swap_instruction=True)


def test_people_stand_beside_the_floors_and_are_compared_with_nobody() -> None:
    facts = {"people_succeed": 1.0, "best_coverage": 0.9, "max_coverage": 0.85}
    (row,) = recording_row({"verdict": "replay-exact", "episodes": 20, "successes": 20, "facts": facts})
    assert (row["name"], row["kind"], row["successes"], row["episodes"], row["paired"]) == (
        "replay",
        "reference",
        1,
        20,
        None,
    )
    assert row["facts"] == {"max_coverage": 0.9}
    assert recording_row({"verdict": "passed", "episodes": 20, "successes": 20, "facts": {}}) == []
    assert recording_row(None) == []
