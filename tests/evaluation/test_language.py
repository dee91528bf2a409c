"""The same scenes under each of their texts: who listens, who is deaf, and what is said of either."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.common.errors import PROCESS_GONE, SmolpilotError, UsageError
from smolpilot.common.json_input import to_plain
from smolpilot.common.keys import TASK
from smolpilot.contracts import Environment, EnvironmentSpec, EpisodeInfo, Image, Observation, Outcome, make_observation
from smolpilot.evaluation import rollout
from smolpilot.evaluation.rollout.comparing import compare_against, read_side
from smolpilot.evaluation.rollout.floor_cache import FloorCache
from smolpilot.evaluation.rollout.journal import Journal
from smolpilot.evaluation.rollout.language import (
    MOST_TEXTS,
    compare_followed,
    language_document,
    language_warnings,
    play_told,
    require_texts,
    stored_test,
    texts_of,
)
from smolpilot.evaluation.rollout.results import CRASHED, LANGUAGE, Run

from .helpers_world import CART, LIMIT, TEXTS, Driver, Line, obedient

STOPS = {"stop at the left end": -1.0, "stop halfway": 0.5, "stop at the right end": 1.0}


class Stops(Environment):
    """A cart on a line with three stops; that halfway lies on the way to the right end. Told at seed % 3."""

    def __init__(self, *, more: int = 0, silent: bool = False) -> None:
        """more: stops that nobody reaches; silent: it does not say which were reached."""
        self._stops = {**STOPS, **{f"stop at the moon {number}": 100.0 + number for number in range(more)}}
        self._silent = silent

    @property
    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec(name="stops", profile=CART, rate=5.0, goal="the cart has been at the stop",
                               max_steps=LIMIT, labels={"timeout": "ran out of time"})  # fmt: skip

    def reset(self, seed: int, *, instruction: str | None = None) -> tuple[Observation, EpisodeInfo]:
        own = instruction or [*STOPS][seed % 3]
        if own not in self._stops:
            raise UsageError(f"There is no stop '{own}'.")
        self._told, self._place, self._steps, self._reached = own, 0.0, 0, list[str]()
        return self._seen(), EpisodeInfo(own, {}, tuple(text for text in self._stops if text != own))

    def step(self, action: npt.ArrayLike) -> tuple[Observation, Outcome | None]:
        self._place += float(np.asarray(action)[0])
        self._steps += 1
        at = [text for text, place in self._stops.items() if abs(place - self._place) < 0.05]
        self._reached += [text for text in at if text not in self._reached]
        success = self._told in self._reached
        if not success and self._steps < LIMIT:
            return self._seen(), None
        reached = () if self._silent else tuple(self._reached)
        return self._seen(), Outcome(success, "there" if success else "timeout", {}, reached=reached)

    def render(self) -> Image:
        return np.zeros((2, 2, 3), np.uint8)

    def _seen(self) -> Observation:
        return make_observation([self._place], {}, self._told)


def played(
    aim: Callable[[str], float], make: Callable[[], Environment] = Line, *, episodes: int = 12, **more: Any
) -> tuple[dict[str, Any], list[Run]]:
    """The document of the test of a policy that aims so, and the episodes under other texts."""
    policy = Driver(aim)
    result = rollout(policy, make, episodes=episodes, seed=0)
    told = play_told(policy, make, result.runs, **more)
    return language_document(result.runs, told), told


def counts(document: dict[str, Any]) -> list[tuple[int, int]]:
    return [
        (document[name]["successes"], document[name]["episodes"]) for name in ("right", "followed", "other", "same")
    ]


def test_who_obeys_follows_every_text() -> None:
    found, told = played(obedient)
    assert counts(found) == [(24, 24), (12, 12), (0, 24), (0, 12)]
    assert (found["decision"], found["effect"]["difference"], found["effect"]["against_text"]) == ("follows", 1.0, 0)
    assert found["text"].startswith(
        "The policy follows the text: what it reached went with the texts in 12 of 12 scenes, against them in 0 "
        "(difference +100 points"
    )
    assert [(run.seed, run.instruction) for run in told[:2]] == [(0, TEXTS["right"]), (1, TEXTS["left"])]
    assert all(run.success and run.groups["end"] in run.instruction for run in told)
    assert found["told"] == [
        {"told": "own", "episodes": 12, "right": 12, "other": 0, "nothing": 0},
        {"told": "others", "episodes": 12, "right": 12, "other": 0, "nothing": 0},
    ]


def test_who_is_deaf_succeeds_in_half_and_its_success_says_nothing() -> None:
    found, _ = played(lambda text: 1.0)
    assert counts(found) == [(12, 24), (0, 12), (12, 24), (12, 12)]
    assert (found["decision"], found["effect"]["p_value"], found["reaching"]) == ("ignores", 1.0, 12)
    assert "ignores the text in most scenes where it reaches a goal" in found["text"]
    assert found["by_scene"][0] == {
        "seed": 0, "texts": [TEXTS["left"], TEXTS["right"]], "success": [False, True],
        "reached": [[TEXTS["right"]], [TEXTS["right"]]], "followed": False, "same": True,
    }  # fmt: skip


def test_who_does_the_opposite_and_who_does_nothing() -> None:
    assert played(lambda text: -obedient(text))[0]["decision"] == "opposes"
    found, _ = played(lambda text: 0.0)
    assert found["decision"] == "nothing reached"
    assert found["text"] == (
        "Nothing can be said about language: no goal was reached in any of 24 episodes, whatever the policy was told."
    )


def test_three_texts_of_which_one_goal_lies_on_the_way_to_another() -> None:
    found, told = played(lambda text: np.sign(STOPS[text]), Stops)
    assert counts(found) == [(36, 36), (12, 12), (0, 36), (0, 12)]
    assert (found["texts"], len(told)) == ({"3": 12}, 24)
    assert {tuple(run.reached) for run in told if run.instruction == "stop at the right end"} == {
        ("stop halfway", "stop at the right end")
    }
    deaf, _ = played(lambda text: 1.0, Stops)
    # Told to stop halfway it ends there, which is the episode's end and no hearing: left ends at neither.
    assert counts(deaf) == [(24, 36), (0, 12), (12, 36), (0, 12)]
    assert deaf["effect"]["difference"] <= 8 / 12


def test_at_most_three_other_texts_are_played() -> None:
    found, told = played(lambda text: 0.0, partial(Stops, more=5), episodes=3)
    assert MOST_TEXTS == 3
    assert [run.instruction for run in told if run.seed == 0] == [
        "stop halfway", "stop at the right end", "stop at the moon 0"
    ]  # fmt: skip
    assert found["texts"] == {"4": 3}


def test_an_environment_that_does_not_say_what_was_reached() -> None:
    found, _ = played(lambda text: np.sign(STOPS[text]), partial(Stops, silent=True))
    assert found["decision"] == "not known"
    assert (found["right"]["successes"], found["followed"]["successes"]) == (36, 12)
    assert (found["other"], found["same"], found["effect"], found["told"]) == (None, None, None, [])
    assert "does not say which goals were reached" in found["text"]


def test_the_draws_are_those_of_the_own_text() -> None:
    policy = Driver(lambda text: 0)
    result = rollout(policy, Line, episodes=3, seed=5)
    own = list(policy.seeds)
    policy.seeds.clear()
    play_told(policy, Line, result.runs)
    assert policy.seeds == own


def test_the_horizon_and_the_number_side_by_side_are_those_that_are_asked_for() -> None:
    policy = Driver(lambda text: 0)
    runs = rollout(policy, Line, episodes=5, seed=0, n_action_steps=1).runs
    policy.batches.clear()
    play_told(policy, Line, runs, n_action_steps=1, parallel=3)
    assert policy.batches == [3] * 12 + [2] * 12


def test_what_is_known_is_not_played_again(tmp_path: Path) -> None:
    policy, told = Driver(obedient), list[Run]()
    runs = rollout(policy, Line, episodes=6, seed=0).runs
    journal = Journal(tmp_path / "out", {"seed": 0})
    whole = play_told(policy, Line, runs, on_episode=lambda run: journal.add(run, LANGUAGE))
    assert journal.known() == []
    assert journal.close(ended=False) == 6
    with (tmp_path / "out.partial" / LANGUAGE).open("r+") as file:
        lines = file.readlines()
        file.seek(0)
        file.truncate()
        file.writelines([*lines[:4], lines[4][:30]])  # as a kill leaves it
    again = Journal(tmp_path / "out", {"seed": 0})
    progress: list[tuple[str, int, int]] = []
    known = again.known(LANGUAGE)
    assert len(known) == 4
    found = play_told(
        policy, Line, runs, known=known, on_episode=told.append, progress=lambda *one: progress.append(one)
    )
    assert len(told) == 2
    assert progress == [("other texts", 5, 6), ("other texts", 6, 6)]
    assert [to_plain(vars(run)) | {"planning_s": 0} for run in found] == [
        to_plain(vars(run)) | {"planning_s": 0} for run in whole
    ]
    assert again.close(ended=True) == 0
    made: list[Line] = []
    assert play_told(policy, lambda: made.append(Line()) or Line(), runs, known=whole) == whole
    assert made == []


def test_scenes_with_a_single_text_are_left_out() -> None:
    class Sometimes(Line):
        def reset(self, seed: int, **more: Any) -> Any:
            observation, info = super().reset(seed, **more)
            return observation, info if seed % 3 else EpisodeInfo(info.instruction, info.groups)

    found, told = played(obedient, Sometimes, episodes=9)
    assert (found["scenes"], found["scenes_with_one_text"], len(told)) == (6, 3, 6)
    with pytest.raises(UsageError, match="offers one text for the scene of seed 3: 'drive to the right end'"):
        require_texts(Sometimes(), 3)
    require_texts(Sometimes(), 4)
    alone = rollout(Driver(obedient), Sometimes, episodes=1, seed=3).runs
    assert texts_of(alone) == []
    with pytest.raises(UsageError, match="No scene was played under more than one text"):
        language_document(alone, [])


def test_a_crashed_simulation_reaches_nothing_and_is_said() -> None:
    policy = Driver(obedient)
    runs = rollout(policy, Line, episodes=8, seed=0).runs
    told = play_told(policy, Line, runs)
    told[2] = Run(2, TEXTS["right"], label=CRASHED, error=f"{PROCESS_GONE}: exit code 9")
    found = language_document(runs, told)
    assert (found["crashed"], found["right"]["successes"], found["followed"]["successes"]) == (1, 15, 7)
    (said,) = language_warnings(policy.spec, runs, told)
    assert said.startswith("The simulation failed in 1 of 8 episodes under other texts, counted as nothing reached.")


def test_texts_that_training_did_not_have_are_named() -> None:
    policy = Driver(obedient, instructions=(TEXTS["left"],))
    runs = rollout(policy, Line, episodes=1, seed=0).runs
    told = play_told(policy, Line, runs)
    (said,) = language_warnings(policy.spec, runs, told)
    assert said.startswith("The policy was not trained on “drive to the right end”")


def test_the_document_holds_all_that_the_test_needs() -> None:
    for aim in (obedient, lambda text: 1.0, lambda text: 0.0):
        found, _ = played(aim)
        again = stored_test(json.loads(json.dumps(to_plain(found))))
        assert again.decision == found["decision"]
        assert [again.right.successes, again.same.successes] == [
            found["right"]["successes"],
            found["same"]["successes"],
        ]
        assert list(again.interval) == found["effect"]["interval"]


def test_two_results_are_compared_where_every_text_was_followed(tmp_path: Path) -> None:
    documents = []
    for aim in (obedient, lambda text: 1.0):
        policy = Driver(aim)
        result = rollout(policy, Line, episodes=12, seed=0)
        result.document["language"] = language_document(result.runs, play_told(policy, Line, result.runs))
        documents.append(result.document)
    found = compare_followed(documents[0], documents[1], "deaf")
    assert found is not None
    assert (found["only_policy"], found["both"], found["decision"]) == (12, 0, "better")
    assert found["text"].startswith(
        "Where following every text of a scene counts as success: The policy is better than"
    )
    (tmp_path / "results.json").write_text(json.dumps(to_plain(documents[1])))
    against = compare_against(documents[0], read_side(tmp_path))
    assert against["language"]["only_policy"] == 12
    assert f"is better than runs/driver of {tmp_path} on the same 12 episodes" in against["language"]["text"]
    documents[1]["language"]["by_scene"][0]["texts"].reverse()
    (tmp_path / "results.json").write_text(json.dumps(to_plain(documents[1])))
    against = compare_against(documents[0], read_side(tmp_path))
    assert against["language"] is None
    assert any("has other scenes or texts" in note for note in against["notes"])
    assert "language" not in compare_against(documents[0] | {"language": None}, read_side(tmp_path))


class TestTheContract:
    @pytest.mark.parametrize(
        ("reached", "message"),
        [
            ("drive to the left end", "Outcome.reached is 'drive to the left end'"),
            (("sing",), r"Outcome.reached is .*\n?.*sing"),
            ((TEXTS["right"],), "Outcome.reached is"),
            ((3,), "Outcome.reached is"),
        ],
    )
    def test_reached_holds_instructions_of_the_scene(
        self, reached: Any, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A text, one of another scene, a success without its own goal, a number."""
        monkeypatch.setattr(
            Line, "step", lambda self, _: (self._observation(), Outcome(True, "there", reached=reached))
        )
        with pytest.raises(SmolpilotError, match=rf"line breaks its contract in the episode of seed 0, .*{message}"):
            rollout(Driver(obedient), Line, episodes=1, seed=0)

    def test_an_environment_that_gives_another_text_than_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        usual = Line.reset
        runs = rollout(Driver(obedient), Line, episodes=1, seed=0).runs
        monkeypatch.setattr(Line, "reset", lambda self, seed, instruction=None: usual(self, seed))
        with pytest.raises(SmolpilotError, match=r"breaks its contract .*instruction='drive to the right end'"):
            play_told(Driver(obedient), Line, runs)


