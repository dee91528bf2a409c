"""How the new folder of an edit is written; the same for all edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from smolpilot.datasets.copy import RewriteOptions
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.format.versions import WrittenVersion, written_as


@dataclass(frozen=True)
class EditSettings:
    """`version` "same" is that of the sources: v2.0 becomes v2.1, and different ones v3.0."""

    version: Literal["same"] | WrittenVersion = "same"
    jobs: int = 1
    reencode: bool = False

    def rewriting(self, sources: Sequence[DatasetMeta]) -> RewriteOptions:
        """The options of the engine for these sources."""
        version = self.version
        if version == "same":
            version = written_as(meta.format for meta in sources)
        return RewriteOptions(version=version, jobs=self.jobs, reencode=self.reencode)
