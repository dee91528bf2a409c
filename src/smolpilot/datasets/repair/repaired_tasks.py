"""The task list of the result: from the stored one, else from what the episode list says of each episode."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.check.context import named, ranges
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .repair_plan import RepairPlan

UNKNOWN = "instruction unknown"


def assign_tasks(dataset: FoundDataset, kept: dict[int, npt.NDArray[np.int64]], plan: RepairPlan) -> dict[int, Array]:
    """For each kept episode, whose rows are the given places within it, the new task index of each row.

    Fills `plan.tasks`: indices 0, 1, … without gaps, one per text; unchanged when they were that already.
    """
    found = _texts(dataset, kept, plan)
    intact = _intact(dataset)
    if intact:
        plan.tasks = dict(dataset.tasks)
    numbers = {text: index for index, text in plan.tasks.items()}
    for episode in kept:
        for text in dict.fromkeys(found[episode]):
            numbers.setdefault(text, len(numbers))
    if not intact and dataset.tasks:
        plan.actions.append("Task list: indices 0, 1, … without gaps, one per text; the rows follow.")
    plan.tasks = dict(sorted((index, text) for text, index in numbers.items()))
    if dataset.format.shared_files and dataset.tasks and not _by_position(dataset):
        plan.actions.append(
            "meta/tasks.parquet written as LeRobot reads it: the texts are the index, each at the place of its number."
        )
    return {episode: np.array([numbers[text] for text in words], dtype=np.int64) for episode, words in found.items()}


def _by_position(dataset: FoundDataset) -> bool:
    """Whether LeRobot finds each text: it takes the label that pandas gives the row at the place of the task's number.

    (LeRobot 0.6: `meta.tasks.iloc[task_index].name`.)
    """
    labels = dataset.task_labels
    if labels is None:  # it cannot be read: that has been said
        return True
    mended = any("meta/tasks.parquet holds text that is no UTF-8" in found.message for found in dataset.findings)
    return not mended and labels == [dataset.tasks.get(number) for number in range(len(labels))]


type Array = npt.NDArray[np.int64]


def _intact(dataset: FoundDataset) -> bool:
    """Whether the stored task list can stay: counted without gaps, no text twice, nothing said against it."""
    spoiled = any(found.code == "task-duplicate" for found in dataset.findings)
    tasks = dataset.tasks
    return sorted(tasks) == list(range(len(tasks))) and len(set(tasks.values())) == len(tasks) and not spoiled


def _texts(dataset: FoundDataset, kept: dict[int, Array], plan: RepairPlan) -> dict[int, list[str]]:
    learned = _learned(dataset, kept)
    result: dict[int, list[str]] = {}
    corrected: list[int] = []
    made: list[int] = []
    unknown: list[int] = []
    contradicted: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for episode, places in kept.items():
        rows, record = dataset.rows[episode], dataset.records[episode]
        column = rows.get("task_index")
        told = record.tasks[0] if len(record.tasks) == 1 else None
        only = next(iter(dataset.tasks.values())) if len(dataset.tasks) == 1 else None
        if column is None or column.size != len(rows) or column.dtype.kind not in "iuf":
            made.append(episode)
            text = told or only
            if text is None:
                unknown.append(episode)
            result[episode] = [text or UNKNOWN] * len(places)
            continue
        words = []
        for value in column.reshape(-1)[places].tolist():
            text = dataset.tasks.get(int(value), learned.get(int(value)))
            if text is None:
                text = told
                (corrected if told is not None else unknown).append(episode)
            words.append(text if text is not None else UNKNOWN)
        result[episode] = words
        if record.listed and record.tasks and UNKNOWN not in words and set(words) != set(record.tasks):
            contradicted.setdefault((tuple(record.tasks), tuple(dict.fromkeys(words))), []).append(episode)
    for (stated, chosen), episodes in contradicted.items():
        plan.actions.append(
            f"{named(episodes)}: the episode list says {_quoted(stated)}, the rows say {_quoted(chosen)}. "
            "The rows were followed and the episode list rewritten; look at the images (`smolpilot dataset view`), "
            "and if the list was right, set it with `smolpilot dataset tasks`."
        )
    _explain(dataset, plan, learned, made, corrected, unknown)
    return result


def _quoted(texts: tuple[str, ...]) -> str:
    return ", ".join(f'"{text}"' for text in texts[:3]) + (", …" if len(texts) > 3 else "")


def _learned(dataset: FoundDataset, kept: dict[int, Array]) -> dict[int, str]:
    """Texts of indices that the task list lacks: episodes with one index and one instruction tell them."""
    votes: dict[int, Counter[str]] = {}
    for episode in kept:
        column = dataset.rows[episode].get("task_index")
        if column is None or column.dtype.kind not in "iuf" or not column.size:
            continue
        values, texts = np.unique(column), dataset.records[episode].tasks
        if len(values) == 1 and len(texts) == 1 and int(values[0]) not in dataset.tasks:
            votes.setdefault(int(values[0]), Counter())[texts[0]] += 1
    return {value: counter.most_common(1)[0][0] for value, counter in votes.items()}


def _explain(
    dataset: FoundDataset,
    plan: RepairPlan,
    learned: dict[int, str],
    made: list[int],
    corrected: list[int],
    unknown: list[int],
) -> None:
    if learned and not dataset.tasks:
        plan.actions.append(f"Task list: {len(learned)} instructions taken from the episode list.")
    elif learned:
        plan.actions.append(f"Task list: task {ranges(list(learned))} added, with the text of the episode list.")
    if made:
        plan.actions.append(f"Column task_index made anew for {named(made).lower()}.")
    if corrected:
        message = "rows with an unknown task get the only instruction that the episode list gives the episode."
        plan.actions.append(f"{named(corrected)}: {message}")
    if unknown:
        plan.impossible.append(
            f"{named(unknown)}: nothing says what their instruction is; they get '{UNKNOWN}'. Set it with "
            "`smolpilot dataset tasks`."
        )
