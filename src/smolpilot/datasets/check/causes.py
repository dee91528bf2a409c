"""One cause, one finding: what only follows from another finding is not said again, and no fix costs most episodes."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Literal

from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.rules import ANEW, VIEW

_EXCLUDE = " dataset exclude "
_LOST = ("file-missing", "file-empty", "parquet-torn")
_META = ("recording-empty", "recording-interrupted")
# Errors after which nobody expects a sample to load: that it does not is no news.
_BASIC = ("structure", "schema", "indices", "time", "video", "instructions")
# What is said of the lists of the meta folder.
_LISTED, _OF_LISTS = ("indices", "statistics", "instructions", "schema"), ("totals-wrong", "meta-damaged")


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
    return [found for found in findings if not there.explains(found)]


_FOLLOWS: tuple[tuple[tuple[str, ...], Literal["dataset", "episode", "camera", "clip"], tuple[str, ...]], ...] = (
    (
        ("timestamp-off-grid", "timestamp-off-video", "video-grid", "video-rate", "video-span"),
        "dataset",
        ("fps-mismatch",),
    ),
    # Rows and frames are compared by their times: a wrong time is off in every comparison.
    (("timestamp-off-video", "timestamp-off-grid"), "episode", ("timestamp-backwards",)),
    (("timestamp-off-video",), "clip", ("video-short", "video-span", "video-torn", "video-swapped")),
    (("video-grid",), "clip", ("timestamp-off-video",)),
    (("video-grid",), "episode", ("timestamp-off-grid",)),
    (("video-rate",), "camera", ("timestamp-off-video",)),
    # Too few or too many frames, because they are another episode's.
    (("video-short", "video-long", "statistics-pictures"), "clip", ("video-swapped",)),
    (("episode-span",), "episode", ("episode-length",)),
    # LeRobot looks up by position: the cause is the gap, or the order.
    (("episode-lookup",), "dataset", ("episode-gaps", "episode-unlisted", "episode-duplicate")),
    (("task-gaps",), "dataset", ("task-lookup",)),
    (("task-lookup",), "dataset", ("task-duplicate",)),
)
"""Codes that say nothing new where one of other codes was found, in the same place: as an error, but for a clip."""


class _There:
    """What has been found, for quick questions."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        errors = [found for found in findings if found.severity == "error"]
        self._codes = {found.code for found in errors}
        self._episodes = {(found.code, found.episode) for found in errors}
        self._cameras = {(found.code, found.camera) for found in errors}
        self._clips = {(found.code, found.episode, found.camera) for found in findings}
        self._basic = any(found.group in _BASIC and found.code != "sample-unloadable" for found in errors)
        # A list that is gone takes everything with it that it lists.
        self._lists_gone = any(found.code == "lfs-pointer" and " meta/" in found.message for found in findings)

    def explains(self, found: Finding) -> bool:
        """Whether a finding only follows from another one."""
        code = found.code
        if self._lists_gone and code != "lfs-pointer" and (found.group in _LISTED or code in _OF_LISTS):
            return True
        if code == "sample-unloadable":
            return self._basic
        if code == "column-type" and found.severity == "warning":
            return code in self._codes
        if code == "episode-span" and found.episode is not None and "episode-lookup" in self._codes:
            return True
        return any(
            code in followers and any(self._has(cause, place, found) for cause in causes)
            for followers, place, causes in _FOLLOWS
        )

    def _has(self, code: str, place: str, found: Finding) -> bool:
        if place == "dataset":
            return code in self._codes
        if place == "episode":
            return (code, found.episode) in self._episodes
        if place == "camera":
            return (code, found.camera) in self._cameras
        places = ((code, episode, camera) for episode in (found.episode, None) for camera in (found.camera, None))
        return not self._clips.isdisjoint(places)


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
