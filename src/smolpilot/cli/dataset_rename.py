"""`smolpilot dataset rename SRC DST --feature OLD=NEW`: other names for features of a recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smolpilot.option_types import Few, Pairs

from .edit_options import EditOptions, report_results, settings_of
from .options import parse


@dataclass
class RenameOptions:
    """Copy a recording with other names for some of its features: state, action, cameras, further columns.

    Names change in meta/info.json, tables, statistics, episode list and video folders. Video packets and values are
    copied, and that is proven; the source is only read.
    """

    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
    """The recording: the folder with meta/, data/ and videos/."""
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")]
    """The new folder; it must not exist yet."""
    feature: Pairs = field(default_factory=dict)
    """Old and new names, as state=observation.state image=observation.images.front."""
    to: Literal["same", "v3.0", "v2.1"] = "same"
    """LeRobot version of the new folder; `same` is the source's (v2.0 becomes v2.1)."""
    jobs: Few = 0
    """Number of processes; 0 takes one per core."""
    reencode: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Decode and encode again what cannot be copied (episodes without a key frame at their start)."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON document instead of text."""


def main(args: list[str]) -> int:
    """Run `smolpilot dataset rename …`."""
    options = parse(RenameOptions, args, verb="dataset rename")
    from smolpilot.datasets.edit import rename_features
    from smolpilot.datasets.format.meta import read_meta

    from .progress import progress_bar

    edit = EditOptions(to=options.to, jobs=options.jobs, reencode=options.reencode, json=options.json)
    meta = read_meta(options.src, trainable=False)
    with progress_bar() as progress:
        report = rename_features(meta, options.dst, options.feature, settings_of(edit), progress=progress)
    report_results({options.dst: report}, edit, source=str(options.src), renamed=options.feature)
    if not options.json:
        print(f"Renamed: {', '.join(f'{old} -> {new}' for old, new in options.feature.items())}")
    return 0
