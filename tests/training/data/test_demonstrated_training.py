"""The limits that training keeps in its bundles: of the training episodes, of every dataset, of what came before."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from smolpilot.datasets import DatasetWriter, open_dataset
from smolpilot.robots import CameraProfile, Joint, RobotProfile, Unit
from smolpilot.robots.demonstrated import FILE, Demonstrated, read_demonstrated
from smolpilot.smolvla import load_policy, save_bundle
from smolpilot.smolvla.checkpoint.sealing import renew
from smolpilot.training import TrainOptions, train
from smolpilot.training.options.sources import Source
from smolpilot.training.run.setup import prepare

JOINTS = ["pan", "lift"]


def record(
    path: Path, *, speed: float = 1.0, offset: float = 0.0, fps: int = 10, names: list[str] = JOINTS, scale: float = 1.0
) -> Path:
    """Five episodes of 12 frames that begin at other angles; lift moves at twice the speed of pan, rad times scale."""
    sizes = {"front": (32, 32)}
    with DatasetWriter(path, fps=fps, state_names=names, action_names=names, cameras=sizes, robot_type="arm") as writer:
        for episode in range(5):
            for frame in range(12):
                phase = speed * (frame / 8 * math.pi + episode)
                values = {"pan": offset + math.sin(phase), "lift": math.cos(2 * phase) - 2 * episode}
                action = np.array([values[name] * scale for name in names], dtype=np.float32)
                picture = {"observation.images.front": np.full((32, 32, 3), 20 * frame, np.uint8)}
                writer.add_frame({"observation.state": action + 1, "action": action, "task": "swing", **picture})
            writer.end_episode()
    return path


def robot(folder: Path, unit: Unit = "rad") -> str:
    joints = [Joint(name=name, unit=unit, position_limits=None, velocity_limit=None) for name in JOINTS]
    cameras = [CameraProfile(name="front", width=32, height=32)]
    path = folder / f"arm_{unit}.yaml"
    path.write_text(
        RobotProfile(name="arm", description="two", rate=10, joints=joints, cameras=cameras).to_yaml(), encoding="utf-8"
    )
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demonstrated")


@pytest.fixture(scope="module")
def slow(folder: Path) -> Path:
    return record(folder / "slow")


@pytest.fixture(scope="module")
def fast(folder: Path) -> Path:
    return record(folder / "fast", speed=1.7, offset=3.0)


def options(out: Path, **changes: Any) -> TrainOptions:
    base = TrainOptions(out=out, steps=2, batch_size=4, eval_frames=2, device="cpu")
    if changes.get("policy") is None:
        base = dataclasses.replace(base, preset="tiny", from_scratch=True, chunk_size=4)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def first(slow: Path, folder: Path) -> Path:
    return train(options(folder / "first", dataset=slow, robot=robot(folder)))


def kept(run: Path, name: str = "last") -> Demonstrated:
    found = read_demonstrated(run / "checkpoints" / name)
    assert found is not None
    return found


def by_hand(path: Path, episodes: list[int], joint: int) -> tuple[float, float]:
    """Velocity and acceleration limits of a joint by the issue's own words, in the dataset's units."""
    dataset = open_dataset(path)
    rate = float(dataset.meta.fps)
    speeds: list[npt.NDArray[np.float64]] = []
    changes: list[npt.NDArray[np.float64]] = []
    for episode in episodes:
        action = dataset.actions[dataset.episode_index == episode, joint].astype(np.float64)
        speed = (action[1:] - action[:-1]) * rate
        speeds.append(np.abs(speed))
        changes.append(np.abs(speed[1:] - speed[:-1]) * rate)
    return tuple(1.5 * float(np.percentile(np.concatenate(parts), 99.9)) for parts in (speeds, changes))  # type: ignore[return-value]


def starts(path: Path, episodes: list[int], joint: int) -> list[float]:
    dataset = open_dataset(path)
    return [float(dataset.states[dataset.episode_index == episode, joint][0]) for episode in episodes]


def test_a_bundle_keeps_the_limits_and_starts_of_its_training_episodes(first: Path, slow: Path) -> None:
    lineage = load_policy(first).lineage
    trained = lineage["trained_episodes"]
    assert len(trained) == 4
    found = kept(first)
    assert found == kept(first, "best")
    for joint, name in enumerate(JOINTS):
        limits, start, own = found.limits_of(name), found.start_of(name), starts(slow, trained, joint)
        assert limits is not None
        assert start is not None
        assert limits.unit == start.unit == "rad"
        assert (limits.velocity, limits.acceleration) == pytest.approx(by_hand(slow, trained, joint), rel=1e-9)
        assert (start.q00, start.q50, start.q100) == pytest.approx((min(own), np.median(own), max(own)))
        assert (start.q01, start.q99) == pytest.approx(tuple(np.quantile(own, [0.01, 0.99])))
    # The held-out episode would have been seen: lift begins nowhere else in it.
    (held_out,) = lineage["held_out_episodes"]
    assert starts(slow, [held_out], 1)[0] not in starts(slow, trained, 1)
    (origin,) = found.origins
    assert (origin.dataset, origin.rate, origin.frames, list(origin.episodes)) == ("slow", 10, 48, trained)
    assert origin.fingerprint == lineage["dataset_fingerprint"]


def test_the_numbers_are_in_the_units_and_order_of_the_robot(folder: Path, slow: Path) -> None:
    """A dataset in degrees, with its joints the other way round, for a robot in radians."""
    data = record(folder / "degrees", names=JOINTS[::-1], scale=180 / math.pi)
    made = prepare(options(folder / "never", dataset=data, robot=robot(folder), units={"all": "deg"}, chunk_size=4))
    found = made.policy.demonstrated
    assert found is not None
    assert [joint.name for joint in found.joints] == JOINTS
    for joint, limits in enumerate(found.joints):
        wanted = by_hand(slow, made.datasets[0].train.episodes, joint)
        assert limits.unit == "rad"
        assert (limits.velocity, limits.acceleration) == pytest.approx(wanted, rel=1e-4)


def test_of_a_mixture_the_fastest_dataset_counts_at_its_own_rate(slow: Path, folder: Path) -> None:
    """The same motion, recorded three times as fast as `slow`: pan and lift have three times its speed."""
    data = record(folder / "thirty", fps=30)
    made = prepare(options(folder / "never", mixture=(Source(slow), Source(data)), robot=robot(folder), held_out=0.0))
    found, every = made.policy.demonstrated, [0, 1, 2, 3, 4]
    assert found is not None
    for joint, limits in enumerate(found.joints):
        speed, change = by_hand(slow, every, joint)
        assert (limits.velocity, limits.acceleration) == pytest.approx((3 * speed, 9 * change), rel=1e-6)
    assert [(origin.dataset, origin.rate) for origin in found.origins] == [("slow", 10), ("thirty", 30)]
    assert found.frames == 120


@pytest.mark.parametrize("way", ["slow after fast", "fast after slow"])
def test_fine_tuning_keeps_the_highest_of_parent_and_own(slow: Path, fast: Path, folder: Path, way: str) -> None:
    data, old = (slow, fast) if way == "slow after fast" else (fast, slow)
    before = prepare(options(folder / "never", dataset=old, robot=robot(folder)))
    parent = save_bundle(before.policy, folder / f"parent_{old.name}")
    made = prepare(
        options(folder / "never", dataset=data, policy=str(parent), robot=robot(folder), norm_stats="dataset")
    )
    found = made.policy.demonstrated
    assert found is not None
    for joint, limits in enumerate(found.joints):
        both = [by_hand(run.datasets[0].path, run.datasets[0].train.episodes, joint) for run in (before, made)]
        assert (limits.velocity, limits.acceleration) == pytest.approx(np.max(both, axis=0).tolist(), rel=1e-9)
        assert both[0] != both[1]
    assert [origin.dataset for origin in found.origins] == [data.name, old.name]
    # pan begins near 0 in one, near 3 in the other.
    assert [found.start_poses[0].q00, found.start_poses[0].q100] == pytest.approx([0.5, 4.5], abs=1)


def test_a_dataset_faster_than_the_parents_limits_is_warned_of(
    first: Path, fast: Path, slow: Path, folder: Path
) -> None:
    def warnings(data: Path) -> list[str]:
        made = prepare(
            options(folder / "never", dataset=data, policy=str(first), robot=robot(folder), norm_stats="dataset")
        )
        return [line.found for line in made.preflight() if line.topic == "operating limits"]

    assert warnings(slow) == []
    assert warnings(record(folder / "brisk", fps=13)) == []  # 1.3 times as fast, the limit is 1.5 times
    (found,) = warnings(fast)
    assert re.fullmatch(
        r"the dataset moves faster than the policy's limits allow: pan \S+ rad/s \(limit \S+\); lift \S+ rad/s \(limit "
        r"\S+\)", found
    )  # fmt: skip


def test_limits_of_a_parent_in_other_units_are_left_out_and_said(first: Path, slow: Path, folder: Path) -> None:
    """Whether they are of the same units is not known where the dataset's robot is not named."""
    made = prepare(options(folder / "never", dataset=slow, policy=str(first), norm_stats="dataset"))
    found = made.policy.demonstrated
    assert found is not None
    assert [origin.dataset for origin in found.origins] == ["slow"]
    assert {joint.unit for joint in found.joints} == {"unknown"}
    (note,) = [note for note in made.notes if note.startswith("operating limits")]
    assert "--robot" in note


def test_weights_that_are_averaged_or_merged_keep_them_too(slow: Path, first: Path, folder: Path) -> None:
    run = train(options(folder / "lora", dataset=slow, policy=str(first), robot=robot(folder), lora=2, ema=0.9))
    assert kept(run).origins[0].dataset == "slow"
    assert load_policy(run).spec.demonstrated == kept(run, "best")


def test_a_run_of_an_earlier_version_gets_them_when_it_resumes(slow: Path, folder: Path) -> None:
    run = train(options(folder / "older", dataset=slow, robot=robot(folder), steps=1))
    wanted = kept(run)
    newest = (run / "checkpoints" / "last").resolve()
    (newest / FILE).unlink()
    renew(newest)
    assert load_policy(newest).demonstrated is None
    config = run / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("steps: 1\n", "steps: 2\n"), encoding="utf-8")
    train(TrainOptions(out=run, resume=True))
    assert (run / "checkpoints" / "last").resolve() != newest
    assert kept(run) == wanted