def test_results_of_before_are_read(tmp_path: Path) -> None:
    """Lines, caches and documents that know neither alternatives nor what was reached."""
    old = {"seed": 3, "instruction": "go", "groups": {}, "label": "there", "success": True, "steps": 2, "facts": {},
           "success_at_end": True, "plans": 1, "planning_s": 0.1, "error": ""}  # fmt: skip
    journal = Journal(tmp_path / "out", {})
    journal.close(ended=False)
    (tmp_path / "out.partial").mkdir(exist_ok=True)
    (tmp_path / "out.partial" / "settings.json").write_text("{}")
    (tmp_path / "out.partial" / "episodes.jsonl").write_text(json.dumps(old) + "\n")
    journal = Journal(tmp_path / "out", {})
    (run,) = journal.known()
    assert (run.alternatives, run.reached, run.steps) == ([], [], 2)
    assert journal.close(ended=True) == 0
    cache = FloorCache({"env": "line"}, tmp_path / "floors")
    cache.keep("no-op", [run])
    (file,) = (tmp_path / "floors").iterdir()
    kept = json.loads(file.read_text())
    for name in ("alternatives", "reached"):
        kept["runs"][0].pop(name)
    file.write_text(json.dumps(kept))
    assert cache.known("no-op") == [run]


def test_the_policy_is_told_the_other_text() -> None:
    heard: list[str] = []

    class Listener(Driver):
        def predict(self, observations: Any, **more: Any) -> Any:
            heard.extend(one[TASK] for one in observations)
            return super().predict(observations, **more)

    policy = Listener(obedient)
    runs = rollout(policy, Line, episodes=1, seed=0).runs
    play_told(policy, Line, runs)
    assert heard == [TEXTS["left"], TEXTS["right"]]
