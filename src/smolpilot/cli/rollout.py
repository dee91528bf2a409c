"""`smolpilot rollout POLICY --env NAME --out DIR`: closed loop in an environment, success rate and video."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from smolpilot.common.progress import progress_bar
from smolpilot.common.streams import results_apart
from smolpilot.evaluation.eval_options import RolloutOptions

from .parsing.opening import policy_options, print_end, say_cameras, say_opened
from .parsing.tables import table
from .parsing.verbs import Verb

DEFAULT = "tabletop"  # the environment when none is named: what `smolpilot record` and `demo` use


def run(options: RolloutOptions) -> None:
    """Run the episodes; the results are written, whatever the success rate."""
    from smolpilot.common.atomic import atomic_folder
    from smolpilot.environments import environment_factory
    from smolpilot.evaluation import embodiment_in, rollout, write_rollout_report
    from smolpilot.evaluation.offline.metrics_document import to_json
    from smolpilot.evaluation.offline.policy_frames import frames_of
    from smolpilot.evaluation.rollout.checked_environment import close_environment
    from smolpilot.policies import open_policy

    with results_apart(options.json), atomic_folder(options.out) as folder, progress_bar() as progress:
        make = environment_factory(DEFAULT if options.env is None else options.env, options.env_settings)
        world = make()
        embodiment = embodiment_in(world.spec)
        close_environment(world)
        calibration = frames_of(options.calibrate_on) if options.calibrate_on is not None else None
        asked = policy_options(options, calibration, untrained=options.seed if options.untrained else None)
        with closing(open_policy(options.policy, asked, embodiment)) as policy:
            opened = policy.spec.facts
            say_opened(opened)
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
            )
        write_rollout_report(folder, result)
    if options.json:
        print(to_json(result.document), end="")
    else:
        say_cameras(opened)
        _print(result.document, options)


def _print(document: dict[str, Any], options: RolloutOptions) -> None:
    from smolpilot.common.terminal import Terminal
    from smolpilot.evaluation.reports import interval, percent

    console = Terminal()
    labels = list(document["failures"])
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
    console.print(rows)
    print_end(console, document, document["text"], options.out)


VERB = Verb(RolloutOptions, run)
