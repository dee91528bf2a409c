"""Steps and units."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import DeviceError
from smolpilot.robots import Joint
from smolpilot.runtime.calibration import JointCalibration
from smolpilot.runtime.drivers.feetech.scale import LAST, MARGIN, JointScale

UNITS: dict[str, tuple[str, tuple[float, float] | None]] = {
    "deg": ("deg", (-100.0, 100.0)),
    "rad": ("rad", None),
    "0 to 100": ("normalized", (0.0, 100.0)),
    "-100 to 100": ("normalized", (-100.0, 100.0)),
    "fraction": ("fraction", (0.0, 1.0)),
}


def scale_of(kind: str, low: int, high: int, drive_mode: int = 0) -> JointScale:
    unit, limits = UNITS[kind]
    joint = Joint.model_validate({"name": "one", "unit": unit, "position_limits": limits, "velocity_limit": None})
    return JointScale.of(joint, JointCalibration(1, drive_mode, 0, low, high))


@st.composite
def scales(draw: Callable[[st.SearchStrategy[int]], int]) -> JointScale:
    low = draw(st.integers(0, LAST - 1))
    kind = list(UNITS)[draw(st.integers(0, len(UNITS) - 1))]
    return scale_of(kind, low, draw(st.integers(low + 1, LAST)), draw(st.integers(0, 1)))


@settings(deadline=None)
@given(scales(), st.integers(0, LAST))
def test_what_was_read_and_is_written_back_is_the_same_step(scale: JointScale, steps: int) -> None:
    steps = min(scale.calibration.range_max, max(scale.calibration.range_min, steps))
    assert scale.steps(scale.value(steps)) == steps
    assert scale.steps(float(np.float32(scale.value(steps)))) == steps


@settings(deadline=None)
@given(scales(), st.floats(0, 1))
def test_what_is_within_the_bounds_stays_within_the_calibration(scale: JointScale, share: float) -> None:
    low, high = scale.bounds()
    assert low < high
    steps = scale.steps(min(high, max(low, low + share * (high - low))))
    assert scale.calibration.range_min <= steps <= scale.calibration.range_max


def test_the_ends_are_those_of_the_calibration() -> None:
    assert scale_of("0 to 100", 1000, 3000).bounds() == (0.0, 100.0)
    assert scale_of("-100 to 100", 1000, 3000, drive_mode=1).bounds() == (-100.0, 100.0)
    assert scale_of("fraction", 1000, 3000).bounds() == (0.0, 1.0)
    assert scale_of("deg", 1000, 3000).bounds() == (-1000 * 360 / 4095, 1000 * 360 / 4095)
    assert scale_of("rad", 1000, 3000).bounds()[1] == pytest.approx(1000 * 2 * math.pi / 4095)


def test_bounds_keep_away_from_where_positions_wrap() -> None:
    low, high = scale_of("deg", 0, LAST).bounds()
    assert (scale_of("deg", 0, LAST).steps(low), scale_of("deg", 0, LAST).steps(high)) == (MARGIN, LAST - MARGIN)
    assert scale_of("0 to 100", 0, 10).bounds() == (0.0, 100.0)


def test_drive_mode_turns_a_scale_round_and_no_angle() -> None:
    assert [scale_of("0 to 100", 1000, 3000, mode).value(1500) for mode in (0, 1)] == [25.0, 75.0]
    assert [scale_of("-100 to 100", 1000, 3000, mode).value(1500) for mode in (0, 1)] == [-50.0, 50.0]
    assert [scale_of("deg", 1000, 3000, mode).value(1500) for mode in (0, 1)] == [pytest.approx(-500 * 360 / 4095)] * 2
    assert scale_of("0 to 100", 1000, 3000, 1).steps(75.0) == 1500


def test_scales_end_and_angles_go_on() -> None:
    assert scale_of("0 to 100", 1000, 3000).value(3500) == 100.0
    assert scale_of("deg", 1000, 3000).value(3500) == pytest.approx(1500 * 360 / 4095)


@settings(deadline=None)
@given(scales(), st.sampled_from([math.nan, math.inf, -math.inf, 1e9, -1e9, 1e300]))
def test_what_no_joint_can_do_is_refused(scale: JointScale, value: float) -> None:
    with pytest.raises(DeviceError, match=r"(?s)Joint 'one' was told .*Expected: "):
        scale.steps(value)


def test_beyond_the_calibrated_range_is_refused() -> None:
    scale = scale_of("deg", 1000, 3000)
    assert scale.steps(scale.value(3000)) == 3000
    with pytest.raises(DeviceError, match=r"(?s)beyond its calibrated range.*-87\.9121 to 87\.9121"):
        scale.steps(scale.value(3001))


@settings(deadline=None)
@given(st.lists(st.integers(-2000, 2000), max_size=30), st.integers(0, LAST))
def test_positions_that_wrap_are_counted_on(ways: list[int], start: int) -> None:
    scale = scale_of("deg", 0, LAST)
    true, counted = start, scale.unwrapped(start, start)
    for way in ways:
        true += way
        counted = scale.unwrapped(true % 4096, counted)
        assert counted == true


def test_the_first_position_is_the_nearest_to_the_range() -> None:
    assert scale_of("deg", 2600, 4095).unwrapped(10, None) == 4106
    assert scale_of("deg", 2600, 4095).unwrapped(2500, None) == 2500
    assert scale_of("deg", 3, 1200).unwrapped(4090, None) == -6
