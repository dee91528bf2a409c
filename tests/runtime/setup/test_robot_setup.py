"""RobotSetup: what a setup's YAML means, and the message for each mistake: file, line, key, what was meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smolpilot.common.errors import ProfileError
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.runtime.setup.robot_setup import RobotSetup, is_setup, limits_without_servos, list_setups

GOOD = """\
profile: so101
driver: {type: feetech, port: /dev/ttyACM0, calibration: my_arm}
cameras:
  front: {type: file, device: front.mp4, width: 640, height: 480, fps: 30}
operating_limits:
  shoulder_pan: {position: [-90, 90], velocity: 60, acceleration: 200, tracking_error: 15}
  gripper: {velocity: 100, torque: 0.4}
start_pose: {shoulder_pan: 0, shoulder_lift: -90}
governor: {max_state_age: 0.1, max_image_age: 0.5}
"""


def problem(text: str) -> str:
    with pytest.raises(ProfileError, match=r"my_arm\.yaml") as caught:
        RobotSetup.from_yaml(text, where="my_arm.yaml", folder=Path("/data"))
    return str(caught.value)


def test_a_setup_means_what_it_says() -> None:
    setup = RobotSetup.from_yaml(GOOD, name="my_arm", folder=Path("/data"))
    assert setup.profile == RobotProfile.load("so101")
    assert (setup.driver.type, setup.driver.options.model_dump()["port"]) == ("feetech", "/dev/ttyACM0")
    assert setup.operating_limits["shoulder_pan"].position == (-90, 90)
    assert setup.operating_limits["gripper"].torque == 0.4
    assert setup.start_pose == {"shoulder_pan": 0, "shoulder_lift": -90}
    assert setup.governor.max_state_age == 0.1
    assert setup.missing_cameras == ["wrist"]


def test_it_reads_back_as_an_equal_one_from_anywhere(tmp_path: Path) -> None:
    setup = RobotSetup.from_yaml(GOOD, name="arm", folder=Path("/data"))
    (tmp_path / "arm.yaml").write_text(setup.to_yaml(), encoding="utf-8")
    assert RobotSetup.load(tmp_path / "arm.yaml") == setup
    for name in list_setups():
        shipped = RobotSetup.load(name)
        assert RobotSetup.from_yaml(shipped.to_yaml(), name=name) == shipped


def test_relative_paths_start_from_the_setups_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(RobotProfile.load("so101").to_yaml(), encoding="utf-8")
    text = GOOD.replace("profile: so101", "profile: mine.yaml").replace("my_arm}", "arm.json}")
    (tmp_path / "arm.yaml").write_text(text.replace("/dev/ttyACM0", "./port"), encoding="utf-8")
    monkeypatch.chdir("/")
    setup = RobotSetup.load(tmp_path / "arm.yaml")
    options = setup.driver.options.model_dump()
    assert options["calibration"] == str(tmp_path / "arm.json")
    assert options["port"] == str(tmp_path / "port")
    assert str(setup.cameras["front"].options.model_dump()["device"]) == str(tmp_path / "front.mp4")
    assert setup.profile.name == "so101"
    # An id of LeRobot's folder and a port of Windows are no paths.
    plain = RobotSetup.from_yaml(GOOD.replace("/dev/ttyACM0", "COM3"), folder=tmp_path).driver.options.model_dump()
    assert (plain["port"], plain["calibration"]) == ("COM3", "my_arm")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("driver:", "drver:", ["my_arm.yaml:2: unknown key 'drver'", "Did you mean 'driver'?"]),
        ("type: feetech", "type: feetec", [":2: unknown driver type 'feetec'", "Did you mean 'feetech'?"]),
        ("port:", "prot:", [":2: unknown key 'driver.prot'", "Did you mean 'port'?"]),
        ("type: file", "type: fil", [":4: unknown camera type 'fil'", "Did you mean 'file'?"]),
        ("  front:", "  frond:", [":4: the profile 'so101' has no camera 'frond'", "Did you mean 'front'?"]),
        ("width: 640", "width: wide", [":4: key 'cameras.front.width' is 'wide'", "valid integer"]),
        ("device: ", "devise: ", [":4: unknown key 'cameras.front.devise'", "Did you mean 'device'?"]),
        ("  shoulder_pan:", "  shoulder_pn:", [":6: 'operating_limits' names joint 'shoulder_pn'", "'shoulder_pan'?"]),
        ("velocity: 60", "velocty: 60", [":6: unknown key 'operating_limits.shoulder_pan.velocty'", "'velocity'?"]),
        ("velocity: 60", "velocity: -1", [":6: key 'operating_limits.shoulder_pan.velocity' is -1", "above 0"]),
        ("[-90, 90]", "[-90]", [":6: key 'operating_limits.shoulder_pan.position' does not hold two", "[min, max]"]),
        ("[-90, 90]", "[90, -90]", [":6: 'operating_limits.shoulder_pan': position: minimum 90 is not below"]),
        ("[-90, 90]", "[200, 300]", [":6:", "200 .. 300, have nothing in common", "-110 .. 110 deg"]),
        ("torque: 0.4", "torque: 40", [":7: key 'operating_limits.gripper.torque' is 40", "at most 1"]),
        ("shoulder_pan: 0", "shoulder_pan: 91", [":8: the start pose of joint 'shoulder_pan', 91", "-90 .. 90 deg"]),
        ("shoulder_lift: -90", "shoulder_lift: -101", [":8:", "outside the profile's limits", "-100 .. 100 deg"]),
        ("shoulder_pan: 0", "main_shoulder_pan: 0", [":8:", "another name of 'shoulder_pan'"]),
        ("shoulder_pan: 0", "shoulder_pan: true", [":8: key 'start_pose.shoulder_pan' is True"]),
        ("shoulder_pan: 0", "shoulder_pan: .nan", [":8: key 'start_pose.shoulder_pan' is nan"]),
        ("max_state_age", "max_stat_age", [":9: unknown key 'governor.max_stat_age'", "'max_state_age'?"]),
        ("profile: so101\n", "", ["key 'profile' is missing"]),
        ("profile: so101", "profile: so10", [":1: the profile cannot be used", "Did you mean 'so101'?"]),
        ("profile: so101", "profile: so101-emulated", [":1:", "is a robot setup", "not a robot profile"]),
        ("profile: so101", "profile: gone.yaml", [":1:", "/data/gone.yaml does not exist"]),
        ("start_pose:", "driver: {type: emulated}\nstart_pose:", [":8: key 'driver' appears twice"]),
    ],
)
def test_every_mistake_is_named_with_its_line_and_what_was_meant(old: str, new: str, parts: list[str]) -> None:
    assert GOOD.count(old) >= 1
    found = problem(GOOD.replace(old, new, 1))
    for part in parts:
        assert part in found


def test_a_joint_that_is_only_read_cannot_be_limited_or_parked(tmp_path: Path) -> None:
    profile = RobotProfile.load("so101")
    names = [joint.name for joint in profile.joints]
    read_only = profile.model_copy(update={"action": names[:-1]})
    (tmp_path / "p.yaml").write_text(read_only.to_yaml(), encoding="utf-8")
    with pytest.raises(ProfileError, match="names joint 'gripper', which is only read"):
        RobotSetup.from_yaml(GOOD.replace("so101", "p.yaml"), folder=tmp_path)


@pytest.mark.parametrize("key", ["cameras", "operating_limits", "start_pose", "governor"])
def test_a_key_with_only_comments_below_it_is_empty(key: str) -> None:
    text = f"profile: so101\ndriver: {{type: emulated}}\n{key}:\n  # nothing yet\n"
    assert key not in RobotSetup.from_yaml(text).values()


def test_each_of_the_two_files_is_refused_in_the_others_place(tmp_path: Path) -> None:
    profile, setup = tmp_path / "profile.yaml", tmp_path / "setup.yaml"
    profile.write_text(RobotProfile.load("so101").to_yaml(), encoding="utf-8")
    setup.write_text(GOOD, encoding="utf-8")
    assert (is_setup(str(profile)), is_setup(str(setup))) == (False, True)
    with pytest.raises(ProfileError, match=r"profile\.yaml is a robot profile .*, not a robot setup") as caught:
        RobotSetup.load(profile)
    assert f"robot new FILE --profile {profile}" in caught.value.fix
    with pytest.raises(ProfileError, match=r"setup\.yaml is a robot setup .*, not a robot profile") as caught:
        RobotProfile.load(setup)
    assert "'so101'" in caught.value.fix
    with pytest.raises(ProfileError, match="'so101' is a robot profile") as caught:
        RobotSetup.load("so101")
    assert "so101-emulated" in caught.value.fix
    with pytest.raises(ProfileError, match="'so101-emulated' is a robot setup"):
        RobotProfile.load("so101-emulated")


def test_an_unknown_name_proposes_the_nearest_setup() -> None:
    with pytest.raises(ProfileError, match=r"There is no robot setup 'so101-emulatd'(.|\n)*Did you mean 'so101-emul"):
        RobotSetup.load("so101-emulatd")
    with pytest.raises(ProfileError, match="does not exist"):
        RobotSetup.load("nowhere.yaml")


def test_names_of_setups_and_profiles_are_never_the_same() -> None:
    assert set(list_setups()).isdisjoint(list_profiles())
    assert list_setups() == ["so101-emulated", "tabletop-emulated"]


def test_limits_without_servos_have_their_origin_and_are_none_where_nothing_bounds_a_joint() -> None:
    setup = RobotSetup.from_yaml(GOOD)
    limits = limits_without_servos(setup.profile, setup.operating_limits)
    assert (pan := limits["shoulder_pan"]) is not None
    assert (pan.low.value, pan.low.origin, pan.velocity.value, pan.velocity.origin) == (-90, "setup", 60, "setup")
    unknown = RobotProfile.from_features(["a"], {}, 30)
    assert limits_without_servos(unknown, {}) == {"a": None}


def test_reading_a_setup_loads_no_torch_and_no_video_library() -> None:
    code = (
        "import sys\nfrom smolpilot.runtime.setup.robot_setup import RobotSetup\n"
        "RobotSetup.load('tabletop-emulated')\n"
        "print('loaded:', *{'torch', 'lerobot', 'av', 'PIL', 'matplotlib', 'mujoco', 'gymnasium'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cameras: {front: 'file:front.mp4'}", "a mapping such as `front: "),
        ("operating_limits: {shoulder_pan: }", "a mapping such as `shoulder_pan: "),
        ("governor: 3", "a mapping of max_state_age, "),
    ],
)
def test_what_is_no_mapping_is_told_what_it_should_be(line: str, expected: str) -> None:
    with pytest.raises(ProfileError, match=r":3: key '") as caught:
        RobotSetup.from_yaml(f"profile: so101\ndriver: {{type: emulated}}\n{line}\n")
    assert caught.value.expected.startswith(expected)


def test_a_port_that_lies_in_the_setups_folder_is_found_from_any_folder(tmp_path: Path) -> None:
    text = "profile: so101\ndriver: {type: feetech, port: arm, calibration: blue}\n"

    def port() -> str:
        setup = RobotSetup.from_yaml(text, folder=tmp_path)
        return str(setup.driver.options.model_dump()["port"])

    assert port() == "arm", "a name, as COM3"
    (tmp_path / "arm").symlink_to("/dev/null")
    assert port() == str(tmp_path / "arm")
