"""The same scene under each of its texts: whether what a policy is told decides what it reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .intervals import Interval, clustered_interval, rate_interval
from .paired import PairedCounts, mcnemar, tango_interval
from .power import ALPHA

Listening = Literal["follows", "opposes", "ignores", "not told apart", "nothing reached", "not known"]
"""What the texts do. "ignores": the text has no effect that a test shows, and in most scenes where a goal was
reached under every text it was the same one. "not known": the environment does not say which goals were reached."""


@dataclass(frozen=True)
class Told:
    """An episode of a scene: what was asked, whether that was reached, and what was reached first; None: nothing."""

    text: str
    success: bool
    first: str | None


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

    `right`: success under the text that was told. `other`: another text's goal was reached first. `followed`: every
    text was followed. `same`: the same goal came first whatever was told. `effect`: of each scene one pair, whether
    its own text's goal came first when that was told, and when another was; `p_value`, `interval` of their difference.
    `reaching`: scenes in which it reached some goal under every text, without which no text can be seen to be ignored.
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
    shares of scenes are exact. The text's effect: Tango's interval, McNemar's exact test.
    """
    effect = PairedCounts.of(*_own_goal_first(scenes))
    same = _of_scenes([same_whatever_told(scene) for scene in scenes])
    reaching = sum(all(one.first is not None for one in scene) for scene in scenes)
    p_value = mcnemar(effect)
    return LanguageTest(
        right=_of_episodes([[one.success for one in scene] for scene in scenes]),
        other=_of_episodes([[one.first not in (None, one.text) for one in scene] for scene in scenes]),
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
    """Whether one and the same goal came first under every text."""
    return scene[0].first is not None and len({one.first for one in scene}) == 1


def _own_goal_first(scenes: Sequence[Scene]) -> tuple[Mapping[int, bool], Mapping[int, bool]]:
    """Scene -> whether the own text's goal came first, told so, and told the first of the others."""
    own = {number: scene[0].first == scene[0].text for number, scene in enumerate(scenes)}
    other = {number: scene[1].first == scene[0].text for number, scene in enumerate(scenes)}
    return own, other


def _decision(scenes: Sequence[Scene], effect: PairedCounts, p_value: float, same: Interval) -> Listening:
    told = [one for scene in scenes for one in scene]
    if any(one.success and one.first is None for one in told):
        return "not known"
    if all(one.first is None for one in told):
        return "nothing reached"
    if p_value < ALPHA:
        return "follows" if effect.difference > 0 else "opposes"
    return "ignores" if same.low > 0.5 else "not told apart"


def _of_episodes(scenes: Sequence[Sequence[bool]]) -> Share:
    hits, tried = [sum(scene) for scene in scenes], [len(scene) for scene in scenes]
    return Share(sum(hits), sum(tried), clustered_interval(hits, tried))


def _of_scenes(scenes: Sequence[bool]) -> Share:
    return Share(sum(scenes), len(scenes), rate_interval(sum(scenes), len(scenes)))
