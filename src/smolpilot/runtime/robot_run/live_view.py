"""What `smolpilot run` shows: one snapshot, as high as the terminal allows. Loaded late: it needs rich."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from smolpilot.common.text import plain, pluralize

from ..governor.options import GovernorOptions
from ..inspection.live_cells import BAR, Form, age_text, number_text, position_bar, value_at
from .snapshot import Key, Phase, Snapshot

FORMS = (
    Form(BAR, 3),
    Form(BAR, 2, ("ends",)),
    Form(BAR, 1, ("ends",)),
    Form(13, 1, ("ends",)),
    Form(9, 1, ("ends", "unit")),
    Form(7, 1, ("ends", "unit", "clamps", "commanded")),
    Form(7, 1, ("ends", "unit", "clamps", "commanded", "planned", "°C")),
)
"""From the widest to the narrowest; `ends` are the numbers at the ends of the bar."""
SILENT = 1.0
"""Seconds without a snapshot after which what is shown is called old."""

_COLUMNS = ("joint", "measured", "commanded", "planned", "unit", "limits", "clamps", "°C")
_NUMBERS = ("measured", "commanded", "planned", "clamps", "°C")
_USUAL = GovernorOptions()  # a setup may allow more or less; this is for the colors only
_WARM, _HOT = 55.0, 65.0  # degrees: a servo that holds gets to 50; STS3215 switch themselves off at 70
_SLOW, _TOO_SLOW = 0.98, 0.9  # of the rate
_OUTSIDE = 2.0  # of a joint's range: shown before all that move
_STEP = 0.02  # of a joint's range: less is no motion, so that rows of an arm that rests do not change places
_GAP = "   "
_LOW = 14  # lines: a lower terminal shows what must be known, and no rates
_LEGEND = "● now ○ sent ━ plan"
_NAME, _LEAST_NAME, _UNIT, _LEAST_ROWS, _MARKS = 28, 12, 8, 3, 30
_STYLES = {
    Phase.READY: "bold black on cyan",
    Phase.APPROACH: "bold black on yellow",
    Phase.AT_START: "bold black on cyan",
    Phase.RUNNING: "bold white on green",
    Phase.STOPPED: "bold white on red",
    Phase.PARKING: "bold black on yellow",
    Phase.ENDED: "bold",
}
_SIGNS = {"success": ("✓", "green"), "failure": ("✗", "red"), None: ("·", "")}
_PRESSED = {Key.STOP: "space", Key.ENTER: "Enter", Key.SUCCESS: "s", Key.FAILURE: "f", Key.QUIT: "q"}
_STOPS = (Key.STOP, "stop and hold")
KEYS: dict[Phase, tuple[tuple[Key, str], ...]] = {
    Phase.READY: (
        (Key.ENTER, "to the start"),
        (Key.SUCCESS, "success"),
        (Key.FAILURE, "failure (last one)"),
        (Key.QUIT, "park and end"),
    ),
    Phase.APPROACH: (_STOPS, (Key.QUIT, "park and end")),
    Phase.AT_START: ((Key.ENTER, "start the episode"), _STOPS, (Key.QUIT, "park and end")),
    Phase.RUNNING: (_STOPS, (Key.SUCCESS, "success"), (Key.FAILURE, "failure"), (Key.QUIT, "park and end")),
    Phase.STOPPED: ((Key.ENTER, "lift the stop, nothing moves yet"), (Key.QUIT, "end the run")),
    Phase.PARKING: (_STOPS,),
    Phase.ENDED: (),
}
"""What each key does in each phase, in words."""
DRY_KEYS: dict[Phase, tuple[tuple[Key, str], ...]] = {
    Phase.READY: ((Key.ENTER, "start the episode"), (Key.QUIT, "end the run")),
    Phase.RUNNING: (_STOPS, (Key.SUCCESS, "success"), (Key.FAILURE, "failure"), (Key.QUIT, "end the run")),
}
"""Where nothing moves."""
_MOVES = (Phase.APPROACH, Phase.RUNNING, Phase.PARKING)
"""The phases in which a key may have to be held."""


@dataclass(frozen=True)
class RunView:
    """A snapshot for a terminal of any size; at 80x24 six joints with all their numbers.

    silent: seconds since it came, infinite where none follows. keys: whether there is a keyboard; else Ctrl-C is named.
    Where joints do not fit, those are shown that move most, and those without an answer or outside their limits before
    them.
    """

    snapshot: Snapshot
    silent: float = 0.0
    keys: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        one, width, height = self.snapshot, options.max_width, options.max_height
        head, foot = self._head(width), _filled(self._foot(), width)
        rates = [*_filled(_rates(one), width), *_filled(_ages(one), width)]
        if height >= _LOW:
            head += rates
        beside = [*_filled(_cameras(one), width), *_filled(_marks(one), width)]
        joints = 1 + len(one.joints)
        least = min(joints, 1 + _LEAST_ROWS)
        stop = _stop(one, console, width, height - len(head) - len(foot) - least)
        room = height - len(head) - len(foot) - len(stop)
        if room - len(beside) < least:
            beside = []  # what a person can do without
        room -= len(beside)
        blanks = min(2, max(0, room - joints))
        yield from [*head, *[Text("")] * (blanks > 0)]
        yield from _joints(one, max(2, room - blanks), width)
        yield from [*beside, *stop, *[Text("")] * (blanks > 1), *foot]

    def _head(self, width: int) -> list[Text]:
        one = self.snapshot
        parts = [Text(f" {one.phase.upper()} ", _STYLES[one.phase])]
        if one.dry_run:
            parts.append(Text(" DRY RUN: NO MOTOR MOVES ", "bold white on magenta"))
        of = "" if one.of_seconds is None else f" of {one.of_seconds:.0f}"
        parts += [Text(f"episode {one.episode} of {one.episodes}"), Text(f"{one.seconds:.1f}{of} s")]
        lines = _filled([*parts, Text(plain(one.schedule))], width)
        lines.append(Text(plain(one.instruction), "bold", no_wrap=True, overflow="ellipsis"))
        if self.silent > SILENT and one.phase is not Phase.ENDED:
            said = (
                "The control process has ended. This is the last that it told."
                if math.isinf(self.silent)
                else f"Nothing heard from the control process for {self.silent:.0f} s: what is shown is old."
            )
            lines.insert(0, Text(said, "bold white on red", no_wrap=True, overflow="ellipsis"))
        return lines

    def _foot(self) -> list[Text]:
        one = self.snapshot
        if one.phase is Phase.ENDED or math.isinf(self.silent):
            return [Text("The run has ended.")]
        if not self.keys:
            return [Text.assemble(("Ctrl-C", "bold"), ": stop and hold, and end the run"), Text("(no keyboard here)")]
        parts = []
        hold = None if one.hold_to_run is None else plain(one.hold_to_run.lower(), _NAME)
        if hold is not None and one.phase in _MOVES:
            parts.append(Text.assemble((f"hold {hold}", "bold reverse"), ": it moves; let go: it stops"))
        for key, words in (DRY_KEYS if one.dry_run else KEYS).get(one.phase, KEYS[one.phase]):
            if hold is not None and key is Key.ENTER and one.phase is not Phase.STOPPED:
                parts.append(Text.assemble((f"hold {hold}", "bold reverse"), f": {words}"))
            elif _PRESSED[key] != hold:
                parts.append(Text.assemble((_PRESSED[key], "bold"), f": {words}"))
        return parts


def _rates(one: Snapshot) -> list[Text]:
    runs = one.phase is Phase.RUNNING
    share = _known(one.achieved) / one.rate if one.rate > 0 else math.nan
    period = 1_000 / one.rate if one.rate > 0 else math.inf
    achieved = f"{one.achieved:.1f}" if _is_known(one.achieved) else "-"
    late = "-" if not _is_known(one.late_ms) else f"{one.late_ms:.1f} ms"
    return [
        Text(f"{achieved} of {one.rate:g} Hz", _grade(-share, -_SLOW, -_TOO_SLOW)),
        Text(f"late {late}", _grade(_known(one.late_ms), period / 2, period)),
        Text(f"missed {one.missed}", "yellow" if one.missed else ""),
        Text(f"starved {one.starved}", "yellow" if one.starved else ""),
        Text(f"queued {one.queued:.2f} s", "red" if runs and one.queued * one.rate < 1 else ""),
    ]


def _ages(one: Snapshot) -> list[Text]:
    waiting = "red" if one.phase is Phase.RUNNING and _known(one.waiting) > one.queued else ""
    parts = [
        Text.assemble("turnaround ", _age(one.turnaround, math.inf)),
        Text.assemble("waiting ", _age(one.waiting, math.inf), style=waiting),
        Text.assemble("observation ", _age(one.observation_age, _USUAL.max_image_age)),
        Text.assemble("chunk ", _age(one.chunk_age, _USUAL.max_chunk_age)),
    ]
    if not one.policy_alive:
        parts.append(Text("the policy's process is gone", "bold red"))
    return parts


def _cameras(one: Snapshot) -> list[Text]:
    ages = one.camera_ages.items()
    names = [Text.assemble(f"{plain(name, _NAME)} ", _age(age, _USUAL.max_image_age, "no image")) for name, age in ages]
    return [Text("cameras"), *names] if names else []


def _marks(one: Snapshot) -> list[Text]:
    if not one.marks:
        return []
    counts = [(word, one.marks.count(word)) for word in ("success", "failure")]
    said = [f"{count} {word}" for word, count in counts]
    unsaid = len(one.marks) - sum(count for _, count in counts)
    found = Text("..." if len(one.marks) > _MARKS else "")
    for mark in one.marks[-_MARKS:]:
        found.append(*_SIGNS.get(mark, _SIGNS[None]))
    return [Text("marks"), Text(f"{', '.join(said)}{f', {unsaid} without' if unsaid else ''}"), found]


def _stop(one: Snapshot, console: Console, width: int, most: int) -> list[Text]:
    """The stop in force, and why nothing came of a key: in full, where the terminal is not smaller than that."""
    said = [] if one.stop is None else [Text(f"STOPPED: {plain(one.stop)}", "bold red")]
    said += [] if one.notice is None else [Text(plain(one.notice), "bold yellow")]
    lines = [line for text in said for line in text.wrap(console, width)]
    if not lines:
        return []
    if len(lines) > (most := max(1, most)):
        lines = lines[:most]
        lines[-1].truncate(width - 1)
        lines[-1].append("…")
    return lines


def _joints(one: Snapshot, rows: int, width: int) -> list[Text]:
    """A table of so many lines; the last one tells how many joints are missing."""
    count = len(one.joints)
    shown = list(range(count))
    if count + 1 > rows:
        shown = sorted(sorted(shown, key=lambda index: -_motion(one, index))[: max(1, rows - 2)])
    lines = _table(one, shown, width)
    if len(shown) < count and rows > 2:
        lines.append(Text(f"{pluralize(count - len(shown), 'joint')} not shown: they move less", "italic"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _table(one: Snapshot, shown: Sequence[int], width: int) -> list[Text]:
    """Head and rows in the widest form that fits. rich's own table would take a third of a core for 64 joints."""
    rows = [{name: Text(name, "dim") for name in _COLUMNS}, *(_cells(one, index) for index in shown)]
    limits = [(value_at(one.low, index), value_at(one.high, index)) for index in shown]
    ends = [(f"{_end(low)} ", f" {_end(high)}") for low, high in limits]
    left, right = (max((len(end[side]) for end in ends), default=0) for side in (0, 1))
    for form in FORMS:
        told = "ends" not in form.without
        columns = [name for name in _COLUMNS if name not in form.without]
        widths = {name: max(row[name].cell_len for row in rows if name in row) for name in columns}
        widths["limits"] = max(form.bar, len("limits")) + (left + right if told else 0)
        if form is FORMS[-1]:
            widths["joint"] = min(widths["joint"], _LEAST_NAME)
        if sum(widths.values()) + form.gap * (len(columns) - 1) <= width:
            break
    rows[0]["limits"] = Text(_LEGEND if form.bar >= len(_LEGEND) else "limits", "dim")
    rows[0]["limits"].pad_left(left if told else 0)
    for row, index, (low, high), (first, last) in zip(rows[1:], shown, limits, ends, strict=True):
        bar = _bar(one, index, low, high, form.bar)
        row["limits"] = Text.assemble(first.rjust(left), bar, last) if told else bar
    return [Text(" " * form.gap).join(_fitted(row[name], name, widths[name]) for name in columns) for row in rows]


