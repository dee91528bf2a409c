"""The sentences that the page of a robot run begins with, in both languages."""

from __future__ import annotations

from smolpilot.contracts.run_folder import RunFacts
from smolpilot.evaluation.rates.wording import rate_text
from smolpilot.evaluation.reports.texts import Both, Text, counted, joined, known, say

from .measures import EpisodeMeasures, RunMeasures


def run_verdict(found: RunMeasures, facts: RunFacts, name: str) -> Both:
    """Success by the operator's marks with its interval, episodes without one, and stops."""
    names = {"policy": name, "setup": facts.setup}
    parts: list[Text] = []
    if not found.episodes:
        parts.append(say("run.no_episode", **names))
    elif found.marked:
        counts = found.successes, found.marked
        rate = Both(rate_text(*counts), rate_text(*counts, language="zh"))
        parts.append(say("run.rate", rate=rate, **names))
        if found.unmarked:
            parts.append(say("run.unmarked", episodes=counted(found.unmarked, "episode")))
    else:
        parts.append(say("run.no_marks", episodes=counted(found.unmarked, "episode"), **names))
    if found.stops:
        last = found.stops[-1]
        key = "run.stop" if len(found.stops) == 1 else "run.stops"
        parts.append(say(key, count=len(found.stops), episode=last.episode, reason=last.reason.rstrip(".")))
    return joined(*parts)


def run_notes(found: RunMeasures) -> list[Both]:
    """What whoever reads the page has to know of the run as a whole."""
    keys = (("dry", found.dry_run), ("cut_off", found.cut_off), ("torn", found.torn), ("empty", not found.ticks))
    return [say(f"run.note_{key}") for key, holds in keys if holds]


def run_tone(found: RunMeasures) -> str:
    """warn where the run stopped or was cut off; a rate alone is neither good nor bad."""
    return "warn" if found.stops or found.cut_off else "plain"


def end_text(episode: EpisodeMeasures) -> Text:
    """How an episode ended."""
    return known("run_end", "cut_off" if episode.end is None else episode.end.ended)


def mark_text(episode: EpisodeMeasures) -> Text:
    """What the operator said of an episode."""
    mark = None if episode.end is None else episode.end.mark
    return known("run_mark", mark or "none")
