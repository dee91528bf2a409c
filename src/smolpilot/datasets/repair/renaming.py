"""Features by the names of others (`state`, `actions`, `image`): what LeRobot calls them, where that is clear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from smolpilot.common.keys import ACTION, IMAGES, STATE, camera_name
from smolpilot.datasets.check.scan.video_scans import VideoScans
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

_KNOWN = {
    STATE: ("state", "states", "robot_state", "joint_state", "joint_states", "qpos", "proprio", "proprioception"),
    ACTION: ("action", "actions", "robot_action", "robot_actions", "act"),
}
_PART_OF = {STATE: ("state", "qpos", "proprio"), ACTION: ("action",)}
_PREFIXES = ("observation.", "observations.", "obs.", "images.", "image.", "rgb.")


def usual_names(dataset: FoundDataset) -> tuple[dict[str, str], list[str]]:
    """(old name -> LeRobot's, what a person has to choose): only where there is exactly one candidate."""
    renames: dict[str, str] = {}
    open_questions: list[str] = []
    for key in (STATE, ACTION):
        if key in dataset.vectors:
            continue
        found = candidates(dataset, key)
        if len(found) == 1:
            renames[found[0]] = key
        elif found:
            open_questions.append(
                f"Several features could be '{key}': {', '.join(found)}. Choose one: "
                f"`smolpilot dataset rename {dataset.root} DST --feature {found[0]}={key}`, and repair the copy."
            )
    taken = {*dataset.info.get("features", {}), *dataset.vectors, *dataset.cameras, *renames.values()}
    for key in dataset.cameras:
        new = usual_camera(key)
        if new != key and new not in taken:
            taken.add(new)
            renames[key] = new
    return renames, open_questions


def candidates(dataset: FoundDataset, key: str) -> list[str]:
    """Vectors that could be the state or the action: by the usual names, else by names that contain such a word."""
    vectors = [
        name
        for name, vector in dataset.vectors.items()
        if name not in (*INDEX_COLUMNS, STATE, ACTION) and len(vector.shape) == 1 and vector.dtype != "string"
    ]
    exact = [name for name in vectors if _bare(name) in _KNOWN[key]]
    return exact or [name for name in vectors if any(word in _bare(name) for word in _PART_OF[key])]


def usual_camera(key: str) -> str:
    """LeRobot's name for a camera feature; `observation.image` is one, too."""
    if key.startswith("observation.image") and "/" not in key:
        return key
    return f"{IMAGES}.{_bare(key)}"


def _bare(name: str) -> str:
    bare = name.replace("/", ".").strip(".")
    for prefix in _PREFIXES:
        if len(bare) > len(prefix):
            bare = bare.removeprefix(prefix)
    return bare


def apply_names(dataset: FoundDataset, video_scans: VideoScans, renames: Mapping[str, str]) -> None:
    """Give features other names in everything that was read; the files keep the old ones."""
    if not renames:
        return

    def new(name: str) -> str:
        return renames.get(name, name)

    if isinstance(dataset.info.get("features"), dict):
        dataset.info = {**dataset.info, "features": {new(k): v for k, v in dataset.info["features"].items()}}
    dataset.vectors = {new(key): vector for key, vector in dataset.vectors.items()}
    shown: dict[str, str] = {}
    for key, camera in dataset.cameras.items():
        if new(key) != key:
            shown[camera.name] = camera_name(new(key)).removeprefix("observation.")
            camera.key, camera.name = new(key), shown[camera.name]
    dataset.cameras = {new(key): camera for key, camera in dataset.cameras.items()}
    dataset.video_files = {new(key): files for key, files in dataset.video_files.items()}
    dataset.statistics = {new(key): stats for key, stats in dataset.statistics.items()}
    for record in dataset.records.values():
        record.spans = {new(key): span for key, span in record.spans.items()}
        record.statistics = {new(key): stats for key, stats in record.statistics.items()}
    for rows in dataset.rows.values():
        rows.columns = {new(name): values for name, values in rows.columns.items()}
    for path, schema in dataset.schemas.items():
        for place, field in enumerate(schema):
            if field.name in renames:
                schema = schema.set(place, field.with_name(new(field.name)))
        dataset.schemas[path] = schema
    video_scans.clips = {(new(key), episode): clip for (key, episode), clip in video_scans.clips.items()}
    video_scans.cameras = {new(key): paths for key, paths in video_scans.cameras.items()}
    gone = {f"'{name}'" for name in renames.values()}
    dataset.findings = [
        replace(found, camera=shown.get(found.camera, found.camera)) if found.camera else found
        for found in dataset.findings
        if not (found.code == "feature-missing" and any(name in found.message for name in gone))
    ]
