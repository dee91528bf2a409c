"""One cause, one finding: what only follows from another finding is not said again, and no fix costs most episodes."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence

from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.rules import ANEW, VIEW

_EXCLUDE = " dataset exclude "
_LOST = ("file-missing", "file-empty", "parquet-torn")
_META = ("recording-empty", "recording-interrupted")
# Errors after which nobody expects a sample to load: that it does not is no news.
_BASIC = ("structure", "schema", "indices", "time", "video", "instructions")


def without_consequences(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that have a cause of their own."""
    for code in _META:
        alone = [found for found in findings if found.code == code]
        if alone:
            others = (
                ("lfs-pointer",) if code == _META[0] else ("lfs-pointer", "file-missing", "file-empty", "video-torn")
            )
            return [*alone[:1], *(found for found in findings if found.code in others)]
    there = _There(findings)
    return [found for found in findings if not any(follows(found, there) for follows in _FOLLOWS)]


class _There:
    """What has been found, for quick questions."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.codes = {found.code for found in findings}
        self.errors = {found.code for found in findings if found.severity == "error"}
        self.basic = any(
            found.severity == "error" and found.group in _BASIC and found.code != "sample-unloadable"
            for found in findings
        )
        self.places = {(found.code, found.episode, found.camera) for found in findings}
        self.episodes = {(found.code, found.episode) for found in findings if found.severity == "error"}
        self.cameras = {(found.code, found.camera) for found in findings}
        pointers = [found.message for found in findings if found.code == "lfs-pointer"]
        self.meta_pointer = any(" meta/" in message for message in pointers)

    def at(self, codes: Sequence[str], found: Finding) -> bool:
        """Whether one of the codes was found for the same episode and camera, or for the whole of them."""
        episodes, cameras = (found.episode, None), (found.camera, None)
        return any(
            (code, episode, camera) in self.places for code in codes for episode in episodes for camera in cameras
        )


def _unloadable(found: Finding, there: _There) -> bool:
    return found.code == "sample-unloadable" and there.basic


def _rate(found: Finding, there: _There) -> bool:
    followers = ("timestamp-off-grid", "timestamp-off-video", "video-grid", "video-rate", "video-span")
    return found.code in followers and "fps-mismatch" in there.codes and found.code != "fps-mismatch"


def _clock(found: Finding, there: _There) -> bool:
    """Rows and frames are compared by their times: a wrong time is off in every comparison."""
    if found.code == "timestamp-off-video":
        lost = there.at(("video-short", "video-span", "video-torn", "video-swapped"), found)
        return lost or ("timestamp-backwards", found.episode) in there.episodes
    if found.code == "timestamp-off-grid":
        return ("timestamp-backwards", found.episode) in there.episodes
    if found.code == "video-grid":
        return there.at(("timestamp-off-video",), found) or ("timestamp-off-grid", found.episode) in there.episodes
    if found.code == "video-rate":
        return ("timestamp-off-video", found.camera) in there.cameras
    return False


def _length(found: Finding, there: _There) -> bool:
    """Too few or too many frames, because they are another episode's."""
    if found.code in ("video-short", "video-long", "statistics-pictures"):
        return ("video-swapped", found.episode, found.camera) in there.places
    if found.code == "episode-span" and found.episode is not None:
        return "episode-lookup" in there.codes or ("episode-length", found.episode) in there.episodes
    return False


def _lists(found: Finding, there: _There) -> bool:
    """A list that is gone takes everything with it that it lists."""
    if found.code == "lfs-pointer" or not there.meta_pointer:
        return False
    return found.group in ("indices", "statistics", "instructions", "schema") or found.code in (
        "totals-wrong",
        "meta-damaged",
    )


def _gaps(found: Finding, there: _There) -> bool:
    """LeRobot's looking up by position: the cause is the gap, or the order."""
    if found.code == "episode-lookup":
        return bool({"episode-gaps", "episode-unlisted", "episode-duplicate"} & there.errors)
    if found.code == "task-gaps":
        return "task-lookup" in there.errors
    if found.code == "task-lookup":
        return "task-duplicate" in there.errors
    return False


def _warned(found: Finding, there: _There) -> bool:
    """The same code as a warning beside an error."""
    return found.code == "column-type" and found.severity == "warning" and "column-type" in there.errors


_FOLLOWS: tuple[Callable[[Finding, _There], bool], ...] = (
    _unloadable,
    _rate,
    _clock,
    _length,
    _lists,
    _gaps,
    _warned,
)


def with_fixes_that_help(dataset: FoundDataset, findings: Sequence[Finding]) -> list[Finding]:
    """No fix leaves out an episode for a mere remark, nor more than half of all for anything; none repairs nothing."""
    hit: dict[str, set[int]] = {}
    lost: set[int] = set()
    for found in findings:
        if found.episode is None:
            continue
        if _EXCLUDE in found.fix:
            hit.setdefault(found.code, set()).add(found.episode)
        if found.code in _LOST and found.camera is None:
            lost.add(found.episode)
    return [_helpful(dataset, found, hit, lost) for found in findings]


def _helpful(dataset: FoundDataset, found: Finding, hit: dict[str, set[int]], lost: set[int]) -> Finding:
    most = found.episode is None or len(hit.get(found.code, ())) > len(dataset.records) / 2
    if _EXCLUDE in found.fix and (most or found.severity == "info"):
        template = ANEW if found.severity == "error" else VIEW
        return dataclasses.replace(found, fix=template.replace("{path}", shlex.quote(str(dataset.root))))
    if found.code in _LOST and len(lost) == len(dataset.records):
        # Without any rows there is nothing that a repair could keep.
        return dataclasses.replace(found, fix=found.fix.partition(";")[0] + ".")
    return found
