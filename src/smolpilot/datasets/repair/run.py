"""repair: a sound copy of a damaged recording, as far as that can be had without inventing anything."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.datasets.audit import Audit, Finding, audit
from smolpilot.datasets.audit.check_time import true_rate
from smolpilot.datasets.audit.footage import Progress
from smolpilot.datasets.repair.plan import RepairPlan
from smolpilot.datasets.repair.planning import make_plan
from smolpilot.datasets.repair.staging import write_staging
from smolpilot.datasets.rewrite import EpisodePlan, RewriteOptions, rewrite
from smolpilot.errors import DatasetError, UsageError


@dataclass(frozen=True)
class RepairReport:
    """What was planned, and, unless it was a dry run, what a check of the result still finds."""

    plan: RepairPlan
    before: Audit
    after: Audit | None

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
            "source": str(self.before.recording.root),
            **self.plan.to_json(),
            "written": self.after is not None,
            "remaining": [found.to_json() for found in self.remaining],
            "complete": self.complete,
        }


def repair(
    src: str | Path, dst: str | Path, *, dry_run: bool = False, jobs: int = 1, progress: Progress | None = None
) -> RepairReport:
    """Check `src`, write a repaired copy to `dst` and check that, too.

    Video packets and every value that is not named in the plan are copied; the source is only read. Raises UsageError
    when `src` is no dataset folder or `dst` exists, DatasetError when no episode can be kept or the copy cannot be
    proven.
    """
    target = Path(dst).expanduser().absolute()
    if not dry_run and (target.exists() or target.is_symlink()):
        raise UsageError(
            f"The output {target} exists already.",
            expected="a path that does not exist yet: outputs are never overwritten",
            fix="Choose another path, or remove the old one.",
        )
    before = audit(src, progress=progress)
    if not dry_run and target.is_relative_to(before.recording.root):
        raise UsageError(f"The output {target} lies inside the recording.", fix="Choose a path outside of it.")
    plan = make_plan(before, true_rate(before.recording, before.footage))
    if dry_run:
        return RepairReport(plan, before, None)
    if not plan.episodes:
        reasons = "; ".join(f"episode {episode}: {reason}" for episode, reason in sorted(plan.dropped.items())[:5])
        raise DatasetError(
            f"No episode of {before.recording.root} can be kept ({reasons or 'there is none'}).",
            expected="at least one episode whose rows and videos can be read",
            fix="Copy or download the dataset again.",
        )
    _write(before, plan, target, jobs, progress)
    return RepairReport(plan, before, audit(target, progress=progress))


def _write(before: Audit, plan: RepairPlan, target: Path, jobs: int, progress: Progress | None) -> None:
    staging = target.parent / f".{target.name}.repaired-tables"
    target.parent.mkdir(parents=True, exist_ok=True)
    if staging.exists():
        shutil.rmtree(staging)
    try:
        meta = write_staging(before.recording, plan, staging)
        plans = [EpisodePlan(meta, episode.index) for episode in meta.episodes]
        options = RewriteOptions(version="v3.0" if plan.version == "v3.0" else "v2.1", jobs=jobs)
        rewrite(plans, target, options, info=plan.info, progress=progress)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
