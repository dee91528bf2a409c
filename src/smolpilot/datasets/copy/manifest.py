"""`meta/smolpilot_manifest.json`: content hashes of every file of a result, and what was proven of it.

The hashes are BLAKE2b-256, as `b2sum -l 256` prints them, and stay so: a reader of format 1 compares with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.hashing import b2sum
from smolpilot.datasets.beside import MANIFEST
from smolpilot.datasets.format.meta import DatasetMeta

from .work import WorkFolder

if TYPE_CHECKING:
    from .proof.copy_report import CopyReport


def write_manifest(work: WorkFolder, report: CopyReport, sources: Sequence[DatasetMeta]) -> None:
    """Write it last; nothing in it depends on when or where the result was made."""
    known = {record["output"]: record for record in work.records.values() if "output" in record}
    files: dict[str, Any] = {}
    for path in sorted(work.root.rglob("*")):
        if path.is_file() and path.relative_to(work.root).as_posix() != MANIFEST:
            record = known.get(path.relative_to(work.folder).as_posix())
            digest = record["blake2b"] if record else b2sum(path)
            files[path.relative_to(work.root).as_posix()] = {"blake2b": digest, "bytes": path.stat().st_size}
    document = {
        "format": 1,
        "sources": [
            {"version": meta.version, "episodes": len(meta.episodes), "frames": meta.total_frames} for meta in sources
        ],
        "proof": {row["check"]: row["compared"] for row in report.proof.table()},
        "reencoded": report.reencoded,
        "encoded_again": report.proof.encoded,
        "statistics_computed": report.computed,
        "files": files,
    }
    write_text_atomic(work.root / MANIFEST, json.dumps(document, indent=1) + "\n")