def _end(limit: float) -> str:
    return f"{limit:.4g}" if math.isfinite(limit) else "?"


def _fitted(cell: Text, column: str, width: int) -> Text:
    cell.truncate(width, overflow="ellipsis")
    space = width - cell.cell_len
    return Text.assemble(" " * space, cell) if column in _NUMBERS else Text.assemble(cell, " " * space)


def _bar(one: Snapshot, index: int, low: float, high: float, letters: int) -> Text:
    planned = _planned(one, index)
    ahead = (min(planned), max(planned)) if planned else (math.nan, math.nan)
    sent = value_at(one.commanded, index)
    bar = Text(position_bar(value_at(one.measured, index), low, high, letters, commanded=sent, planned=ahead))
    bar.highlight_words("━○", "cyan")
    bar.highlight_words("●", "bold green")
    bar.highlight_words("◀▶", "bold red")
    return bar


def _cells(one: Snapshot, index: int) -> dict[str, Text]:
    """All of a row but the bar, whose width depends on the others."""
    low, high = value_at(one.low, index), value_at(one.high, index)
    measured, commanded = value_at(one.measured, index), value_at(one.commanded, index)
    planned = _planned(one, index)
    digits = ".2f" if not high - low < 10 else ".3f"
    end = number_text(planned[-1] if planned else math.nan, digits)
    if planned and not low <= planned[-1] <= high:
        end.stylize("yellow")
    name = str(one.joints[index])
    clamps = one.clamped.get(name, 0)
    heat = value_at(one.temperatures, index)
    return {
        "joint": Text(plain(name, _NAME)),
        "measured": number_text(measured, digits, "no answer"),
        "commanded": number_text(commanded, digits),
        "planned": end,
        "unit": Text(plain(one.units[index], _UNIT) if index < len(one.units) else ""),
        "clamps": Text(str(clamps) if clamps else "", "yellow"),
        "°C": Text(f"{heat:.0f}" if math.isfinite(heat) else "", _grade(heat, _WARM, _HOT)),
    }


