"""The same scene under each of its texts: whether what a policy is told decides what it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .intervals import Interval, clustered_interval, rate_interval
from .paired import PairedCounts, mcnemar, tango_interval
from .power import ALPHA

Listening = Literal["follows", "opposes", "ignores", "not told apart", "nothing reached", "not known"]
"""What the texts do. "ignores": the text has no effect that a test shows, and in most scenes where goals were
reached under every text they were the same ones. "not known": the environment does not say which goals were reached."""


@dataclass(frozen=True)
class Told:
    """An episode of a scene: what was asked, whether that was reached, and whose goals were, in that order."""

    text: str
    success: bool
    reached: tuple[str, ...]


type Scene = Sequence[Told]
"""The episodes of one seed, the one under the scene's own text first."""


@dataclass(frozen=True)
class Share:
    """So many of so many, with the 95 % interval of the rate."""

    successes: int
    episodes: int
    interval: Interval

    @property
    def rate(self) -> float:
        return self.successes / self.episodes if self.episodes else 0.0


@dataclass(frozen=True)
class LanguageTest:
    """What the scenes show. Of episodes: `right`, `other`; of scenes: `followed`, `same`.

    `right`: success under the text that was told. `other`: another text's goal was reached instead. `followed`: every
    text was followed. `same`: the same goals were reached, in the same order, whatever was told; a goal that lies on
    the way to another is no sign of it. `effect`: scenes in which what was reached went with the texts (`only_a`) and
    against them (`only_b`); see `leaning`. `interval`: of the difference of these shares. `reaching`: scenes in which
    a goal was reached under every text, without which no text can be seen to be ignored.
    """

    right: Share
    other: Share
    followed: Share
    same: Share
    reaching: int
    effect: PairedCounts
    interval: Interval
    p_value: float
    decision: Listening


def language_test(scenes: Sequence[Scene]) -> LanguageTest:
    """The test on scenes of two or more texts each.

    Intervals of shares of episodes respect that those of one scene belong together (`clustered_interval`); those of
    shares of scenes are exact. The texts' effect: Tango's interval, McNemar's exact test.
    """
    effect = _leanings(scenes)
    same = _of_scenes([same_whatever_told(scene) for scene in scenes])
    reaching = sum(all(one.reached for one in scene) for scene in scenes)
    p_value = mcnemar(effect)
    return LanguageTest(
        right=_of_episodes([[one.success for one in scene] for scene in scenes]),
        other=_of_episodes([[instead(one) for one in scene] for scene in scenes]),
        followed=_of_scenes([every_text_followed(scene) for scene in scenes]),
        same=same,
        reaching=reaching,
        effect=effect,
        interval=tango_interval(effect),
        p_value=p_value,
        decision=_decision(scenes, effect, p_value, rate_interval(same.successes, reaching)),
    )


def every_text_followed(scene: Scene) -> bool:
    """Whether each text's goal was reached when it was told."""
    return all(one.success for one in scene)


def same_whatever_told(scene: Scene) -> bool:
    """Whether the same goals were reached under every text."""
    return bool(scene[0].reached) and len({one.reached for one in scene}) == 1


def instead(told: Told) -> bool:
    """Whether another text's goal was reached, and the one that was told was not."""
    return not told.success and any(text != told.text for text in told.reached)


def leaning(scene: Scene) -> int:
    """Of the scene's own text and the first other one: goals reached as told, less those of the two texts swapped.

    Above 0 it went with the texts, below 0 against them. Who hears nothing does either equally often, also where one
    text makes it clumsier than the other: such a text loses it goals of both kinds. Whether the own text's goal is
    reached more often when told than when not would take that for hearing.
    """
    own, other = scene[0], scene[1]
    told = (own.text in own.reached) + (other.text in other.reached)
    swapped = (other.text in own.reached) + (own.text in other.reached)
    return told - swapped


def _leanings(scenes: Sequence[Scene]) -> PairedCounts:
    found = [leaning(scene) for scene in scenes]
    with_text, against = sum(one > 0 for one in found), sum(one < 0 for one in found)
    return PairedCounts(both=0, only_a=with_text, only_b=against, neither=len(found) - with_text - against)


def _decision(scenes: Sequence[Scene], effect: PairedCounts, p_value: float, same: Interval) -> Listening:
    told = [one for scene in scenes for one in scene]
    if any(one.success and not one.reached for one in told):
        return "not known"
    if not any(one.reached for one in told):
        return "nothing reached"
    if p_value < ALPHA:
        return "follows" if effect.difference > 0 else "opposes"
    return "ignores" if same.low > 0.5 else "not told apart"


def _of_episodes(scenes: Sequence[Sequence[bool]]) -> Share:
    hits, tried = [sum(scene) for scene in scenes], [len(scene) for scene in scenes]
    return Share(sum(hits), sum(tried), clustered_interval(hits, tried))


def _of_scenes(scenes: Sequence[bool]) -> Share:
    return Share(sum(scenes), len(scenes), rate_interval(sum(scenes), len(scenes)))
