"""What a repair looks at: a dataset with LeRobot's names, without what is left out, and every check of it."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from pathlib import Path

from smolpilot.common.errors import DatasetError, UsageError
from smolpilot.common.text import pluralize
from smolpilot.datasets.beside import files_beside
from smolpilot.datasets.check import CheckResult
from smolpilot.datasets.check.checks.check_time import true_rate
from smolpilot.datasets.check.context import CheckContext, named
from smolpilot.datasets.check.run import CHECKS, run_check
from smolpilot.datasets.check.scan.scanning import scan_video
from smolpilot.datasets.check.scan.video_scans import Clip, Progress, VideoScans, cut_again, scan_videos
from smolpilot.datasets.feature_choice import FeatureChoice
from smolpilot.datasets.format.features import unusable_key, why_no_key
from smolpilot.datasets.format.files import lfs_advice
from smolpilot.datasets.format.paths import require_own_meta
from smolpilot.datasets.tolerant.findings import ordered
from smolpilot.datasets.tolerant.found_dataset import FoundDataset
from smolpilot.datasets.tolerant.open import read_found_dataset

from .nested import left_aside, nested_recordings
from .renaming import apply_names, usual_names
from .repair_plan import RepairPlan, RepairWishes
from .repaired_episodes import place_unclaimed


def look(src: str | Path, wishes: RepairWishes, progress: Progress | None) -> tuple[CheckResult, RepairPlan]:
    """Read and check a dataset; each video is decoded once. The plan of its repair says what has been decided so far.

    Raises UsageError when `src` is no dataset folder or an option names an unknown feature, DatasetError when there is
    nothing recorded in it.
    """
    begin = time.monotonic()
    _refuse_several(Path(src).expanduser())
    dataset = read_found_dataset(src)
    _refuse_empty(dataset)
    plan = RepairPlan(dataset.format.written, 0.0)
    _leave_out(dataset, plan, wishes)
    _refuse_names(dataset, plan)
    _refuse_links(dataset)
    video_scans = scan_videos(dataset, progress, jobs=wishes.jobs)
    _place(dataset, video_scans, plan)
    plan.aside = [*left_aside(dataset, plan.left_out), *files_beside(dataset.root).warnings()]
    _absent_cameras(dataset, video_scans, plan)
    _sizes(dataset, video_scans, plan)
    plan.renames, plan.impossible = usual_names(dataset)
    apply_names(dataset, video_scans, plan.renames)
    plan.actions += [f"Feature '{old}' is called '{new}', as LeRobot does." for old, new in plan.renames.items()]
    plan.fps = true_rate(dataset, video_scans)
    context = CheckContext(dataset, video_scans, None, plan.fps)
    findings = list(dataset.findings)
    for number, check in enumerate(CHECKS):
        findings += run_check(check, context)
        if progress is not None:
            progress("checking", number + 1, len(CHECKS))
    return CheckResult(ordered(findings), dataset, video_scans, time.monotonic() - begin), plan


def _refuse_several(root: Path) -> None:
    """A folder of datasets is none."""
    own = (root / "meta" / "info.json", root / "data", root / "meta" / "episodes")
    if not root.is_dir() or any(path.exists() for path in own):
        return
    inside = nested_recordings(root)
    if inside:
        raise UsageError(
            f"{root} holds {pluralize(len(inside), 'dataset')} and is none: "
            f"{', '.join(path.relative_to(root).as_posix() for path in inside[:5])}.",
            expected="the folder of one dataset",
            fix=f"smolpilot dataset repair {shlex.quote(str(inside[0]))} DST",
        )


def _refuse_empty(dataset: FoundDataset) -> None:
    """A dataset that holds nothing yet is not damaged."""
    root = dataset.root
    if dataset.records or dataset.rows:
        return
    pointers = [found for found in dataset.findings if found.code == "lfs-pointer"]
    if pointers:
        raise DatasetError(
            f"{root} holds Git-LFS pointers instead of its files: {pointers[0].message}",
            expected="the files themselves",
            fix=lfs_advice(root),
        )
    if not dataset.info.get("total_episodes") and not any(root.glob("data/**/*.parquet")):
        raise DatasetError(
            f"The dataset {root} has no episodes yet: there is nothing to repair.",
            expected="at least one recorded episode",
            fix="Record an episode into it first.",
        )


def _refuse_names(dataset: FoundDataset, plan: RepairPlan) -> None:
    """A feature whose name leads elsewhere, or is none, is in no copy: what it holds was not looked at."""
    declared = dataset.info.get("features")
    for key, entry in declared.items() if isinstance(declared, dict) else ():
        reason = why_no_key(key, None)
        if reason and key not in plan.left_out and isinstance(entry, dict):
            raise unusable_key(key, reason, dataset.root / "meta" / "info.json", verb="repair")


def _refuse_links(dataset: FoundDataset) -> None:
    """What lies elsewhere is not missing: no episode is given up for it."""
    require_own_meta(dataset.root)
    for record in dataset.records.values():
        for path in (record.data_path, *(span.path for span in record.spans.values())):
            if path is not None:
                dataset.places.require(path, "file")


def _leave_out(dataset: FoundDataset, plan: RepairPlan, wishes: RepairWishes) -> None:
    """Features that the options leave out are not looked at: whatever is wrong with them does not matter."""
    stored = {name for schema in dataset.schemas.values() for name in schema.names}
    declared = dataset.info.get("features")
    known = {*(declared if isinstance(declared, dict) else {}), *dataset.vectors, *dataset.cameras, *stored}
    keys = {camera.name: key for key, camera in dataset.cameras.items()} | {name: name for name in known}
    features, without = (tuple(keys.get(name, name) for name in names) for names in (wishes.features, wishes.without))
    gone = FeatureChoice(features, without).dropped(known)
    for key in sorted(gone):
        plan.actions.append(f"Feature '{key}' left out, as {'--features' if wishes.features else '--without'} says.")
        _forget(dataset, key, plan)


def _forget(dataset: FoundDataset, key: str, plan: RepairPlan) -> None:
    """Drop a feature from what was read."""
    plan.left_out.add(key)
    camera = dataset.cameras.pop(key, None)
    dataset.vectors.pop(key, None)
    dataset.video_files.pop(key, None)
    dataset.statistics.pop(key, None)
    for record in dataset.records.values():
        record.spans.pop(key, None)
    for rows in dataset.rows.values():
        rows.columns.pop(key, None)
    name = camera.name if camera is not None else None
    dataset.findings = [
        one
        for one in dataset.findings
        if not (one.camera is not None and one.camera == name) and f"column '{key}'" not in one.message
    ]


def _place(dataset: FoundDataset, video_scans: VideoScans, plan: RepairPlan) -> None:
    """Episodes whose place in a shared video is not written down, placed by counting."""
    if not dataset.format.shared_files:
        return
    for key, camera in dataset.video_cameras.items():
        lost = [index for index, record in dataset.records.items() if key not in record.spans]
        if not lost or not dataset.video_files.get(key):
            continue
        for path in dataset.video_files[key]:
            if path not in video_scans.scans:
                video_scans.scans[path] = scan_video(path)
        placed = place_unclaimed(dataset, video_scans.scans, key)
        if not placed:
            continue
        cut_again(dataset, video_scans, key)
        plan.actions.append(
            f"{named(placed)}: the place of the video of camera '{camera.name}' found by counting: these frames "
            "belong to no other episode."
        )
        known = set(placed)
        dataset.findings = [
            one
            for one in dataset.findings
            if not (
                one.episode in known and one.code in ("file-missing", "camera-absent") and one.camera == camera.name
            )
        ]


def _absent_cameras(dataset: FoundDataset, video_scans: VideoScans, plan: RepairPlan) -> None:
    """A camera that most episodes lack is left out; one that few lack costs these episodes."""
    pointers = {(one.camera, one.episode) for one in dataset.findings if one.code == "lfs-pointer"}
    for key, camera in list(dataset.cameras.items()):
        episodes = dataset.episodes
        lacking = [
            index for index in episodes if not _filmed(video_scans, key, index) and (camera.name, index) not in pointers
        ]
        if not lacking or 2 * len(lacking) <= len(episodes):
            continue
        what = "a video of it" if camera.is_video else "images of it"
        why = f"{len(lacking)} of {len(episodes)} episodes lack {what}."
        if len(lacking) == len(episodes):
            why = f"no episode has {what}. If there are some elsewhere, copy them into the folder and repair again."
        plan.actions.append(f"Camera '{camera.name}' left out: {why}")
        video_scans.clips = {place: clip for place, clip in video_scans.clips.items() if place[0] != key}
        video_scans.cameras.pop(key, None)
        _forget(dataset, key, plan)


def _filmed(video_scans: VideoScans, key: str, episode: int) -> bool:
    clip = video_scans.clips.get((key, episode))
    if clip is None or not len(clip.scan.times):
        return False
    return clip.camera.is_video or bool(clip.scan.decoded[clip.first : clip.last].any())


def _sizes(dataset: FoundDataset, video_scans: VideoScans, plan: RepairPlan) -> None:
    """A size that most videos, or images in the tables, have is the right one, whatever was declared."""
    for camera in dataset.cameras.values():
        shapes = _shapes(video_scans.of(camera.key))
        if camera.size is None or not shapes or (*camera.size, 3) in shapes:
            continue
        height, width, channels = Counter(shapes).most_common(1)[0][0]
        now, was = f"{width}x{height}", f"{camera.size[1]}x{camera.size[0]}"
        if camera.is_video:
            now = f"{now}, as its videos are"
        else:
            now, was = f"{now} with {channels} channels, as its images are", f"{was} with 3"
        plan.actions.append(f"meta/info.json: camera '{camera.name}' is declared {now}; it was {was}.")
        _declare_size(dataset, camera.key, height, width, channels)
        camera.size = (height, width)
        if channels != 3:
            # As a feature of that shape is read: samples leave it out.
            camera.size, camera.depth = None, True


def _shapes(clips: list[Clip]) -> list[tuple[int, ...]]:
    """(height, width, channels) of what the clips of a camera show, as far as that is known."""
    found: list[tuple[int, ...]] = []
    for clip in clips:
        if clip.camera.is_video:
            found += [(clip.scan.height, clip.scan.width, 3)] if clip.scan.height else []
        elif clip.frames and clip.first < len(clip.scan.shapes) and clip.scan.shapes[clip.first].all():
            found.append(tuple(clip.scan.shapes[clip.first].tolist()))
    return found


def _declare_size(dataset: FoundDataset, key: str, height: int, width: int, channels: int) -> None:
    entry = dataset.info["features"][key]
    first = entry.get("shape", [0])[0] == 3
    shape = [channels, height, width] if first else [height, width, channels]
    size = {"video.height": height, "video.width": width}
    details = {
        part: {name: size.get(name, value) for name, value in entry[part].items()}
        for part in ("info", "video_info")
        if isinstance(entry.get(part), dict)
    }
    features = {**dataset.info["features"], key: {**entry, "shape": shape, **details}}
    dataset.info = {**dataset.info, "features": features}