def _motion(one: Snapshot, index: int) -> float:
    """How far a joint goes, as a share of its range in steps; one that needs to be looked at goes before all."""
    low, high, measured = (value_at(values, index) for values in (one.low, one.high, one.measured))
    if not low <= measured <= high:
        return _OUTSIDE
    points = [measured, *(x for x in (value_at(one.commanded, index), *_planned(one, index)) if math.isfinite(x))]
    share = (max(points) - min(points)) / (high - low) if high > low else 0.0
    return min(1.0, round(share / _STEP) * _STEP) if math.isfinite(share) else 1.0


def _planned(one: Snapshot, index: int) -> list[float]:
    """What is ahead for one joint, as far as it is known."""
    return [value for value in (value_at(action, index) for action in one.planned) if math.isfinite(value)]


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _is_known(value: float | None) -> bool:
    return math.isfinite(_known(value))


def _age(seconds: float | None, most: float, unknown: str = "-") -> Text:
    if not _is_known(seconds):
        return Text(unknown, "" if unknown == "-" else "red")
    return age_text(_known(seconds), most)


def _grade(value: float, much: float, too_much: float) -> str:
    return "red" if value > too_much else "yellow" if value > much else ""


def _filled(parts: Iterable[Text], width: int) -> list[Text]:
    """Parts side by side, in as many lines as they need; none is torn where a line ends."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(_GAP) + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], _GAP, part)
        else:
            lines.append(part)
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines
