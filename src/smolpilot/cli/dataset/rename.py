"""`smolpilot dataset rename SRC DST --feature OLD=NEW`: other names for features of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, field

from smolpilot.cli.parsing.verbs import Verb
from smolpilot.common.option_types import Pairs
from smolpilot.common.progress import progress_bar

from .edits import CopyOptions, WriteOptions, report_results, settings_of


@dataclass(kw_only=True)
class RenameOptions(WriteOptions, CopyOptions):
    """Copy a dataset with other names for some of its features: state, action, cameras, further columns.

    Names change in meta/info.json, tables, statistics, episode list and video folders. Video packets and values are
    copied, and the copy is verified.
    """

    feature: Pairs = field(default_factory=dict)
    """Old and new names, as state=observation.state image=observation.images.front."""


def run(options: RenameOptions) -> None:
    """Write the copy."""
    from smolpilot.datasets.edit import rename_features
    from smolpilot.datasets.format.meta import read_meta

    meta = read_meta(options.src, trainable=False)
    with progress_bar() as progress:
        report = rename_features(meta, options.dst, options.feature, settings_of(options), progress=progress)
    report_results({options.dst: report}, options, source=str(options.src), renamed=options.feature)
    if not options.json:
        print(f"Renamed: {', '.join(f'{old} -> {new}' for old, new in options.feature.items())}")


VERB = Verb(RenameOptions, run)
