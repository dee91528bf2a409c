"""Where the parts of a sequence lie. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.errors import SmolpilotError
from smolpilot.training.run.run_folder import CONFIG

from .plan import Stage, load_plan

RESULT = "stage.json"


@dataclass(frozen=True)
class SequencePaths:
    """Folders and files of a sequence."""

    out: Path

    @property
    def plan(self) -> Path:
        return self.out / "stages.yaml"

    @property
    def statistics(self) -> Path:
        return self.out / "statistics.json"

    @property
    def robot(self) -> Path:
        return self.out / "robot.yaml"

    def stage(self, number: int, stage: Stage) -> Path:
        """The run of stage `number` (1 is the first)."""
        return self.out / "stages" / f"{number}_{stage.name}"

    def failed(self, number: int, stage: Stage, attempt: int) -> Path:
        """Where the run of a failed attempt is kept."""
        return self.out / "stages" / f"{number}_{stage.name}.attempt{attempt}"


def is_sequence(out: Path) -> bool:
    """Whether the folder is a sequence of stages, and not a single run."""
    return SequencePaths(out).plan.is_file()


def stage_of(out: Path) -> tuple[Path, str, bool] | None:
    """The run in which the sequence in `out` stands, `stage 2 of 3: blue`, and whether all stages are finished.

    None before its first stage.
    """
    try:
        plan = load_plan(SequencePaths(out).plan)
    except SmolpilotError:
        return None
    found = None
    for number, stage in enumerate(plan.stages, 1):
        folder = SequencePaths(out).stage(number, stage)
        if (folder / CONFIG).is_file():
            last = number == len(plan.stages) and (folder / RESULT).is_file()
            found = folder, f"stage {number} of {len(plan.stages)}: {stage.name}", last
    return found
