"""What loading a checkpoint found: sizes, dtypes, statistics, and every name that did not match."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoadReport:
    """Facts of a loaded or made policy. `unexpected` names by class; weights among them would have been an error."""

    source: str
    kind: str  # "bundle", "LeRobot checkpoint", "LoRA adapter", "from scratch", ...
    parameters: int = 0
    trainable: int = 0
    dtype: str = ""
    found_dtypes: dict[str, str] = field(default_factory=dict)  # module -> dtype in the file
    device: str = ""
    memory_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    harmless: list[str] = field(default_factory=list)
    normalization: list[str] = field(default_factory=list)
    statistics: dict[str, str] = field(default_factory=dict)  # feature -> where its statistics came from
    statistics_problem: str = ""  # why there are none to normalize with, where they were not required
    digests: str = ""  # how many files were compared with theirs
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """The report for a person, several lines."""
        lines = [
            f"{self.kind} {self.source}",
            f"  parameters    {self.parameters:,}, {self.trainable:,} trainable",
            f"  dtype         {self.dtype} on {self.device}, {self.memory_bytes / 1e6:,.1f} MB{self._file_dtypes()}",
            f"  missing       {_listed(self.missing)}",
            f"  unexpected    harmless: {_listed(self.harmless)}; normalization: {_listed(self.normalization)}",
        ]
        if self.statistics:
            lines.append(
                "  statistics    " + ", ".join(f"{key} from {where}" for key, where in self.statistics.items())
            )
        if self.digests:
            lines.append(f"  digests       {self.digests}")
        lines += [f"  note          {note}" for note in self.notes]
        lines += [f"  WARNING       {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _file_dtypes(self) -> str:
        kinds = set(self.found_dtypes.values())
        if not kinds or kinds == {self.dtype}:
            return ""
        return " (file: " + ", ".join(f"{module} {dtype}" for module, dtype in self.found_dtypes.items()) + ")"


def _listed(names: list[str], limit: int = 2) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{len(names)} ({', '.join(names[:limit])}{more})"
