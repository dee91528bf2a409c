"""How far a dataset lies from the statistics that a policy normalizes with, joint by joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smolpilot.common.errors import TrainingError
from smolpilot.common.keys import ACTION, STATE
from smolpilot.common.statistics import Statistics, still_range
from smolpilot.robots import RobotProfile

FAR = 3.0  # standard deviations between two means, or the ratio of two deviations, that stop a run
HOPELESS = 1000.0  # a ratio of deviations with which every target is beyond what a network can say
_TINY = 1 / 20  # a ratio of deviations, over most joints, that another task does not explain


@dataclass(frozen=True)
class Drift:
    """One joint: distance of the means in the policy's standard deviations, ratio of the deviations."""

    feature: str
    joint: str
    sigma: float
    ratio: float
    rested: bool = False  # the policy's own statistics say that the joint never moved

    @property
    def far(self) -> bool:
        """Whether one of the two is more than the policy's scale can bear."""
        return self.sigma > FAR or self.ratio > FAR

    def text(self) -> str:
        """Of a joint that lies far: the measure that does, not the other one."""
        said = [f"mean {self.sigma:.1f} sigma away"] if self.sigma > FAR and not self.rested else []
        never = "the joint never moved in the policy's training data (standard deviation 0) and"
        if self.rested and self.sigma > FAR >= self.ratio:
            said.append(f"{never} rests at another position here")
        if self.ratio > FAR and self.rested:
            said.append(f"{never} moves here")
        elif self.ratio > FAR:
            said.append(f"deviation {self.ratio:.1f} times the policy's")
        return f"{self.joint}: {', '.join(said)}"


def measure(policy: Statistics, own: Statistics, feature: str, joints: Sequence[str]) -> list[Drift]:
    """Compare the dataset's statistics with the policy's, both in the policy's joint order and units.

    Empty where the policy keeps no mean and deviation of these joints.
    """
    stored = policy.get(feature, {})
    if not {"mean", "std"} <= stored.keys() or stored["mean"].shape != (len(joints),):
        return []
    least = still_range(stored["mean"], stored["mean"])
    deviation = np.maximum(stored["std"], least)
    sigmas = np.abs(own[feature]["mean"] - stored["mean"]) / deviation
    ratios = own[feature]["std"] / deviation
    rested = (stored["std"] <= least).tolist()
    return [Drift(feature, *values) for values in zip(joints, sigmas.tolist(), ratios.tolist(), rested, strict=True)]


def nearness(found: Sequence[Drift]) -> str:
    """How near all joints of a feature lie, in one sentence."""
    away, wide = max(found, key=lambda one: one.sigma), max(found, key=lambda one: one.ratio)
    return (
        f"{away.feature}: the dataset's mean lies {away.sigma:.2f} of the policy's standard deviations away at most "
        f"({away.joint}), its deviation is {wide.ratio:.2f} times the policy's at most ({wide.joint})"
    )


def hardly_moves(found: Sequence[Drift]) -> str:
    """A sentence where most joints move far less than the policy's scale expects, else nothing."""
    ratio = float(np.median([one.ratio for one in found])) if found else 1.0
    if ratio >= _TINY:
        return ""
    return (
        f"{found[0].feature}: most joints move less than {max(ratio, 1e-3):.2g} times as much as in the "
        "policy's statistics: are the values radians where degrees are expected?"
    )


def check_drift(policy: Statistics, own: Statistics, profile: RobotProfile, notes: list[str], *, stop: bool) -> None:
    """Compare a dataset with the parent's statistics; far away, the parent's scale no longer fits.

    Notes say how far; a TrainingError when it is too far and `stop`, a note otherwise. Farther than any training can
    bear is an error in any case.
    """
    far: list[Drift] = []
    for feature, joints in ((STATE, profile.state_joints), (ACTION, profile.action_joints)):
        found = measure(policy, own, feature, [joint.name for joint in joints])
        if not found:
            notes.append(f"{feature}: the parent keeps no mean and deviation, so the drift is unknown")
            continue
        notes.append(nearness(found))
        if still := hardly_moves(found):
            notes.append(f"WARNING: {still}")
        far += [one for one in found if one.far]
    if not far:
        return
    listed = listed_far(far)
    if lost := [one for one in far if one.ratio > HOPELESS and one.feature == ACTION]:
        raise TrainingError(
            f"The dataset cannot be normalized with the parent's statistics: {listed_far(lost)}.",
            expected=f"standard deviations at most {HOPELESS:g} times the parent's; above that the loss is meaningless",
            fix="check the units (--units). Then --norm-stats dataset normalizes with the new dataset",
        )
    if stop:
        raise TrainingError(
            f"The dataset differs too much from the parent's statistics: {listed}.",
            expected=f"means within {FAR:g} standard deviations, standard deviations at most {FAR:g} times the "
            "parent's",
            fix="check the units (--units). Then --norm-stats dataset normalizes with the new dataset (the policy "
            "forgets more of the parent), --norm-stats parent keeps the parent's",
        )
    notes.append(f"WARNING: far from the parent's statistics: {listed}")


def listed_far(far: Sequence[Drift]) -> str:
    """The farthest joints, by name (and feature, where they are of both)."""
    order = sorted(far, key=lambda one: -max(one.sigma, one.ratio))
    both = len({one.feature for one in far}) > 1
    texts = [f"{one.feature} {one.text()}" if both else one.text() for one in order[:5]]
    return "; ".join(texts) + (f"; and {len(far) - 5} more" if len(far) > 5 else "")
