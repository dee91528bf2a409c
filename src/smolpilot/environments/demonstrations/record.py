"""`record`: whose expert demonstrates, and what is asked of it where the options leave it open."""

from __future__ import annotations

import dataclasses
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.environments.making import checked_settings, named_task
from smolpilot.environments.worker_process import interpreter

from .record_options import RecordOptions
from .recorder import Expert, record_expert, recorded_episodes, require_expert
from .summary import RecordSummary
from .takes import Progress

TABLETOP = "tabletop"
_EPISODES, _TABLETOP_EPISODES = 50, 300
_NOISE = {TABLETOP: 0.03, "aloha": 0.005}  # rad; of others none unless asked for
_PACE = {"aloha": 0.1}


def record_demonstrations(options: RecordOptions, progress: Progress | None = None) -> RecordSummary:
    """Write the dataset that the options ask for. UsageError for options that the environment does not know."""
    env, settings = named_task(options.env, options.env_settings)
    options = dataclasses.replace(options, env=env, env_settings=settings)
    noise = _NOISE.get(options.env, 0.0) if options.noise is None else options.noise
    if options.env == TABLETOP:
        return _record_tabletop(options, noise, progress)
    require_expert(options.env)
    for name in ("colors", "target"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} is an option of the tabletop, not of {options.env}.",
                fix="settings of an environment: --env-settings NAME=VALUE",
            )
    vary = _PACE.get(options.env, 0.0) if options.vary_timing is None else options.vary_timing
    return record_expert(
        options.env,
        checked_settings(options.env, options.env_settings),
        options.out,
        _all_of(options) if options.episodes is None else options.episodes,
        options.seed,
        expert=Expert(noise, vary),
        keep_failures=options.keep_failures,
        jobs=options.jobs,
        python=interpreter(options.env_python) if options.env_python is not None else None,
        codec=options.codec,
        progress=progress,
    )


def _all_of(options: RecordOptions) -> int:
    """How many episodes to record by default: of people's all from the seed on."""
    recorded = recorded_episodes(options.env)
    return (recorded - options.seed if options.seed < recorded else recorded) or _EPISODES


def _record_tabletop(options: RecordOptions, noise: float, progress: Progress | None) -> RecordSummary:
    from smolpilot.environments.tabletop.colors import DEFAULT_COLORS
    from smolpilot.environments.tabletop.recording import record

    for given, name in ((options.vary_timing, "--vary-timing"), (options.env_python, "--env-python")):
        if given is not None:
            raise UsageError(f"{name} has no meaning for the tabletop.", fix="leave it out")
    settings: dict[str, Any] = checked_settings(TABLETOP, options.env_settings)
    for name in ("colors", "target"):
        given = getattr(options, name)
        if given is not None and name in settings:
            raise UsageError(f"--{name} and --env-settings {name}= say the same.", fix=f"leave --{name} out")
    colors = options.colors or settings.get("colors") or DEFAULT_COLORS
    return record(
        options.out,
        _TABLETOP_EPISODES if options.episodes is None else options.episodes,
        options.seed,
        noise=noise,
        colors=colors,
        target=options.target or settings.get("target"),
        keep_failures=options.keep_failures,
        codec=options.codec,
        progress=progress,
    )
