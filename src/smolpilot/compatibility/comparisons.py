"""Comparisons that `preflight`, `train` and `eval` share, with the advice of the verb that asks. Loads no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, is_still
from smolpilot.contracts import TOKENS
from smolpilot.contracts.trained_on import other_rate, same_speed
from smolpilot.datasets.statistics.stored_statistics import disagreements, leave_out, outliers
from smolpilot.robots.demonstrated_table import origin_text, table_lines

from .statistics_distance import hardly_moves, listed_far, measure, nearness
from .verdict import Line, Verb

if TYPE_CHECKING:
    from smolpilot.contracts import Policy, TokenizedPolicy
    from smolpilot.datasets import Dataset
    from smolpilot.robots.demonstrated import Demonstrated

_LISTED = 3


def number_lines(dataset: Dataset, stored: Statistics, computed: Statistics, verb: Verb) -> Iterator[Line]:
    """Stored statistics beside those of the frames, joints that never move, numbers that no motion explains."""
    yield from stored_lines(dataset, stored, computed, verb)
    yield from still_lines(dataset, computed)
    for found in outliers(dataset):
        yield Line(
            "numbers",
            "error" if found.absurd else "warning",
            found.text(),
            leave_out(dataset, found.episodes)
            if found.absurd
            else f"look at it: smolpilot dataset view {_root(dataset)}",
        )


def stored_lines(dataset: Dataset, stored: Statistics, computed: Statistics, verb: Verb) -> Iterator[Line]:
    """Whether the stored statistics of state and action are those of the frames; what is normalized by never is stored.

    An error before training, although the computed ones are used: every other tool reads the file. `eval` reads
    neither, so a warning there.
    """
    found = disagreements(stored, computed, dataset)
    if not found:
        if verb != "eval":
            yield Line("statistics", "ok", f"computed from {len(dataset):,} frames; nothing stored differs from them")
        return
    texts = "; ".join(one.text() for one in found[:_LISTED])
    more = f"; and {len(found) - _LISTED} more joints" if len(found) > _LISTED else ""
    root = _root(dataset)
    yield Line(
        "statistics",
        "warning" if verb == "eval" else "error",
        f"the stored statistics are not those of the frames: {texts}{more}",
        f"`smolpilot dataset check {root}` says more, `smolpilot dataset repair {root} NEW` computes them anew",
    )


def still_lines(dataset: Dataset, computed: Statistics) -> Iterator[Line]:
    """Joints that never move, but for float noise."""
    for key, names in ((STATE, dataset.meta.state_names), (ACTION, dataset.meta.action_names)):
        resting = is_still(computed[key]["min"], computed[key]["max"])
        still = [name for name, rests in zip(names, resting, strict=True) if rests]
        if still:
            text = f"{key}: without any motion: {', '.join(still[:5])}" + (", ..." if len(still) > 5 else "")
            yield Line("statistics", "warning", text, "a policy keeps them where they are")


def drift_lines(
    policy: Statistics, own: Statistics, state: Sequence[str], action: Sequence[str], verb: Verb, *, sure: bool = True
) -> Iterator[Line]:
    """How far the dataset lies from the policy's statistics, both in the policy's order and units.

    sure: whether joints are matched by name; by position alone a great distance is only a warning.
    """
    for key, joints in ((STATE, state), (ACTION, action)):
        found = measure(policy, own, key, joints)
        if not found:
            continue
        far = [one for one in found if one.far]
        fix = "check the units (--units)" if verb == "eval" else "check the units of both (--units)"
        if far:
            text = f"{key}: far from the policy's statistics: {listed_far(far)}"
            yield Line("statistics", "error" if sure else "warning", text, fix)
        elif still := hardly_moves(found):
            yield Line("statistics", "warning", still, fix)
        else:
            yield Line("statistics", "ok", nearness(found))


def rate_lines(trained: float | None, own: float, verb: Verb, who: str = "the policy") -> Iterator[Line]:
    """The rate of a dataset against that of the policy's training."""
    text = other_rate(trained, own, who)
    if trained is None or text is None:
        return
    fix = (
        same_speed(trained)
        if verb == "eval"
        else f"train on datasets of {trained:g} frames per second, or long enough to unlearn the old speed"
    )
    yield Line("rate", "warning", text, fix)


