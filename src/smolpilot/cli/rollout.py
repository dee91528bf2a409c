"""`smolpilot rollout POLICY --env NAME --out DIR`: closed loop in an environment, success rate and video."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.json_input import to_plain
from smolpilot.common.progress import progress_bar
from smolpilot.common.streams import results_apart
from smolpilot.common.text import pluralize
from smolpilot.evaluation.eval_options import RolloutOptions
from smolpilot.version import __version__

from .parsing.opening import policy_options, print_end, say_cameras, say_opened
from .parsing.tables import table
from .parsing.verbs import Verb
from .recipes.rollout_recipe import recipe_of, rollout_recipe

if TYPE_CHECKING:
    from rich.table import Table

    from smolpilot.common.terminal import Terminal
    from smolpilot.contracts import EnvironmentSpec, Policy, PolicySpec
    from smolpilot.evaluation import RolloutResult, Run
    from smolpilot.evaluation.rollout.comparing import Side
    from smolpilot.evaluation.rollout.journal import Journal

_WIDEST = 1_000  # columns of a terminal: more than any table asks for
_EACH = 8  # environments in a worker, by default; a simulation that takes much memory says fewer
DEFAULT = "tabletop"  # the environment when none is named: what `smolpilot record` and `demo` use


def run(options: RolloutOptions) -> None:
    """Run the episodes; the results are written, whatever the success rate."""
    if recipe := recipe_of(options.policy):
        rollout_recipe(options, recipe, run)
        return
    from smolpilot.common.atomic import atomic_folder
    from smolpilot.environments import environment_factory
    from smolpilot.environments.making import named_task
    from smolpilot.evaluation import embodiment_in, rollout, write_rollout_report
    from smolpilot.evaluation.offline.metrics_document import to_json
    from smolpilot.evaluation.offline.policy_frames import frames_of
    from smolpilot.evaluation.provenance import describe_policy
    from smolpilot.evaluation.rollout.fit import check_fit, check_simulation
    from smolpilot.evaluation.rollout.journal import Journal
    from smolpilot.policies import open_policy

    name, settings = named_task(DEFAULT if options.env is None else options.env, options.env_settings)
    options = dataclasses.replace(options, env_settings=settings)
    with results_apart(options.json), atomic_folder(options.out) as folder, progress_bar() as progress:
        workers = _workers(name, options)
        make = environment_factory(name, options.env_settings)
        spec, facts = _spec_of(make, workers, options)
        against = _against(options, spec, facts)
        calibration = frames_of(options.calibrate_on) if options.calibrate_on is not None else None
        asked = policy_options(options, calibration, untrained=options.seed if options.untrained else None)
        with closing(open_policy(options.policy, asked, embodiment_in(spec))) as policy:
            opened = policy.spec.facts
            say_opened(opened)
            check_fit(policy.spec, spec)  # before the gate, which takes longer
            check_simulation(policy.spec, spec, facts, allowed=options.mixed_rendering)
            gate = _gate(name, options, facts, progress)
            journal = Journal(options.out, _settings(options, name, describe_policy(policy.spec), facts))
            ended = False
            try:
                result = rollout(
                    policy,
                    make,
                    episodes=options.episodes,
                    seed=options.seed,
                    swap_instruction=options.swap_instruction,
                    n_action_steps=options.n_action_steps,
                    video_episodes=options.video_episodes,
                    settings=options.env_settings,
                    untrained=options.untrained,
                    progress=progress,
                    workers=workers,
                    parallel=_parallel(name, options, workers is not None),
                    known=_known(journal, options),
                    on_episode=journal.add,
                    mixed_rendering=options.mixed_rendering,
                    gate=gate,
                )
                result = _add_language(result, policy, options, (make, workers), journal, progress)
                _add_floors(result, policy.spec, options, (name, make, workers), facts, progress)
                _add_verdict(result.document, against)
                write_rollout_report(folder, result)
                _write_for_others(folder, result.document)
                ended = True
            finally:
                if kept := journal.close(ended=ended):
                    said = f"{pluralize(kept, 'episode')} of this rollout are kept in {journal.folder}"
                    print(f"{said}: the same command resumes there.", file=sys.stderr)
    if options.json:
        print(to_json(result.document), end="")
    else:
        say_cameras(opened)
        _print(result.document, options)


def _workers(name: str, options: RolloutOptions) -> Callable[[int], Any] | None:
    """What makes the environments in processes of their own, where the options ask for it."""
    if options.jobs is None and options.env_python is None:
        return None
    from smolpilot.environments.worker_pool import WorkerPool
    from smolpilot.environments.worker_process import interpreter

    python = interpreter(options.env_python) if options.env_python is not None else None
    return lambda count: WorkerPool(name, options.env_settings, count, jobs=options.jobs or 1, python=python)


def _spec_of(
    make: Callable[[], Any], workers: Callable[[int], Any] | None, options: RolloutOptions
) -> tuple[EnvironmentSpec, Mapping[str, Any]]:
    """The environment's spec, and what it is simulated with, from one that is made for this alone.

    UsageError where texts are to be tested and the first scene has but one.
    """
    from smolpilot.evaluation.rollout.environment_pool import LocalPool
    from smolpilot.evaluation.rollout.language import require_texts

    with closing(LocalPool(make, 1) if workers is None else workers(1)) as pool:
        environment = pool.environments[0]
        facts = {"expert": getattr(environment, "has_expert", False), **getattr(environment, "facts", {})}
        if options.language:
            require_texts(environment, options.seed)
        return environment.spec, facts


def _against(options: RolloutOptions, spec: EnvironmentSpec, facts: Mapping[str, Any]) -> Side | None:
    """What the rollout will be compared with, looked at before anything is played."""
    if options.against is None:
        return None
    from smolpilot.datasets.simulation_record import simulation_facts
    from smolpilot.evaluation.rollout.comparing import Side, read_side, require_same_world

    other = read_side(options.against)
    world = {
        "env": spec.name, "goal": spec.goal, "swap_instruction": options.swap_instruction,
        "env_settings": options.env_settings, "simulation": simulation_facts(facts),
    }  # fmt: skip
    require_same_world(Side("the policy", Path(), "rollout", {}, True, world), other)
    return other


def _add_language(
    result: RolloutResult,
    policy: Policy,
    options: RolloutOptions,
    where: tuple[Callable[[], Any], Callable[[int], Any] | None],
    journal: Journal,
    progress: Callable[[str, int, int], None] | None,
) -> RolloutResult:
    """The result with the same scenes under their other texts, where these were asked for."""
    from smolpilot.evaluation.rollout.language import language_document, language_warnings, play_told
    from smolpilot.evaluation.rollout.results import LANGUAGE

    result.document["language"] = None
    if not options.language:
        return result
    make, workers = where
    known = journal.known(LANGUAGE)
    if known:
        print(f"Resuming: {pluralize(len(known), 'episode')} of before under other texts.", file=sys.stderr)
    told = play_told(
        policy,
        make,
        result.runs,
        n_action_steps=options.n_action_steps,
        workers=workers,
        parallel=_parallel(result.spec.name, options, workers is not None),
        known=known,
        on_episode=lambda run: journal.add(run, LANGUAGE),
        progress=progress,
    )
    result.document["language"] = language_document(result.runs, told)
    result.document["warnings"] += language_warnings(policy.spec, result.runs, told)
    return dataclasses.replace(result, told=told)


def _add_floors(
    result: RolloutResult,
    policy: PolicySpec,
    options: RolloutOptions,
    where: tuple[str, Callable[[], Any], Callable[[int], Any] | None],
    facts: Mapping[str, Any],
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Play the floors and the environment's expert on the same seeds, and put their rows into the document."""
    from smolpilot.environments.making import identity
    from smolpilot.evaluation import embodiment_in
    from smolpilot.evaluation.rollout.floor_cache import FloorCache
    from smolpilot.evaluation.rollout.floors import floor_rows, play_floors, recording_row
    from smolpilot.policies import open_policy
    from smolpilot.policies.floor_policies import code_of_floors, floors_of

    result.document["floors"] = []
    if not options.floors:
        return
    name, make, workers = where
    body = embodiment_in(result.spec)
    if not (body.action_range or all(joint.position_limits for joint in result.spec.profile.action_joints)):
        # Nobody knows the joints' limits: targets are drawn within the policy's demonstrations.
        body = dataclasses.replace(body, statistics=policy.statistics)
    known = identity(name, options.env_settings, facts)
    cache = None
    if known is not None:
        decides = {"swap": options.swap_instruction, "policies": code_of_floors(), "ranges": to_plain(body.statistics)}
        cache = FloorCache({**known, **decides})
    played, missing = play_floors(
        {
            one: functools.partial(open_policy, one, embodiment=body)
            for one in floors_of(body)
            if one != policy.facts.source
        },
        _floor_pool(options, name, make, workers),
        range(options.seed, options.seed + options.episodes),
        expert=bool(facts["expert"]),
        swap=options.swap_instruction,
        cache=cache,
        progress=progress,
    )
    result.document["floors"] = [*floor_rows(result.runs, played), *recording_row(result.document["gate"])]
    result.document["warnings"] += missing


def _floor_pool(
    options: RolloutOptions, name: str, make: Callable[[], Any], workers: Callable[[int], Any] | None
) -> Callable[[], Any]:
    """What opens environments for floors: one, or one for each process, since nobody plans for many at a time.

    A simulation that random targets break is in a process of its own: such an episode is no success there, and the
    others go on.
    """
    from smolpilot.environments.making import environment_maker
    from smolpilot.environments.worker_pool import WorkerPool
    from smolpilot.evaluation.rollout.environment_pool import LocalPool

    if workers is not None:
        return functools.partial(workers, options.jobs or 1)
    if environment_maker(name, options.env_settings).hosted:
        return functools.partial(LocalPool, make, 1)
    return functools.partial(WorkerPool, name, options.env_settings, 1, jobs=1)


def _add_verdict(document: dict[str, Any], against: Side | None) -> None:
    """The sentence on all of it, and the comparison that was asked for."""
    from smolpilot.evaluation.rollout.comparing import compare_against
    from smolpilot.evaluation.rollout.floors import verdict

    document["verdict"] = verdict(document)
    document["against"] = None if against is None else compare_against(document, against)


def _write_for_others(folder: Path, document: Mapping[str, Any]) -> None:
    """The same episodes as LeRobot and robostats write them."""
    from smolpilot.evaluation.rollout.eval_info import write_eval_info
    from smolpilot.evaluation.rollout.results import VIDEO
    from smolpilot.evaluation.rollout.robostats_lines import write_robostats

    write_eval_info(folder, document, VIDEO if (folder / VIDEO).is_file() else None)
    write_robostats(folder, document)


