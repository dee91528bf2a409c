"""How the new folder of an edit is written; the same for all edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from smolpilot.datasets.copy import RewriteOptions
from smolpilot.datasets.format.meta import DatasetMeta


@dataclass(frozen=True)
class EditSettings:
    """`version` "same" is that of the sources: v2.0 becomes v2.1, and different ones v3.0."""

    version: Literal["same", "v3.0", "v2.1"] = "same"
    jobs: int = 1
    reencode: bool = False

    def rewriting(self, sources: Sequence[DatasetMeta]) -> RewriteOptions:
        """The options of the engine for these sources."""
        version = self.version
        if version == "same":
            version = "v3.0" if any(meta.version == "v3.0" for meta in sources) else "v2.1"
        return RewriteOptions(version=version, jobs=self.jobs, reencode=self.reencode)