def limit_lines(demonstrated: Demonstrated, whose: str) -> Iterator[Line]:
    """Limits and start poses of demonstrations as a table; `whose` they are, as "training keeps in the bundle"."""
    text = [f"{whose}: {origin_text(demonstrated)}", *table_lines(demonstrated)]
    yield Line("operating limits", "ok", "\n".join(text))


def faster_lines(own: Demonstrated, parent: Demonstrated) -> Iterator[Line]:
    """Joints that a dataset moves faster than the limits which the policy kept of its demonstrations."""
    faster = []
    for joint in own.joints:
        limit = parent.limits_of(joint.name)
        if limit is None or limit.unit != joint.unit or limit.velocity is None or joint.velocity is None:
            continue
        speed = joint.velocity / own.factor
        if speed > limit.velocity:
            faster.append(f"{joint.name} {speed:.4g} {joint.unit}/s (limit {limit.velocity:.4g})")
    if faster:
        more = f" and {len(faster) - _LISTED} more" if len(faster) > _LISTED else ""
        found = f"the dataset moves faster than the policy's limits allow: {'; '.join(faster[:_LISTED])}{more}"
        fix = "check the units (--units) and the rate; training keeps the higher limits"
        yield Line("operating limits", "warning", found, fix)


def instruction_lines(dataset: Dataset, policy: Policy | None, given: str | None, verb: Verb) -> Iterator[Line]:
    """The recorded instructions, and the given one: none empty, none too long, none unknown to policy and dataset."""
    recorded = [text.strip() for text in dataset.instructions]
    root = _root(dataset)
    if any(not text for text in recorded):
        yield Line("instruction", "error", "some frames have an empty instruction",
                   f"smolpilot dataset tasks {root} NEW --set 'EPISODES=text' gives them one")  # fmt: skip
    asked = given.strip() if given is not None else None
    long = [] if policy is None else list(length_lines(dataset, [*recorded, *([asked] if asked else [])], policy, verb))
    yield from long
    known = list(dict.fromkeys([*([] if policy is None else map(str.strip, policy.spec.instructions)), *recorded]))
    if asked is None:
        if not long:
            yield Line("instruction", "ok", f"{len(recorded)} recorded: {'; '.join(recorded[:3])}"
                       + (" ..." if len(recorded) > 3 else ""))  # fmt: skip
    elif asked in known:
        yield Line("instruction", "ok", f"“{asked}” is a trained instruction")
    else:
        nearest = difflib.get_close_matches(asked, known, n=1, cutoff=0.0)
        yield Line("instruction", "error", f"“{asked}” was never recorded or trained",
                   f"say “{nearest[0]}”" if nearest else "record it")  # fmt: skip


def length_lines(dataset: Dataset, texts: Sequence[str], policy: Policy, verb: Verb) -> Iterator[Line]:
    """Instructions for which the policy has no room: their end would be cut off. Nothing where it does not say."""
    if TOKENS not in policy.spec.capabilities:
        return
    tokenized = cast("TokenizedPolicy", policy)
    room, long = 0, []
    for text in filter(None, dict.fromkeys(texts)):  # an empty text has its own line
        length, room = tokenized.token_room(text)
        if length > room:
            long.append((length, text))
    if not long:
        return
    longest, text = max(long)
    number = next((index for index, own in dataset.meta.tasks.items() if own.strip() == text), None)
    rename = f"smolpilot dataset tasks {_root(dataset)} NEW --rename {number}='shorter text'"
    raised = f"or make room for it: --max-tokens {-(-longest // 16) * 16}"
    who = "an instruction" if len(long) == 1 else f"{len(long)} of {len(set(texts))} instructions: the longest"
    more = " (the limit was set in training)" if verb == "eval" else f"; {raised}"
    found = f"{who} has {longest} tokens, the policy reads at most {room}: “{text}”"
    shorten = "use a shorter --instruction" if number is None else f"shorten it: {rename}"
    yield Line("instruction", "error", found, f"{shorten}{more}", final=True)


def _root(dataset: Dataset) -> str:
    return str(dataset.meta.root)
