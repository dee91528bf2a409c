"""A dataset's own actions replayed in its simulation: do its demonstrations end here as they did when recorded?

An episode can be put to its beginning only where that is known: by its seed, or by its number among the recorded
episodes that a simulation brings along. meta/smolpilot_simulation.json says which; a first frame does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import read_json_object
from smolpilot.common.text import LIMIT, plain, shown
from smolpilot.datasets import open_dataset
from smolpilot.datasets.simulation_record import SimulationRecord
from smolpilot.environments.installing import SIMULATORS, simulator
from smolpilot.environments.making import checked_settings, make_environment

from .gate import EPISODES, Gate, compared, judged, spread
from .gate_workers import Ask, GateWorkers, Progress

RECORD = SimulationRecord.FILE
_RECORD = pydantic.TypeAdapter(SimulationRecord)

type Actions = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Episode:
    number: int  # in the dataset
    start: int  # its seed, or its number among the recorded episodes
    instruction: str
    actions: Actions  # [T, A]
    succeeded: bool


def check_demonstrations(
    name: str, settings: Mapping[str, Any], dataset: Path, *, episodes: int = EPISODES, jobs: int = 1,
    python: Path | None = None, progress: Progress | None = None,
) -> Gate:  # fmt: skip
    """Replay so many episodes of a LeRobot dataset, spread over it: passed where 95 % end as they did in the recording.

    settings: of the environment where they are not the recording's. Episodes that the simulation brings along are
    compared with its own recording instead, as `check_gate` does. The last action is held until an episode ends.
    UsageError for a dataset that does not say how its episodes begin, or that was recorded in another environment or
    with noise that its actions do not have.
    """
    record = _record_of(dataset)
    if record.env != name:
        raise UsageError(f"{dataset} was recorded in the environment {plain(record.env, LIMIT)}, not in {name}.")
    if record.noise and not record.executed:
        raise UsageError(
            f"{dataset} was recorded with noise {record.noise:g}: its actions are the expert's, and not those that "
            f"were executed. Replayed, they say nothing of the environment.",
            expected="a dataset that was recorded without noise",
            fix=f"let the expert play: smolpilot env check {name}",
        )
    checked = checked_settings(name, {**record.settings, **settings})
    chosen = _episodes(dataset, record, episodes)
    if record.recorded:
        _require_recorded(name, dataset, chosen)
    if name not in SIMULATORS:
        gate = _judged(name, dataset, chosen, _here(name, checked, chosen, progress), {}, {})
    else:
        with GateWorkers(name, checked, min(jobs, len(chosen)), python) as workers:
            _require_width(name, dataset, chosen, int(workers.facts["joints"]))
            gate = _there(name, dataset, record, chosen, workers, progress)
    return replace(gate, text=gate.text + _changed(record.simulation, gate.simulation))


def _record_of(dataset: Path) -> SimulationRecord:
    open_dataset(dataset).close()  # first whatever is wrong with the dataset itself
    path = SimulationRecord.path(dataset)
    if not path.is_file():
        raise UsageError(
            f"{dataset} does not say how its episodes begin, so they cannot be replayed: it has no meta/{RECORD}.",
            expected="a dataset that smolpilot recorded in this simulation: a first frame does not hold all of a scene",
        )
    try:
        return _RECORD.validate_python(read_json_object(path))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {place}: {first['msg']} (found {shown(first['input'])}).") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error


def _episodes(dataset: Path, record: SimulationRecord, wanted: int) -> list[_Episode]:
    with closing(open_dataset(dataset)) as opened:
        index = opened.episode_index
        numbers = list(dict.fromkeys(index.tolist()))
        starts, successes = record.recorded or record.seeds, record.successes or [True] * len(numbers)
        if not len(starts) == len(successes) == len(numbers):
            what = "recorded" if record.recorded else "seeds"
            raise UsageError(
                f"meta/{RECORD} of {dataset} has {len(starts)} {what} and {len(successes)} successes, the dataset "
                f"{len(numbers)} episodes.",
                expected="one of each for every episode",
                fix="replay the dataset as it was recorded: copies of some of its episodes do not say which",
            )
        found = []
        for place in spread(len(numbers), wanted):
            rows = np.flatnonzero(index == numbers[place])
            text = opened.instruction(int(rows[0]))
            found.append(_Episode(numbers[place], starts[place], text, opened.actions[rows], successes[place]))
        return found


def _there(
    name: str, dataset: Path, record: SimulationRecord, chosen: Sequence[_Episode], workers: GateWorkers,
    progress: Progress | None,
) -> Gate:  # fmt: skip
    """In worker processes, as simulations run."""
    by_number = {episode.number: episode for episode in chosen}

    def play(ask: Ask, number: int) -> Mapping[str, Any]:
        episode = by_number[number]
        if record.recorded:
            found: Mapping[str, Any] = ask("compare", {"actions": episode.actions}, number=episode.start)[0]["found"]
            return found
        ask("reset", seed=episode.start, images="never")
        held = np.repeat(episode.actions[-1:], max(0, workers.facts["max_steps"] - len(episode.actions)), axis=0)
        actions = np.concatenate([episode.actions, held])
        outcome: Mapping[str, Any] = ask("act", {"actions": actions}, images="never")[0]["outcome"] or {}
        return outcome

    answers = workers.each(list(by_number), play, progress)
    if record.recorded:
        return compared(f"The actions of {dataset} replay", answers, workers.simulation)
    ended = {number: isinstance(found, Mapping) and bool(found.get("success")) for number, found in answers.items()}
    return _judged(name, dataset, chosen, ended, answers, workers.simulation)


def _here(
    name: str, settings: Mapping[str, Any], chosen: Sequence[_Episode], progress: Progress | None
) -> dict[int, bool]:
    """In this process: environments that are no simulations of others."""
    ended: dict[int, bool] = {}
    with closing(make_environment(name, settings)) as environment:
        several = len(environment.spec.instructions) > 1
        for episode in chosen:
            environment.reset(episode.start, instruction=episode.instruction if several else None)
            outcome = None
            for step in range(environment.spec.max_steps):
                _, outcome = environment.step(episode.actions[min(step, len(episode.actions) - 1)])
                if outcome is not None:
                    break
            ended[episode.number] = outcome is not None and bool(outcome.success)
            if progress is not None:
                progress("gate", len(ended), len(chosen))
    return ended


def _judged(
    name: str, dataset: Path, chosen: Sequence[_Episode], ended: Mapping[int, bool],
    answers: Mapping[int, Any], simulation: Mapping[str, Any],
) -> Gate:  # fmt: skip
    as_before = {episode.number: ended[episode.number] == episode.succeeded for episode in chosen}
    how = "succeeds" if all(episode.succeeded for episode in chosen) else "ends as it was recorded"
    return judged(f"Replaying {dataset} in {name} {how}", as_before, answers, simulation)


def _require_width(name: str, dataset: Path, chosen: Sequence[_Episode], joints: int) -> None:
    width = chosen[0].actions.shape[1]
    if width != joints:
        raise UsageError(f"The actions of {dataset} have {width} values, those of the environment {name} {joints}.")


def _require_recorded(name: str, dataset: Path, chosen: Sequence[_Episode]) -> None:
    count = getattr(simulator(name), "RECORDED", 0) if name in SIMULATORS else 0
    wrong = [episode.start for episode in chosen if not 0 <= episode.start < count]
    if wrong:
        raise UsageError(
            f"meta/{RECORD} of {dataset} names the recorded episode {wrong[0]} of {name}.",
            expected=f"0 to {count - 1}" if count else f"seeds: {name} brings no recorded episodes along",
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A sentence on what the simulation is computed with now and was not then; empty where all is the same."""
    differences = [
        f"{key} {shown(before[part][key])}, now {shown(value)}"
        for part in ("physics", "packages")
        if isinstance(before.get(part), Mapping)
        for key, value in now.get(part, {}).items()
        if key in before[part] and before[part][key] != value
    ]
    return f" Recorded with {'; '.join(differences)}." if differences else ""
