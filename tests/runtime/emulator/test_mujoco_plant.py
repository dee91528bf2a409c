"""An arm of MuJoCo's behind the emulated bus."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.robots import Joint, RobotProfile
from smolpilot.runtime.drivers.feetech import registers as reg
from smolpilot.runtime.emulator.bus import EmulatedBus
from smolpilot.runtime.emulator.spec import EmulatorSpec, make_bus

from .helpers_bus import Clock, read, write

pytest.importorskip("mujoco")

ARM = """
<mujoco>
  <compiler angle="radian"/>
  <option timestep="0.002" gravity="0 0 -9.81"/>
  <worldbody>
    <body name="upper">
      <joint name="lift" axis="0 -1 0" range="-1.5 1.5" damping="0.2" armature="0.01"/>
      <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.02" mass="0.3"/>
      <body name="hand" pos="0.2 0 0">
        <joint name="grip" axis="0 0 1" range="0 1" damping="0.1" armature="0.005"/>
        <geom type="capsule" fromto="0 0 0 0.05 0 0" size="0.01" mass="0.02"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="lift" kp="20" forcerange="-3 3"/>
    <position joint="grip" kp="5" forcerange="-1 1"/>
  </actuator>
</mujoco>
"""

PROFILE = RobotProfile(
    name="small", description="a test", rate=30.0, gripper=["grip"],
    joints=[
        Joint(name="lift", unit="deg", position_limits=(-80.0, 80.0), velocity_limit=None),
        Joint(name="grip", unit="normalized", position_limits=(0.0, 100.0), velocity_limit=None),
    ],
)  # fmt: skip


def bus_of(folder: Path, clock: Clock, text: str = ARM, start: dict[str, float] | None = None) -> EmulatedBus:
    model = folder / "arm.xml"
    model.write_text(text)
    spec = EmulatorSpec(profile=PROFILE, plant="mujoco", model=str(model), start=start or {})
    return make_bus(spec, clock=clock)


def test_the_model_moves_to_the_goal_and_sags_under_its_weight(tmp_path: Path) -> None:
    clock = Clock()
    bus = bus_of(tmp_path, clock, start={"lift": 30.0, "grip": 25.0})
    lift, grip = (read(bus, joint, reg.PRESENT_POSITION) for joint in ("lift", "grip"))
    assert (lift, grip) == (2048 + round(30 * 4095 / 360), 1024 + 512)
    write(bus, "grip", reg.GOAL_POSITION, 2560)
    write(bus, "lift", reg.GOAL_POSITION, 2048)
    clock.pass_(0.1)
    assert read(bus, "lift", reg.PRESENT_SPEED) < -100
    clock.pass_(2.0)
    assert read(bus, "grip", reg.PRESENT_POSITION) == pytest.approx(2560, abs=3)
    # The weight of 0.35 Nm against 20 Nm/rad at half the gain of a servo from the factory.
    assert 2048 - 25 < read(bus, "lift", reg.PRESENT_POSITION) < 2048 - 5
    assert read(bus, "lift", reg.PRESENT_LOAD) == pytest.approx(1000 * 0.35 / 3, abs=25)


def test_without_torque_it_falls_and_with_little_it_cannot_lift(tmp_path: Path) -> None:
    clock = Clock()
    bus = bus_of(tmp_path, clock)
    clock.pass_(1.0)
    fallen = read(bus, "lift", reg.PRESENT_POSITION)
    assert fallen < 1500
    write(bus, "lift", reg.TORQUE_LIMIT, 50)
    write(bus, "lift", reg.GOAL_POSITION, 2048)
    clock.pass_(1.0)
    assert read(bus, "lift", reg.PRESENT_POSITION) < 1700
    assert read(bus, "lift", reg.PRESENT_LOAD) == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARM.replace('name="grip"', 'name="claw"').replace('joint="grip"', 'joint="claw"'), "no joint 'grip'"),
        (ARM.replace('<position joint="grip" kp="5" forcerange="-1 1"/>', ""), "drives joint 'grip' by 0 actuators"),
        (ARM.replace("position joint", "motor joint").replace('kp="20"', "").replace('kp="5"', ""), "by 1 actuators"),
        (ARM.replace('range="0 1"', ""), "has no range"),
        ("<mujoco>", "MuJoCo cannot read"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bus_of(tmp_path, Clock(), text)


def test_a_model_is_needed_and_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no model"):
        make_bus(EmulatorSpec(profile=PROFILE, plant="mujoco"))
    with pytest.raises(UsageError, match="does not exist"):
        make_bus(EmulatorSpec(profile=PROFILE, plant="mujoco", model=str(tmp_path / "none.xml")))


def test_without_mujoco_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UsageError, match="pip install mujoco"):
        bus_of(tmp_path, Clock())
