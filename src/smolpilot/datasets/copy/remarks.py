"""What a person is told of a result: what may trip a reader of it, and what is stored otherwise than in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.datasets.format.episodes import NEVER_RECORDED
from smolpilot.datasets.format.meta import DatasetMeta

from .copy_plan import PlacedEpisode, SourceFile
from .tables import form_of

if TYPE_CHECKING:
    from .proof.copy_report import CopyReport

LEROBOT_TOLERANCE = 1e-4


def content_warnings(placed: Sequence[PlacedEpisode], tasks: Mapping[int, str], report: CopyReport) -> list[str]:
    """What a reader of the result may stumble over, though it is equal to the source."""
    found = []
    indices = [one.index for one in placed]
    if indices != list(range(len(indices))):
        gap = next(number for number, index in enumerate(indices) if number != index)
        found.append(
            f"Episode indices have gaps (there is no episode {gap}): LeRobot finds episodes by position. "
            "`smolpilot dataset merge` numbers them anew."
        )
    if any(clip.others for one in placed for clip in one.clips.values()):
        found.append("Sound and other tracks beside the images have been left out: no LeRobot reader uses them.")
    if report.not_finite:
        found.append(
            f"The source holds NaN or infinite numbers in {', '.join(report.not_finite)}: "
            f"`smolpilot dataset check {placed[0].plan.source.root}`."
        )
    indices_of: dict[str, list[str]] = {}
    for index, text in tasks.items():
        indices_of.setdefault(text, []).append(str(index))
    for text, same in sorted(indices_of.items()):
        if len(same) > 1:
            found.append(
                f"Tasks {', '.join(same)} have the same text '{text}': `smolpilot dataset repair` makes them one."
            )
    if report.off_video > LEROBOT_TOLERANCE:
        found.append(
            f"Time stamps are up to {1000 * report.off_video:.2f} ms off the videos; LeRobot refuses more "
            f"than {1000 * LEROBOT_TOLERANCE:g} ms by default. `smolpilot dataset repair` puts them onto the grid."
        )
    return found


def layout_notes(sources: Sequence[DatasetMeta], files: Mapping[Path, SourceFile]) -> list[str]:
    """What was left out by choice, and columns that are stored in another way than in the sources."""
    without = sorted(set().union(*(meta.without for meta in sources)))
    found = [f"Left out by choice: {', '.join(without)}."] if without else []
    never = sorted({key for meta in sources for key, why in meta.left_out.items() if why == NEVER_RECORDED})
    if never:
        found.append(
            f"Declared in the source, but no episode has a video of it: {', '.join(never)}. Not declared here."
        )
    forms = {episode.data_path: form for meta in sources for form in [form_of(meta)] for episode in meta.episodes}
    unwrapped: dict[str, None] = {}
    pandas: dict[str, None] = {}
    for path, file in files.items():
        form = forms[path]
        for field in file.schema:
            if form.unwraps(field):
                unwrapped[field.name] = None
            elif form.drops(field.name) and field.name not in form.without:
                pandas[field.name] = None
    if unwrapped:
        found.append(f"Lists of one number are written as plain numbers: {', '.join(unwrapped)}.")
    if pandas:
        found.append(f"Row numbers that pandas left in the tables are left out: {', '.join(pandas)}.")
    return found
