"""The language test: each scene under its other texts, too, and what the policy then did."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import UsageError
from smolpilot.common.text import pluralize
from smolpilot.contracts import UntrainedInstructionWarning
from smolpilot.evaluation.provenance import instruction_warnings
from smolpilot.evaluation.rates.counterfactual import (
    LanguageTest,
    Scene,
    Share,
    Told,
    every_text_followed,
    instead,
    language_test,
    same_whatever_told,
)
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.wording import compare_paired, listening_text

from .checked_environment import CheckedEnvironment
from .closed_loop import PARALLEL, Asked, play
from .environment_pool import LocalPool, Pool
from .results import CRASHED, Run

if TYPE_CHECKING:
    from smolpilot.contracts import Environment, Policy, PolicySpec

MOST_TEXTS = 3
"""Texts of a scene beside its own that are played: its first alternatives, in the environment's order."""

MEASURES = ("right", "followed", "other", "same")


def require_texts(environment: Environment, seed: int) -> None:
    """UsageError where the scene of a seed has no second text: then nothing can be learned about language."""
    _, info = CheckedEnvironment(environment, images=False).reset(seed)
    if not set(info.alternatives) - {info.instruction}:
        raise UsageError(
            f"The environment {environment.spec.name} offers one text for the scene of seed {seed}: "
            f"'{info.instruction}'.",
            expected="several instructions for a scene (EpisodeInfo.alternatives), for --language",
            fix="leave --language out",
        )


def texts_of(runs: Sequence[Run]) -> list[Asked]:
    """Each scene's other texts, up to three of them, of runs under the scenes' own."""
    return [(run.seed, text) for run in runs for text in run.alternatives[:MOST_TEXTS]]


def play_told(
    policy: Policy,
    make: Callable[[], Environment],
    runs: Sequence[Run],
    *,
    n_action_steps: int | None = None,
    workers: Callable[[int], Pool] | None = None,
    parallel: int | None = None,
    known: Iterable[Run] = (),
    on_episode: Callable[[Run], object] = lambda run: None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Run]:
    """The scenes of `runs`, which were played under their own texts, under their others: one run for each.

    Where the policy draws at random, it draws the same as under the own text. All else as in `rollout`.
    """
    asked = texts_of(runs)
    done = {(run.seed, run.instruction): run for run in known}
    left = [one for one in asked if one not in done]
    count = min(PARALLEL if parallel is None else parallel, len(left))
    if left:
        with (
            closing(LocalPool(make, count) if workers is None else workers(count)) as pool,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
            for run in play(policy, pool, left, n_action_steps=n_action_steps):
                done[run.seed, run.instruction] = run
                on_episode(run)
                if progress is not None:
                    progress("other texts", sum(one in done for one in asked), len(asked))
    return [done[one] for one in asked]


def language_warnings(spec: PolicySpec, runs: Sequence[Run], told: Sequence[Run]) -> list[str]:
    """What is to be said of the episodes under other texts: texts that training did not have, failed simulations."""
    own = {run.instruction for run in runs}
    said = instruction_warnings(spec, [run.instruction for run in told if run.instruction not in own])
    crashed = [run for run in told if run.label == CRASHED]
    if crashed:
        said.append(
            f"The simulation failed in {len(crashed)} of {pluralize(len(told), 'episode')} under other texts, counted "
            f"as nothing reached. The first, seed {crashed[0].seed}: {crashed[0].error}"
        )
    return said


def language_document(runs: Sequence[Run], told: Sequence[Run]) -> dict[str, Any]:
    """What results.json holds under `language`. runs: under the scenes' own texts; told: under the others.

    Scenes with a single text are left out. UsageError where none has more.
    """
    others: dict[int, list[Run]] = {}
    for run in told:
        others.setdefault(run.seed, []).append(run)
    tested = [[run, *others[run.seed]] for run in runs if run.seed in others]
    if not tested:
        raise UsageError("No scene was played under more than one text.", expected="scenes with alternatives")
    scenes = [[_told(run) for run in scene] for scene in tested]
    found = language_test(scenes)
    known = found.decision != "not known"
    return {
        "scenes": len(scenes),
        "scenes_with_one_text": len(runs) - len(scenes),
        "texts": {str(size): count for size, count in sorted(Counter(map(len, scenes)).items())},
        "crashed": sum(run.label == CRASHED for scene in tested for run in scene),
        **{name: _row(getattr(found, name)) if known or name in ("right", "followed") else None for name in MEASURES},
        "reaching": found.reaching if known else None,
        "effect": _effect(found) if known else None,
        "told": _by_text(scenes) if known else [],
        "decision": found.decision,
        "text": listening_text(found),
        "by_scene": [
            {
                "seed": scene[0].seed,
                "texts": [one.text for one in told],
                "success": [one.success for one in told],
                "reached": [list(one.reached) for one in told],
                "followed": every_text_followed(told),
                "same": same_whatever_told(told),
            }
            for scene, told in zip(tested, scenes, strict=True)
        ],
    }


def stored_test(document: Mapping[str, Any]) -> LanguageTest:
    """The test that a document of `language_document` was made from."""
    rows = document["by_scene"]
    scenes: list[Scene] = [
        [
            Told(text, success, tuple(reached))
            for text, success, reached in zip(row["texts"], row["success"], row["reached"], strict=True)
        ]
        for row in rows
    ]
    return language_test(scenes)


def compare_followed(own: Mapping[str, Any], other: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The scenes in which every text was followed, of two results of the same scenes; None where these differ.

    own, other: documents of results.json. name: of the other policy.
    """
    sides = [{row["seed"]: row["followed"] for row in one["language"]["by_scene"]} for one in (own, other)]
    texts = [{row["seed"]: row["texts"] for row in one["language"]["by_scene"]} for one in (own, other)]
    if texts[0] != texts[1]:
        return None
    counts = PairedCounts.of(*sides)
    compared = compare_paired("the policy", name, counts)
    return {
        "both": counts.both, "only_policy": counts.only_a, "only_other": counts.only_b, "neither": counts.neither,
        "difference": compared.difference, "interval": list(compared.interval), "p_value": compared.p_value,
        "test": compared.test, "decision": compared.decision,
        "text": f"Where following every text of a scene counts as success: {compared.text}",
    }  # fmt: skip


def _told(run: Run) -> Told:
    return Told(run.instruction, run.success, tuple(run.reached))


def _row(share: Share) -> dict[str, Any]:
    """As rates stand in documents."""
    return {
        "episodes": share.episodes, "successes": share.successes, "success_rate": share.rate,
        "interval": list(share.interval),
    }  # fmt: skip


def _effect(found: LanguageTest) -> dict[str, Any]:
    counts = found.effect
    return {
        "with_text": counts.only_a,
        "against_text": counts.only_b,
        "neither": counts.neither,
        "difference": counts.difference,
        "interval": list(found.interval),
        "p_value": found.p_value,
        "test": "McNemar, exact",
    }


def _by_text(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """What was reached under the scenes' own texts, and under the others."""
    found = []
    for name, told in (
        ("own", [scene[0] for scene in scenes]), ("others", [one for scene in scenes for one in scene[1:]]),
    ):  # fmt: skip
        right, other = sum(one.success for one in told), sum(map(instead, told))
        found.append({"told": name, "episodes": len(told), "right": right, "other": other,
                      "nothing": len(told) - right - other})  # fmt: skip
    return found