def _gate(
    name: str, options: RolloutOptions, facts: Mapping[str, Any], progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """What the environment's gate says, as results.json has it; SmolpilotError where it fails and --ungated is not
    given."""
    from smolpilot.environments.gates.gate_cache import kept_gate
    from smolpilot.environments.worker_process import interpreter

    python = interpreter(options.env_python) if options.env_python is not None else None
    gate = kept_gate(
        name, options.env_settings, facts, jobs=options.jobs or 1, python=python, progress=progress
    )  # fmt: skip
    failed = gate.verdict == "failed"
    if failed and not options.ungated:
        settings = [f"{key}={value}" for key, value in options.env_settings.items()]
        words = ["smolpilot", "env", "check", name, *(["--env-settings", *settings] if settings else [])]
        words += ["--env-python", str(options.env_python)] if options.env_python is not None else []
        raise SmolpilotError(
            f"No policy is scored in {name}, whose gate fails: {gate.text}",
            expected="demonstrations that succeed: passed or replay-exact",
            fix=f"change the settings or the packages until `{shlex.join(words)}` passes; --ungated scores all the "
            "same, and the report says so",
        )
    if failed:
        print(f"warning: --ungated: scored although the gate fails. {gate.text}", file=sys.stderr)
    return gate.document(overridden=failed)


def _parallel(name: str, options: RolloutOptions, workers: bool) -> int | None:
    from smolpilot.environments.installing import SIMULATORS, simulator

    if options.parallel is not None or not workers:
        return options.parallel
    return (getattr(simulator(name), "EACH", _EACH) if name in SIMULATORS else _EACH) * (options.jobs or 1)


def _settings(
    options: RolloutOptions, name: str, policy: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Whatever decides about an episode: a rollout that was killed resumes only where all of it is the same.

    facts: of the environment; another MuJoCo or GL, perhaps by --env-python, is another simulation.
    """
    chosen = {
        key: getattr(options, key)
        for key in ("env_settings", "seed", "swap_instruction", "n_action_steps", "num_steps", "untrained",
                    "camera_map", "policy_stats_from", "engine")
    }  # fmt: skip
    from smolpilot.datasets.simulation_record import simulation_facts
    from smolpilot.environments.described import identity

    own = {"smolpilot": __version__, "env": identity(name), "simulation": simulation_facts(facts)}
    return {**own, **chosen, "policy": policy}


def _known(journal: Journal, options: RolloutOptions) -> list[Run]:
    """The episodes of before, but for those that the video shows: their images are gone."""
    known = [run for run in journal.known() if run.seed >= options.seed + options.video_episodes]
    if known:
        print(f"Resuming: {pluralize(len(known), 'episode')} of before from {journal.folder}.", file=sys.stderr)
    return known


def _print(document: dict[str, Any], options: RolloutOptions) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    labels = list(document["failures"])
    rows = _by_group(document, labels)
    if console.measure(rows, options=console.options.update(max_width=_WIDEST)).maximum <= console.width:
        console.print(rows)
    else:  # the environment's words are too long for columns of this terminal
        console.print(_by_group(document, ()))
        said = (f"{label} {document['failures'][label]}" for label in labels)
        console.print(f"no success: {', '.join(said)}", soft_wrap=True)
    _print_floors(console, document)
    _print_language(console, document["language"])
    if (against := document["against"]) is not None:
        followed = [against["language"]["text"]] if against.get("language") else []
        for said in (against["text"], *followed, *against["notes"]):
            console.print(said, soft_wrap=True)
    console.print(document["what_it_shows"], soft_wrap=True)
    console.print("Gate: {verdict}. {text}".format(**document["gate"]), soft_wrap=True)
    print_end(console, document, document["verdict"]["text"], options.out)


def _by_group(document: Mapping[str, Any], labels: Sequence[str]) -> Table:
    """Success by group; how often each of the labels."""
    from smolpilot.evaluation.reports import interval, percent

    numbers = ("episodes", "success", "95 % interval", *labels)
    rows = table("episodes of", *numbers, numbers=numbers)
    groups = [(f"{row['group']} {row['value']}", row) for row in document["by_group"]]
    for name, row in [*groups, ("all", document)]:
        rows.add_row(
            name,
            str(row["episodes"]),
            f"{row['successes']} ({percent(row['success_rate'])})",
            interval(row["interval"]),
            *(str(row["failures"].get(label, 0)) for label in labels),
        )
    return rows


def _print_floors(console: Terminal, document: Mapping[str, Any]) -> None:
    """The policy and what needs none, in the same scenes."""
    from smolpilot.evaluation.rates.wording import p_value
    from smolpilot.evaluation.reports import interval, number, percent

    if not document["floors"]:
        return
    numbers = ("success", "95 % interval", "policy:it\nalone", "p")
    rows = table("same seeds", *numbers, "the policy is", numbers=numbers)
    both = [{"name": "the policy", "paired": None, **document}, *document["floors"]]
    for row in both:
        paired = row["paired"] or {}
        rows.add_row(
            row["name"],
            f"{row['successes']} ({percent(row['success_rate'])})",
            interval(row["interval"]),
            f"{paired['only_policy']}:{paired['only_other']}" if paired else "",
            p_value(paired["p_value"]) if paired else "",
            str(paired.get("decision", "")),
        )
    console.print(rows)
    for fact in document["facts"]:
        means = ", ".join(f"{row['name']} {number(row['facts'][fact], 3)}" for row in both if fact in row["facts"])
        console.print(f"mean {fact}: {means}", soft_wrap=True)


def _print_language(console: Terminal, found: Mapping[str, Any] | None) -> None:
    """Each scene under its texts: what was counted, and the verdict."""
    from smolpilot.evaluation.reports import interval, percent
    from smolpilot.evaluation.rollout.language import MEASURES

    if found is None:
        return
    numbers = ("share", "95 % interval")
    rows = table("texts of a scene", "of", *numbers, numbers=numbers)
    for name in MEASURES:
        if (row := found[name]) is not None:
            said, noun = _MEASURES[name]
            share = f"{row['successes']} of {row['episodes']} ({percent(row['success_rate'])})"
            rows.add_row(said, noun, share, interval(row["interval"]))
    console.print(rows)
    if one := found["scenes_with_one_text"]:
        console.print(f"{pluralize(one, 'scene')} with a single text left out", soft_wrap=True)
    console.print(found["text"], soft_wrap=True)


_MEASURES = {
    "right": ("success as told", "episodes"),
    "followed": ("every text followed", "scenes"),
    "other": ("another goal instead", "episodes"),
    "same": ("same goals whatever told", "scenes"),
}

VERB = Verb(RolloutOptions, run)
