"""Limits and start poses of demonstrations: known motions with known numbers, merging, the file, what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolpilot.common.errors import CheckpointError, DatasetError, ProfileError
from smolpilot.robots import Joint, RobotProfile, Unit
from smolpilot.robots.demonstrated import FILE, Demonstrated, Episode, Origin, read_demonstrated, together
from smolpilot.robots.demonstrated_table import origin_text, table_lines

type Array = npt.NDArray[np.float64]


def robot(*names: str, unit: Unit = "deg", state: list[str] | None = None) -> RobotProfile:
    joints = [Joint(name=name, unit=unit, position_limits=None, velocity_limit=None) for name in names]
    action = list(names[: len(names) - 1]) if state else None
    return RobotProfile(name="arm", description="an arm", rate=30, joints=joints, state=state, action=action)


ARM = robot("pan", "lift")


def origin(frames: int, *, name: str = "d", rate: float = 10.0, episodes: int = 1) -> Origin:
    return Origin(dataset=name, fingerprint=name * 4, rate=rate, frames=frames, episodes=tuple(range(episodes)))


def of(
    *actions: npt.ArrayLike, rate: float = 10.0, states: list[Any] | None = None, profile: RobotProfile = ARM
) -> Demonstrated:
    """Of episodes of actions [T, A]; the states are the actions unless given."""
    arrays: list[Array] = [np.asarray(action, np.float64) for action in actions]
    seen = arrays if states is None else [np.asarray(state, np.float64) for state in states]
    count = sum(map(len, arrays))
    return Demonstrated.from_episodes(zip(arrays, seen, strict=True), profile, origin(count, rate=rate))


def twice(values: npt.ArrayLike) -> Array:
    """The same motion for both joints."""
    return np.stack([np.asarray(values, np.float64)] * 2, axis=1)


def limits(found: Demonstrated) -> list[tuple[float | None, float | None]]:
    return [(joint.velocity, joint.acceleration) for joint in found.joints]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_sine_gives_its_highest_velocity_and_acceleration() -> None:
    rate, amplitude, hertz = 1000.0, 40.0, 0.5
    time = np.arange(20_000) / rate
    action = np.stack([amplitude * np.sin(2 * math.pi * hertz * time), np.zeros_like(time)], axis=1)
    pan, lift = of(action, rate=rate).joints
    omega = 2 * math.pi * hertz
    assert (pan.name, pan.unit) == ("pan", "deg")
    # The 99.9 % quantile of |cos| lies 1.2e-6 below its maximum.
    assert pan.velocity == pytest.approx(1.5 * amplitude * omega, rel=1e-5)
    assert pan.acceleration == pytest.approx(1.5 * amplitude * omega**2, rel=1e-5)
    assert (lift.velocity, lift.acceleration) == (None, None)


def test_the_numbers_are_those_of_the_definition() -> None:
    """Steps 1, 2, 4, 1 at 10 per second: the quantile of few steps lies just below the largest."""
    (pan, _) = of(twice([0, 1, 3, 7, 8])).joints
    steps, changes = [10.0, 20.0, 40.0, 10.0], [100.0, 200.0, 300.0]
    assert pan.velocity == pytest.approx(1.5 * float(np.quantile(steps, 0.999)))
    assert pan.acceleration == pytest.approx(1.5 * float(np.quantile(changes, 0.999)))
    assert pan.velocity == pytest.approx(1.5 * (20 + 0.997 * 20))


def test_a_sine_gives_the_root_mean_square_of_its_jerk() -> None:
    """A whole number of periods of A sin(wt): its jerk is A w³ cos(wt), the root mean square of that A w³ / sqrt(2)."""
    rate, amplitude, omega = 100.0, 40.0, 2 * math.pi * 0.5
    time = np.arange(1_000) / rate
    one = np.stack([amplitude * np.sin(omega * time), np.full_like(time, 7.0)], axis=1)
    pan, lift = of(one, one + 500, rate=rate).joints  # and where one episode ends, nothing jumps
    assert pan.rms_jerk == pytest.approx(amplitude * omega**3 / math.sqrt(2), rel=2e-3)
    assert lift.rms_jerk is None


def test_the_jerk_is_that_of_the_definition() -> None:
    """0 0 0 1 0: third differences 1 and -3 at 10 per second, over both episodes; the short one has none."""
    (pan, _) = of(twice([0, 0, 0, 1, 0]), twice([5, 6, 5]), twice([0, 0, 0, 2])).joints
    assert pan.rms_jerk == pytest.approx(1000 * math.sqrt((1 + 9 + 4) / 3))
    assert of(twice([0, 1, 5])).joints[0].rms_jerk is None  # three frames
    assert of(twice([0, 1, 2, 3])).joints[0].rms_jerk == 0


def test_a_jump_between_two_episodes_is_no_motion() -> None:
    first, second = twice([0, 1, 2, 3, 4, 6]), twice([90, 91, 92, 93, 94, 96])
    alone, both = of(first), of(first, second)
    assert (alone.joints[0].velocity or 0) < 1.5 * 20 + 1e-9
    assert (both.joints[0].velocity or 0) < 1.5 * 20 + 1e-9
    joined = of(np.concatenate([first, second]))
    assert (joined.joints[0].velocity or 0) > 1000


def test_angles_are_not_wrapped() -> None:
    (pan, _) = of(twice([177, 178, 179, -179, -178])).joints
    assert pan.velocity == pytest.approx(1.5 * 10 * float(np.quantile([1, 1, 358, 1], 0.999)))


def test_few_outliers_do_not_raise_a_limit() -> None:
    """One wild frame in 10,000 is two steps, below the quantile."""
    smooth = np.cumsum(np.where(np.arange(10_000) % 200 < 100, 1.0, -1.0))
    wild = smooth.copy()
    wild[5_000] += 500
    (pan, _) = of(twice(wild)).joints
    assert pan.velocity == pytest.approx(1.5 * 10)


@pytest.mark.parametrize(
    "motion",
    [
        np.full(400, 12.5),
        12.5 + 1e-6 * (np.arange(400) % 2),
        np.where(np.arange(3_000) < 1_500, 0.0, 1.0),
    ],
    ids=["constant", "rounding", "one step in 3,000"],
)
def test_nothing_is_said_of_a_joint_that_never_or_hardly_moves(motion: Array) -> None:
    assert limits(of(twice(motion))) == [(None, None)] * 2


def test_a_steady_motion_has_a_velocity_and_no_acceleration() -> None:
    for velocity, acceleration in limits(of(twice(0.1 * np.arange(500, dtype=np.float32)))):
        assert velocity == pytest.approx(1.5 * 1.0, rel=1e-4)
        assert acceleration is None


def test_short_episodes_give_what_they_have() -> None:
    assert limits(of(twice([1]), twice([5]))) == [(None, None)] * 2
    found = of(twice([1]), twice([5, 7]))
    assert [joint.velocity for joint in found.joints] == pytest.approx([30, 30])
    assert [joint.acceleration for joint in found.joints] == [None, None]
    assert (found.start_poses[0].q00, found.start_poses[0].q100) == (1, 5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_reading_episode_by_episode_gives_the_quantiles_of_all_steps(seed: int, lengths: list[int]) -> None:
    rng = np.random.default_rng(seed)
    episodes = [rng.normal(size=(length, 2)).cumsum(axis=0) for length in lengths]
    steps = np.concatenate([np.diff(one, axis=0) for one in episodes])
    changes = np.concatenate([np.diff(one, 2, axis=0) for one in episodes])
    for joint, found in enumerate(of(*episodes, rate=30.0).joints):
        for values, factor, limit in ((steps, 30.0, found.velocity), (changes, 900.0, found.acceleration)):
            wanted = np.quantile(np.abs(values[:, joint]), 0.999) * factor * 1.5 if len(values) else None
            assert limit == (None if wanted is None else pytest.approx(wanted, rel=1e-12))


def test_only_what_the_quantile_needs_is_held() -> None:
    """A million frames in episodes of 1,000: the arrays of all would take 32 MB."""
    import tracemalloc

    def episodes() -> Iterator[Episode]:
        for number in range(1_000):
            values = twice(np.arange(1_000.0) * (1 + number % 7))
            yield values, values

    tracemalloc.start()
    try:
        found = Demonstrated.from_episodes(episodes(), ARM, origin(1_000_000, episodes=1_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.joints[0].velocity == pytest.approx(1.5 * 7 * 10)
    assert peak < 2e6


# -- start poses -----------------------------------------------------------------------------------------------------


def test_start_poses_are_quantiles_of_the_first_frames() -> None:
    profile = robot("pan", "lift", "sensor", state=["pan", "lift", "sensor"])
    actions = [twice([0, 1, 2]) for _ in range(101)]
    states = [np.array([[float(i), -float(i), 7.0], [999, 999, 999], [999, 999, 999]]) for i in range(101)]
    found = of(*actions, states=states, profile=profile)
    assert [joint.name for joint in found.joints] == ["pan", "lift"]
    pan, lift, sensor = found.start_poses
    assert (pan.q00, pan.q01, pan.q50, pan.q99, pan.q100) == (0, 1, 50, 99, 100)
    assert (lift.q00, lift.q01, lift.q50, lift.q99, lift.q100) == (-100, -99, -50, -1, 0)
    assert (sensor.name, sensor.unit, sensor.q00, sensor.q100) == ("sensor", "deg", 7, 7)
    assert found.start_of("lift") == lift
    assert found.limits_of("sensor") is None


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused_by_name(value: float) -> None:
    with pytest.raises(DatasetError, match="action of joint 'lift' is not finite in frame 1"):
        of(np.array([[0, 0], [0, value], [0, 0]]))
    with pytest.raises(DatasetError, match="state of joint 'pan' is not finite in frame 0"):
        of([[0, 0]], states=[[[value, 0]]])


def test_another_number_of_joints_or_frames_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"action of an episode has shape \[4, 3\]"):
        of(np.zeros((4, 3)))
    with pytest.raises(DatasetError, match=r"state of an episode has shape \[3, 2\]"):
        of(np.zeros((4, 2)), states=[np.zeros((3, 2))])
    episode = (np.zeros((4, 2)), np.zeros((4, 2)))
    with pytest.raises(DatasetError, match="have 4 frames"):
        Demonstrated.from_episodes([episode], ARM, origin(5))


# -- several sets of demonstrations ----------------------------------------------------------------------------------


def test_of_several_the_highest_limit_and_the_widest_start_hold() -> None:
    slow = of(np.stack([np.arange(50.0) ** 2 / 50, np.zeros(50)], axis=1))
    fast = of(np.stack([5 * np.sin(np.arange(60.0)), np.arange(60.0) ** 2], axis=1) + 20)
    both = together([slow, fast])
    for found, one, other in zip(both.joints, slow.joints, fast.joints, strict=True):
        assert found.velocity == max(one.velocity or 0, other.velocity or 0)
        assert found.acceleration == max(one.acceleration or 0, other.acceleration or 0)
        assert found.rms_jerk == max(one.rms_jerk or 0, other.rms_jerk or 0)
    assert slow.joints[1].velocity is None
    pan = both.start_poses[0]
    assert (pan.q00, pan.q50, pan.q100) == (0, 0, 20)
    assert together([fast, slow]).start_poses[0].q50 == 20  # the median is that of the newest
    assert (both.frames, both.episodes) == (110, 2)
    assert together([both, slow]) == both  # the same demonstrations twice


def test_other_joints_units_or_rules_are_not_merged() -> None:
    one = of(twice([0, 1, 3]))
    for other in (
        of(twice([0, 1, 3]), profile=robot("pan", "roll")),
        of(twice([0, 1, 3]), profile=robot("pan", "lift", unit="rad")),
        one.model_copy(update={"factor": 2.0}),
    ):
        with pytest.raises(ProfileError, match="different joints, or were computed differently"):
            together([one, other])


def test_a_profile_gets_them_in_its_own_order() -> None:
    found = of(np.stack([np.arange(9.0) ** 2, np.arange(9.0)], axis=1))
    moved = found.for_profile(robot("lift", "pan"))
    assert moved is not None
    assert [joint.name for joint in moved.joints] == [pose.name for pose in moved.start_poses] == ["lift", "pan"]
    assert moved.limits_of("pan") == found.limits_of("pan")
    assert found.for_profile(robot("pan", "lift", unit="rad")) is None
    assert found.for_profile(robot("pan", "lift", "roll")) is None


# -- the file --------------------------------------------------------------------------------------------------------


def write(folder: Path, values: object) -> Path:
    (folder / FILE).write_text(json.dumps(values), encoding="utf-8")
    return folder


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    found = of(np.stack([np.arange(9.0) ** 2, np.zeros(9)], axis=1))
    values = found.to_json()
    assert values["joints"][1] == {
        "name": "lift",
        "unit": "deg",
        "velocity": None,
        "acceleration": None,
        "rms_jerk": None,
    }
    assert values["origins"] == [{"dataset": "d", "fingerprint": "dddd", "rate": 10.0, "frames": 9, "episodes": [0]}]
    assert Demonstrated.from_json(values) == found
    assert read_demonstrated(write(tmp_path, values)) == found
    assert read_demonstrated(str(tmp_path)) == found


def test_a_file_without_the_jerk_is_read() -> None:
    found = of(twice([0, 1, 3, 7]))
    assert found.joints[0].rms_jerk is not None
    values = found.to_json()
    for joint in values["joints"]:
        del joint["rms_jerk"]
    read = Demonstrated.from_json(values)
    assert [joint.rms_jerk for joint in read.joints] == [None, None]
    assert read.joints[0].velocity == found.joints[0].velocity
    assert [joint.rms_jerk for joint in together([read, found]).joints] == [joint.rms_jerk for joint in found.joints]


def test_a_folder_without_the_file_keeps_none(tmp_path: Path) -> None:
    assert read_demonstrated(tmp_path) is None


def change(values: Any, place: str, value: object) -> None:
    *path, last = place.split(".")
    for key in path:
        values = values[int(key)] if key.isdigit() else values[key]
    if last.isdigit():
        values[int(last)] = value
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("joints.0.velocity", 0, "joints.0.velocity is 0: Input should be greater than 0"),
        ("joints.0.velocity", -3.5, "joints.0.velocity is -3.5: "),
        ("joints.1.acceleration", math.nan, "joints.1.acceleration is .*finite"),
        ("joints.1.acceleration", math.inf, "joints.1.acceleration is .*finite"),
        ("joints.1.rms_jerk", -1.0, "joints.1.rms_jerk is -1.0"),
        ("joints.1.rms_jerk", math.inf, "joints.1.rms_jerk is .*finite"),
        ("joints.0.velocity", "fast", "joints.0.velocity is 'fast'"),
        ("joints.0.velocity", True, "joints.0.velocity is True"),
        ("joints.0.unit", "furlong", "joints.0.unit is 'furlong'"),
        ("joints.1.name", "pan", "joint 'pan' is there twice"),
        ("joints.0.torque", 1, "joints.0.torque is 1: Extra inputs"),
        ("joints", [], r"joints is \[\]"),
        ("start_poses.0.q50", 1e6, "the quantiles of joint 'pan' fall"),
        ("start_poses.0.q50", None, "start_poses.0.q50 is None"),
        ("origins", [], r"origins is \[\]"),
        ("origins.0.rate", 0, "origins.0.rate is 0"),
        ("factor", 0, "factor is 0"),
        ("quantile", 100, "quantile is 100"),
        ("format", 2, "is of format 2"),
        ("format", "1", "format is '1'"),
    ],
)
def test_what_cannot_be_a_limit_is_refused_on_reading(tmp_path: Path, place: str, value: object, said: str) -> None:
    values = of(twice([0, 1, 3, 7])).to_json()
    change(values, place, value)
    with pytest.raises(CheckpointError, match=f"{FILE}.*{said}"):
        read_demonstrated(write(tmp_path, values))


@pytest.mark.parametrize("content", ["", "[]", "{", "null", "{}", '{"joints": 5}'])
def test_a_torn_file_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=FILE):
        read_demonstrated(tmp_path)


def test_neither_the_module_nor_reading_loads_torch(tmp_path: Path) -> None:
    write(tmp_path, of(twice([0, 1, 3, 7])).to_json())
    code = (
        "import sys; from smolpilot.robots.demonstrated import read_demonstrated; "
        f"assert read_demonstrated({str(tmp_path)!r}) is not None; "
        "print([name for name in ('torch', 'lerobot', 'pyarrow', 'av') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# -- for people ------------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_joint_and_says_what_is_not_known() -> None:
    profile = robot("pan", "lift", "sensor", state=["pan", "sensor"])
    action = np.stack([np.arange(5.0) * 2, np.zeros(5)], axis=1)
    found = of(action, states=[np.array([[3.25, 7.0]] * 5)], profile=profile)
    header, *rows = [line.split("  ") for line in table_lines(found)]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert header[0] == "joint"
    assert cells == [
        ["pan", "30 deg/s", "not known", "0 deg/s³", "3.25 deg", "3.25 to 3.25"],
        ["lift", "not known", "not known", "not known", "-", "-"],
        ["sensor", "-", "-", "-", "7 deg", "7 to 7"],
    ]
    assert origin_text(found) == (
        "1.5 times the 99.9 % quantile of the commanded motion in 1 episode of d (5 frames, 10 per second)"
    )
