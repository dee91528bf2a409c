"""The error where no episode can be kept: what is missing, and the way out that there is."""

from __future__ import annotations

import shlex

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.files import lfs_advice, without_footer

from .looking import Look
from .repair_plan import RepairPlan

_ABSENT = ("file-missing", "file-empty", "parquet-torn", "video-torn", "video-undecodable")


def nothing_left(seen: Look, plan: RepairPlan) -> DatasetError:
    """Say why, and what can be done about it."""
    root = seen.audit.recording.root
    found = seen.audit.findings
    reasons = "; ".join(f"episode {episode}: {reason}" for episode, reason in sorted(plan.dropped.items())[:5])
    where = shlex.quote(str(root))
    pointers = [one for one in found if one.code == "lfs-pointer"]
    absent = [one for one in found if one.code in _ABSENT]
    cameras = sorted({one.camera for one in found if one.camera and one.code in _ABSENT})
    if pointers:
        fix = lfs_advice(root)
    elif _interrupted(seen):
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


def _interrupted(seen: Look) -> bool:
    """Whether the tables lack their end, which a recorder writes last."""
    recording = seen.audit.recording
    listed = [path for path in recording.root.glob("data/**/*.parquet") if path.is_file()]
    tables = [path for path in listed if not recording.places.why_not(path) and path.stat().st_size > 4]
    return bool(tables) and recording.format.shared_files and all(without_footer(path) for path in tables)
