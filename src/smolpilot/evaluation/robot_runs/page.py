"""report.html of the folder of a robot run, and the CSV files behind its charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import RunLogError
from smolpilot.contracts.run_folder import LOG, REPORT, EpisodeEnd, RunFacts, read_episodes, read_facts
from smolpilot.contracts.run_log import RunLog, read_run_log
from smolpilot.evaluation.reports.report_page import Plots, render
from smolpilot.evaluation.reports.texts import known

from . import run_charts
from .measures import CLAMPS, EpisodeMeasures, RunMeasures, RunTable, Spread, measure
from .run_sentences import end_text, mark_text, run_notes, run_tone, run_verdict

_MOST_DRAWN = 6  # episodes whose motion is drawn
_MOST_STOPS = 100  # rows of the table


def write_run_report(folder: Path) -> Path:
    """Write report.html and plots/*.csv into the folder of a run, which may still go on; returns the page.

    A page that is there is replaced. RunLogError for a folder that is no run's, has no log, or is damaged otherwise
    than by a cut; OSError where it cannot be written.
    """
    facts, ends = read_facts(folder), read_episodes(folder)
    try:
        log = read_run_log(folder / LOG)
    except FileNotFoundError:
        raise RunLogError(
            f"{folder} has no {LOG}.", expected="the run log that `smolpilot run` writes: the run ended before it began"
        ) from None
    page = folder / REPORT
    write_text_atomic(page, run_page(log, facts, ends, folder))
    return page


def run_page(log: RunLog, facts: RunFacts, ends: list[EpisodeEnd], folder: Path) -> str:
    """The page; writes the CSV files behind its charts into `folder`."""
    found, table, plots = measure(log, facts, ends), RunTable(log), Plots(folder)
    name = "/".join(Path(facts.policy).parts[-2:]).lstrip("/")
    charts = [
        run_charts.age_chart(table.chunk_age, "chunk_age", plots),
        run_charts.age_chart(table.observation_age, "observation_age", plots),
        run_charts.late_chart(found, table.late, plots),
    ]
    return render(
        "robot_run.html.j2",
        found=found,
        run=facts,
        name=name,
        verdict=run_verdict(found, facts, name),
        tone=run_tone(found),
        notes=run_notes(found),
        episodes=[_episode_row(one) for one in found.episodes],
        stops=found.stops[:_MOST_STOPS],
        most_stops=_MOST_STOPS,
        clamp_flags=CLAMPS,
        clamps=run_charts.clamp_chart(found, table, plots),
        cadence=[one for one in charts if one is not None],
        times=_times(found),
        motion=[_motion(found, table, one, plots) for one in drawn_episodes(found)],
        drawn=_MOST_DRAWN,
        run_facts=_facts(facts),
    )


def drawn_episodes(found: RunMeasures) -> list[EpisodeMeasures]:
    """Those whose motion is drawn, in order: what went wrong before what did not, the earlier ones first."""

    def rank(episode: EpisodeMeasures) -> int:
        if episode.end is None or episode.end.ended == "stop":
            return 0
        return 1 if episode.end.mark == "failure" else 2

    kept = sorted((one for one in found.episodes if len(one.rows) > 1), key=rank)[:_MOST_DRAWN]
    return sorted(kept, key=lambda one: one.number)


def _motion(found: RunMeasures, table: RunTable, episode: EpisodeMeasures, plots: Plots) -> dict[str, Any]:
    seams = len(run_charts.seam_times(table, episode))
    return {
        "episode": episode,
        "mark": mark_text(episode),
        "ended": end_text(episode),
        "seams": seams,
        "charts": run_charts.motion_charts(table, episode),
        "legend": run_charts.motion_legend(found, seams),
        "csv": run_charts.motion_table(table, episode, plots),
    }


def _episode_row(episode: EpisodeMeasures) -> dict[str, Any]:
    end = episode.end
    turnarounds = Spread.of(end.turnarounds) if end is not None else None
    return {
        "measures": episode,
        "end": end,
        "mark": mark_text(episode),
        "tone": {"success": "good", "failure": "bad"}.get((end.mark if end is not None else None) or "", ""),
        "ended": end_text(episode),
        "turnaround": turnarounds.p50 if turnarounds is not None else None,
    }


def _times(found: RunMeasures) -> list[tuple[str, Spread]]:
    """The durations of the run, those that were measured: key of their text, quantiles."""
    rows = (
        ("chunk_age", found.chunk_age),
        ("observation_age", found.observation_age),
        ("turnaround", found.turnarounds),
        ("spacing", found.spacing),
        ("late", found.late),
    )
    return [(key, spread) for key, spread in rows if spread is not None]


def _facts(facts: RunFacts) -> dict[str, Any]:
    """What was run on what, as rows of a table."""
    return {
        "policy": facts.policy,
        "kind": facts.kind,
        "digest": facts.digest,
        "engine": facts.engine,
        "setup": facts.setup,
        "robot": facts.profile,
        "instruction": facts.instruction,
        "rate": f"{facts.rate:g} Hz",
        "policy_rate": f"{facts.policy_rate:g} Hz",
        "chunk_size": facts.chunk_size,
        "execution_horizon": facts.n_action_steps,
        "speed": f"{100 * facts.speed:g} %",
        "schedule": facts.schedule,
        "cameras": list(facts.cameras),
        "dry_run": facts.dry_run,
        "started_at": facts.started_at,
        "ended": facts.ended if facts.ended is not None else known("run_end", "cut_off"),
        "host": facts.host,
        "smolpilot": facts.smolpilot,
    }
