"""`smolpilot preflight`: dataset, policy, robot and instruction against each other, a verdict per line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from smolpilot.common.text import json_text, plain_lines, pluralize
from smolpilot.selftest.preflight_options import PreflightOptions

from .parsing.verbs import Verb

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def run(options: PreflightOptions) -> int:
    """Check; 1 when a line is an error, 0 otherwise."""
    from smolpilot.selftest.preflight import preflight

    lines = preflight(options)
    if options.json:
        print(json_text([line.to_json() for line in lines]))
    else:
        _print([(line.topic, line.verdict, line.found, line.fix) for line in lines])
        print(f"\n{_summary([line.verdict for line in lines], options)}")
    return 1 if any(line.verdict == "error" for line in lines) else 0


def _summary(verdicts: Sequence[str], options: PreflightOptions) -> str:
    """How many lines are what, and the next command."""
    errors, warnings = verdicts.count("error"), verdicts.count("warning")
    found = [pluralize(count, name) for count, name in ((errors, "error"), (warnings, "warning")) if count]
    counts = ", ".join([*found, f"{verdicts.count('ok')} ok"])
    if errors:
        return f"Not ready: {counts}. `train` stops at these errors, too; the last column says what to do."
    return f"Ready: {counts}. Next: {_train_command(options)}"


def _train_command(options: PreflightOptions) -> str:
    """`smolpilot train` with what was given here; capitals stand for what was not."""
    words = ["smolpilot", "train", "--dataset", str(options.dataset)]
    words += ["--units", *(f"{name}={unit}" for name, unit in options.units.items())] if options.units else []
    words += ["--policy", options.policy or "POLICY"]
    for name in ("robot", "policy_stats_from", "tokenizer"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--out", "RUN", "--steps", "20000"])


def _print(lines: list[tuple[str, str, str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from smolpilot.common.terminal import Terminal

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "", "found", "what to do"):
        table.add_column(column, overflow="fold")
    further: list[str] = []
    for topic, verdict, found, fix in lines:
        # A table within is too wide for a column: it follows below.
        first, _, below = found.partition("\n")
        table.add_row(topic, Text(verdict, style=_STYLES[verdict]), Text(first), Text(fix))
        further += [f"\n{topic}:\n{below}"] if below else []
    Terminal().print(table)
    for text in further:
        print(plain_lines(text))


VERB = Verb(PreflightOptions, run)
