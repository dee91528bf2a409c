"""repair: a sound copy of a damaged dataset, as far as that can be had without inventing anything."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import DatasetError
from smolpilot.common.machine import cores
from smolpilot.datasets.check import CheckResult, Finding, check_dataset
from smolpilot.datasets.check.scan.video_scans import Progress
from smolpilot.datasets.copy import CopyOptions, EpisodePlan, copy_episodes
from smolpilot.datasets.format.files import lfs_advice, without_footer
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .copied import copied_scans
from .looking import look
from .planning import complete_plan
from .repair_plan import RepairPlan, RepairWishes
from .staging import write_staging


@dataclass(frozen=True)
class RepairReport:
    """What was planned, and, unless it was a dry run, what a check of the result still finds."""

    plan: RepairPlan
    before: CheckResult
    after: CheckResult | None

    @property
    def remaining(self) -> list[Finding]:
        """Errors that the result still has."""
        return [found for found in self.after.findings if found.severity == "error"] if self.after is not None else []

    @property
    def complete(self) -> bool:
        """Whether nothing is left that the repair could not put right."""
        return not self.remaining and not self.plan.impossible and bool(self.plan.episodes)

    def to_json(self) -> dict[str, Any]:
        """Plan and outcome as plain values."""
        return {
            "source": str(self.before.dataset.root),
            **self.plan.to_json(),
            "written": self.after is not None,
            "remaining": [found.to_json() for found in self.remaining],
            "complete": self.complete,
        }


def repair(
    src: str | Path,
    dst: str | Path,
    wishes: RepairWishes | None = None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepairReport:
    """Check `src`, write a repaired copy to `dst` and check that, too; each video is decoded once.

    Video packets and every value that is not named in the plan are copied; the source is only read. Raises UsageError
    when `src` is no dataset folder or `dst` exists, DatasetError when no episode can be kept or the copy cannot be
    proven.
    """
    chosen = wishes or RepairWishes()
    target = Path(dst).expanduser().absolute()
    if not dry_run:
        refuse_existing(target, "datasets", Path(src).expanduser())
    before, plan = look(src, chosen, progress)
    complete_plan(before, plan)
    if not plan.episodes:
        raise nothing_left(before, plan)
    if dry_run:
        return RepairReport(plan, before, None)
    plan.reencoded = _write(before, plan, target, chosen, progress)
    known = None if plan.reencoded else copied_scans(before, plan, target)
    after = check_dataset(target, jobs=chosen.jobs, video_scans=known, progress=progress)
    return RepairReport(plan, before, after)


def _write(
    before: CheckResult, plan: RepairPlan, target: Path, wishes: RepairWishes, progress: Progress | None
) -> list[str]:
    staging = target.parent / f".{target.name}.repaired-tables"
    target.parent.mkdir(parents=True, exist_ok=True)
    if staging.exists():
        shutil.rmtree(staging)
    try:
        meta = write_staging(before.dataset, plan, staging)
        plans = [EpisodePlan(meta, episode.index) for episode in meta.episodes]
        options = CopyOptions(version=plan.version, jobs=wishes.jobs or cores(), reencode=wishes.reencode)
        return copy_episodes(plans, target, options, info=plan.info, progress=progress).reencoded
    finally:
        shutil.rmtree(staging, ignore_errors=True)


_ABSENT = ("file-missing", "file-empty", "parquet-torn", "video-torn", "video-undecodable")


def nothing_left(before: CheckResult, plan: RepairPlan) -> DatasetError:
    """Say why, and what can be done about it."""
    root, found = before.dataset.root, before.findings
    reasons = "; ".join(f"episode {episode}: {reason}" for episode, reason in sorted(plan.dropped.items())[:5])
    where = shlex.quote(str(root))
    pointers = [one for one in found if one.code == "lfs-pointer"]
    absent = [one for one in found if one.code in _ABSENT]
    cameras = sorted({one.camera for one in found if one.camera and one.code in _ABSENT})
    if pointers:
        fix = lfs_advice(root)
    elif _interrupted(before.dataset):
        fix = (
            "The recording was stopped before LeRobot closed its tables: rows that are only in such a file cannot be "
            "read by anybody. Record again."
        )
    elif absent and not all(one.camera for one in absent):
        fix = "Copy or download these files again."
    elif cameras:
        fix = (
            "Copy or download these videos again; without them: "
            f"smolpilot dataset repair {where} DST --without {' '.join(cameras)}"
        )
    else:
        fix = f"smolpilot dataset check {where} names each of these places; record the episodes again."
    return DatasetError(
        f"No episode of {root} can be kept ({reasons or 'there is none'}).",
        expected="at least one episode whose rows and videos can be read",
        fix=fix,
    )


def _interrupted(dataset: FoundDataset) -> bool:
    """Whether the tables lack their end, which a recorder writes last."""
    listed = [path for path in dataset.root.glob("data/**/*.parquet") if path.is_file()]
    tables = [path for path in listed if not dataset.places.why_not(path) and path.stat().st_size > 4]
    return bool(tables) and dataset.format.shared_files and all(without_footer(path) for path in tables)
