"""check_dataset: run every check on a dataset folder, whatever its state."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.datasets.tolerant.findings import Finding, collapsed, count, finding, ordered
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.open import read_found_dataset
from smolpilot.datasets.tolerant.rules import RULES
from smolpilot.robots import RobotProfile

from .causes import with_fixes_that_help, without_consequences
from .checks import (
    check_episodes,
    check_indices,
    check_instructions,
    check_loading,
    check_numbers,
    check_robot,
    check_statistics,
    check_structure,
    check_swapped,
    check_time,
    check_video,
    lerobot_rules,
)
from .checks import check_images as check_pictures
from .checks.check_manifest import compare_manifest
from .context import Check, CheckContext
from .scan.video_scans import Progress, VideoScans, scan_videos

CHECKS: tuple[Check, ...] = (
    check_structure.totals,
    check_structure.splits,
    check_structure.files,
    check_structure.columns,
    check_structure.empty_cells,
    check_structure.unlisted,
    check_indices.lengths,
    check_indices.missing_rows,
    check_indices.frames,
    check_indices.running_index,
    check_indices.tasks,
    check_time.rate,
    check_time.grid,
    check_time.against_videos,
    check_video.files,
    check_video.counts,
    check_video.containers,
    check_video.steps,
    check_swapped.swapped,
    check_pictures.black,
    check_pictures.frozen,
    check_pictures.exposure,
    check_pictures.shapes,
    check_pictures.statistics,
    check_statistics.vectors,
    check_statistics.missing,
    check_numbers.finite,
    check_numbers.dead,
    check_numbers.saturated,
    check_numbers.outliers,
    check_numbers.jumps,
    check_numbers.frozen,
    check_robot.limits,
    check_robot.assumed_units,
    check_robot.grippers,
    check_robot.actions_against_states,
    check_episodes.idle,
    check_episodes.lengths,
    check_episodes.duplicates,
    check_episodes.variety,
    check_instructions.texts,
    lerobot_rules.obstacles,
    check_loading.samples,
)


@dataclass(frozen=True)
class CheckResult:
    """All findings that have a cause of their own, ordered, and what was looked at; `everything` has those that only
    follow from others, too. `unloadable` names the readers ("smolpilot", "LeRobot") that cannot load a sample, or give
    it another instruction."""

    findings: list[Finding]
    dataset: FoundDataset
    video_scans: VideoScans
    seconds: float
    everything: list[Finding] = field(default_factory=list)
    unloadable: tuple[str, ...] = ()
    profile: RobotProfile | None = None

    def failed(self, *, strict: bool = False) -> bool:
        """Whether there is an error; with `strict` also a warning."""
        counts = count(self.findings)
        return counts["error"] > 0 or (strict and counts["warning"] > 0)

    def facts(self) -> dict[str, Any]:
        """What was looked at, in plain values."""
        dataset, scans = self.dataset, self.video_scans.scans.values()
        return {
            "path": str(dataset.root),
            "version": dataset.version,
            "stated_version": dataset.stated_version,
            "robot_type": dataset.info.get("robot_type"),
            "robot": self.profile.name if self.profile is not None else None,
            "fps": dataset.fps,
            "episodes": len(dataset.records),
            "rows": sum(len(rows) for rows in dataset.rows.values()),
            "cameras": [camera.name for camera in dataset.cameras.values()],
            "video_files": len(scans),
            "decoded_frames": int(sum(int(scan.decoded.sum()) for scan in scans)),
            "unloadable": list(self.unloadable),
            "checks": len(CHECKS),
            "seconds": round(self.seconds, 2),
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as one document."""
        together = collapsed(self.findings)
        return {
            **self.facts(),
            "counts": count(found for found, _ in together),
            "findings": [
                {**found.to_json(), **({"episodes": episodes} if len(episodes) > 1 else {})}
                for found, episodes in together
            ],
        }


def check_dataset(
    path: str | Path,
    *,
    robot: RobotProfile | str | None = None,
    units: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    jobs: int | None = None,
    video_scans: VideoScans | None = None,
) -> CheckResult:
    """Check a LeRobot folder, damaged or not; each video is decoded once, and every file that a manifest lists is read.

    robot: a profile, what `--robot` says (`none`: no profile), or None: by the dataset's robot_type or joint names.
    units: of the dataset's joints where they differ from the profile's. `jobs` files are decoded at a time (None: one
    per core), with the same result for any number. Videos whose content `video_scans` of another check has seen are not
    decoded again. Raises UsageError when the path is no dataset folder, for an unknown robot and for units of joints
    that are not there, and nothing else.
    """
    begin = time.monotonic()
    dataset = read_found_dataset(path, progress)
    profile, named = check_robot.find_robot(dataset, robot)
    check_robot.check_given_units(dataset, profile, units or {})
    scans = scan_videos(dataset, progress, jobs=jobs, known=video_scans)
    rate = check_time.true_rate(dataset, scans)
    word = robot.name if isinstance(robot, RobotProfile) else robot
    context = CheckContext(dataset, scans, profile, rate, units or {}, named, word)
    compare_manifest(dataset, progress, jobs)
    found = list(dataset.findings)
    obstacles: list[Finding] = []
    for number, check in enumerate(() if dataset.outcome == "empty" else CHECKS):
        fresh = run_check(check, context)
        if check is lerobot_rules.obstacles:
            obstacles = fresh
            said = {(one.code, one.episode, one.camera) for one in found if one.severity == "error"}
            fresh = [one for one in fresh if (one.code, one.episode, one.camera) not in said]
        found += fresh
        if progress is not None:
            progress("checking", number + 1, len(CHECKS))
    everything = ordered(found)
    findings = with_fixes_that_help(dataset, without_consequences(everything))
    return CheckResult(
        findings,
        dataset,
        scans,
        time.monotonic() - begin,
        everything=everything,
        unloadable=_unloadable(everything, obstacles),
        profile=profile,
    )


def _unloadable(everything: list[Finding], obstacles: list[Finding]) -> tuple[str, ...]:
    codes = {found.code for found in everything if found.severity == "error"}
    ours = bool(codes & {"sample-unloadable", "recording-empty"})
    theirs = any(found.code != "check-failed" for found in obstacles) or any(RULES[code].blocking for code in codes)
    return (*(("smolpilot",) if ours else ()), *(("LeRobot",) if theirs else ()))


def run_check(check: Check, context: CheckContext) -> list[Finding]:
    """One check's findings; a check that stumbles over the data is itself a finding and stops no other."""
    found: list[Finding] = []
    name = f"{check.__module__.rsplit('.', 1)[-1].removeprefix('check_')}.{check.__name__}"
    try:
        # Columns of NaN are what some checks are there to report: numpy's remarks on them help nobody.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found += check(context)
    except Exception as error:
        message = f"The check {name} stopped: {type(error).__name__}: {error}"
        found.append(finding("check-failed", message, root=context.dataset.root))
    return found
