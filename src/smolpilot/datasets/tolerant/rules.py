"""Every code that a check can report: its severity, group, meaning and fix. docs/dataset-checks.md lists the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Severity = Literal["error", "warning", "info"]

REPAIR = "smolpilot dataset repair {path} DST"
EXCLUDE = "smolpilot dataset exclude {path} DST --episodes {episode}"
RENAME = "smolpilot dataset tasks {path} DST --rename INDEX='new text'"
RENAME_FEATURE = "smolpilot dataset rename {path} DST --feature {key}={new}"
VIEW = "Look at it: smolpilot dataset view {path}"
ANEW = "Record these episodes anew: most of the dataset has it, and what is missing is in none of its files."
WITHOUT = "Nothing needs to be done; a copy without it: smolpilot dataset convert {path} DST --without {key}"
AGAIN = "Copy or download the file again; without it: " + REPAIR
CHANGED = "Copy or download the file again; if the change was meant, a copy has a manifest of its own: " + REPAIR

GROUPS: dict[str, str] = {
    "structure": "files and metadata",
    "schema": "features and columns",
    "indices": "episodes and indices",
    "time": "time stamps",
    "video": "videos and cameras",
    "statistics": "statistics",
    "numbers": "states and actions",
    "episodes": "demonstrations",
    "instructions": "instructions",
    "loading": "loading",
}


@dataclass(frozen=True)
class Rule:
    """What a code means; `fix` may name {path} and {episode}. `blocking`: as an error, it stops LeRobot as well."""

    severity: Severity
    group: str
    meaning: str
    fix: str
    blocking: bool = False


def _blocking(meaning: str, fix: str = REPAIR, severity: Severity = "error") -> tuple[Severity, str, str, bool]:
    return severity, meaning, fix, True


def _error(meaning: str, fix: str = REPAIR) -> tuple[Severity, str, str, bool]:
    return "error", meaning, fix, False


def _warning(meaning: str, fix: str = REPAIR) -> tuple[Severity, str, str, bool]:
    return "warning", meaning, fix, False


def _info(meaning: str, fix: str = REPAIR) -> tuple[Severity, str, str, bool]:
    return "info", meaning, fix, False


_RULES = {
    "structure": {
        "recording-empty": _blocking("no episode has been recorded yet", "Record episodes into it."),
        "recording-interrupted": _blocking(
            "the recorder was stopped before it closed its files, so they are incomplete"
        ),
        "info-damaged": _blocking(
            "meta/info.json is missing, truncated, not a JSON object, or has a value that LeRobot does not accept"
        ),
        "version-unknown": _error("codebase_version is missing, unknown, or does not match the files"),
        "meta-damaged": _blocking(
            "a file of the meta folder (episodes, tasks, statistics) is missing, torn or unreadable"
        ),
        "lfs-pointer": _blocking("a file is a Git-LFS pointer, not the content", "git -C {path} lfs pull"),
        "file-missing": _blocking("a data or video file that the metadata names does not exist", AGAIN),
        "file-empty": _blocking("a file has 0 bytes", AGAIN),
        "parquet-torn": _blocking("a data file is not a complete parquet file", AGAIN),
        "template-unusable": _blocking(
            "data_path or video_path is missing, not a template, or points out of the folder"
        ),
        "path-unusual": _error("the files exist, but not where data_path and video_path say"),
        "fps-invalid": _blocking("info's fps is missing or not a number above 0"),
        "totals-wrong": _error("total_episodes, total_frames or total_tasks of info differ from the data"),
        "totals-missing": _error("info has no totals, which LeRobot needs (v2.x: a warning)"),
        "splits-wrong": _info("info's splits name episodes that are not there"),
        "file-stray": _info("a file in data/ or videos/ that no episode uses", "Remove it from a copy."),
        "file-left-out": _warning(
            "a file that copies leave out: a link out of the dataset, not a regular file, hidden (info), or with a "
            "name that is not UTF-8 (renamed)",
            "Put the file itself in its place, or remove it from a copy.",
        ),
        "table-stray": _error(
            "a table in data/ that no episode uses: LeRobot reads it anyway",
            "Remove the file, or leave it out of a copy: " + REPAIR,
        ),
        "manifest-changed": _error(
            "a file has changed since smolpilot wrote it, by meta/smolpilot_manifest.json (beside meta/, data/ and "
            "videos/: info)",
            CHANGED,
        ),
        "manifest-missing": _warning("meta/smolpilot_manifest.json lists a file that is gone", CHANGED),
        "manifest-added": _info("a file that meta/smolpilot_manifest.json does not list", "Nothing needs to be done."),
        "manifest-damaged": _warning(
            "meta/smolpilot_manifest.json cannot be read, so changes of files cannot be detected"
        ),
        "file-large": _info("a file of more than 5 GB", "smolpilot dataset convert {path} DST"),
    },
    "schema": {
        "features-damaged": _blocking("info's features are missing, or one has no dtype and shape that LeRobot knows"),
        "feature-missing": _error("there is no observation.state or no action", RENAME_FEATURE),
        "names-nested": _info("joint names are nested or keyed; smolpilot flattens them"),
        "names-missing": _info("joints have no names"),
        "names-wrong": _warning("there is not one name per joint, or a name appears twice"),
        "column-missing": _blocking("a data file lacks a column that the features or LeRobot need"),
        "column-undeclared": _error(
            "a data file has a column that the features do not name: LeRobot cannot open it (v2.x: a warning)"
        ),
        "column-type": _error("a column is not of the type that the features declare (a warning if LeRobot casts it)"),
        "column-shape": _blocking("a column has more or fewer numbers per row than its feature"),
        "column-empty": _blocking("a column has rows without a value: LeRobot cannot batch them"),
        "camera-absent": _blocking("a camera is declared, and no episode has a video of it"),
        "camera-unusable": _warning(
            "a depth camera, or images that are not three 8-bit colors: samples leave it out", WITHOUT
        ),
    },
    "indices": {
        "episode-duplicate": _error("the metadata list an episode twice"),
        "episode-unlisted": _error("an episode has data, but the metadata do not list it"),
        "episode-gaps": _blocking("episode numbers have gaps: LeRobot looks them up by position"),
        "episode-lookup": _error(
            "the episode table is not in the order of its episodes: LeRobot looks them up by position"
        ),
        "episode-length": _error("an episode has more or fewer rows than the metadata say"),
        "episode-span": _blocking("dataset_from_index and dataset_to_index are not where the episode's rows are"),
        "episode-index-wrong": _error("rows carry the number of another episode"),
        "frame-index-wrong": _error("frames are not numbered 0, 1, 2, … in order"),
        "rows-duplicated": _error("the same frame appears more than once in the table"),
        "index-wrong": _blocking("`index` does not number all rows in order"),
        "task-unknown": _blocking("rows point to a task that has no instruction"),
        "task-mismatch": _warning("the instruction in the episode list is not the one of its rows"),
        "task-duplicate": _error("a task index appears twice in the task list"),
        "task-gaps": _blocking(
            "task indices have gaps (v2.x: an error where rows use one beyond them)", severity="warning"
        ),
        "task-lookup": _error(
            "LeRobot reads another instruction, because it uses the index of meta/tasks.parquet, at row `task_index`"
        ),
        "task-unused": _info("a task that no row uses", "Nothing needs to be done."),
    },
    "time": {
        "fps-mismatch": _error("info's fps is not the rate of time stamps and videos"),
        "timestamp-backwards": _error("time stamps that do not increase"),
        "timestamp-off-grid": _error("time stamps are not frame / fps (wall clock, gaps, another start)"),
        "timestamp-off-video": _error(
            "a row's time stamp is not the one of its decoded video frame: LeRobot fails or shows another frame"
        ),
    },
    "video": {
        "video-torn": _blocking("a video cannot be opened", AGAIN),
        "video-undecodable": _blocking("some frames of a video cannot be decoded"),
        "video-short": _blocking("fewer video frames than rows"),
        "video-long": _warning("more video frames than rows: it is unknown which frames have no row", EXCLUDE),
        "video-span": _error("the episode table places an episode's video on another one's frames"),
        "video-swapped": _error("the videos of two episodes or cameras seem to be swapped", EXCLUDE),
        "video-size": _error("images of another size or number of channels than the features state", EXCLUDE),
        "picture-outside": _error("an image in the tables is a path only: LeRobot looks for it in the working folder"),
        "video-codec": _warning("codec or pixel format is not the declared one"),
        "video-mixed": _warning("one camera's files differ in codec, pixel format or size", EXCLUDE),
        "video-rate": _warning("the video's frame rate is not the camera's declared one"),
        "video-grid": _warning("frames of a video are not evenly spaced in time", EXCLUDE),
        "video-keyframe": _info(
            "an episode does not begin with a key frame: it cannot be cut out without encoding again",
            "smolpilot dataset convert {path} DST --reencode",
        ),
        "picture-undecodable": _blocking("an image inside the tables cannot be decoded", EXCLUDE),
        "camera-black": _error("a camera is black", EXCLUDE),
        "camera-frozen": _warning("a camera shows the same image while the robot moves", EXCLUDE),
        "exposure-jump": _warning("the brightness jumps within an episode", EXCLUDE),
        "exposure-spread": _info("an episode is much darker or brighter than the others", VIEW),
    },
    "statistics": {
        "statistics-missing": _warning("stored statistics are missing"),
        "statistics-damaged": _error("stored statistics are not finite or of another shape (unused features: info)"),
        "statistics-wrong": _error(
            "stored statistics are not those of the data: policies are normalized with them (unused features: info)"
        ),
        "statistics-pictures": _warning("stored image statistics are not those of the video"),
    },
    "numbers": {
        "not-finite": _error("NaN or infinite numbers (in an unused feature: info)", EXCLUDE),
        "joint-dead": _warning("a joint's state stands still while its action moves", EXCLUDE),
        "joint-constant": _info("a joint never moves", "Nothing, if the task does not use it."),
        "joint-saturated": _info("a joint stays at the end of its range", VIEW),
        "limit-position": _warning("values outside the robot profile's limits", EXCLUDE),
        "limit-velocity": _warning("movements faster than the robot profile allows", EXCLUDE),
        "unit-mismatch": _error(
            "values seem to be in another unit than the robot profile's", "Choose the right --robot."
        ),
        "unit-assumed": _info(
            "the assumed unit, where datasets of this robot come in two (a warning where version, robot_type or values "
            "speak for the other)",
            "Choose the right --robot.",
        ),
        "profile-mismatch": _error(
            "the robot profile's joints are not the dataset's", "Choose another --robot: smolpilot robot list"
        ),
        "outlier": _warning("a number far outside the joint's usual range", EXCLUDE),
        "jump": _warning("a state jumps from one frame to the next", EXCLUDE),
        "state-frozen": _warning("all states repeat while the actions go on", EXCLUDE),
        "action-equals-state": _warning(
            "actions repeat the states: a policy learns to stand still", "Record the commands as actions."
        ),
        "action-late": _warning(
            "actions come after the motion they should command", "Shift the action column forward."
        ),
        "action-lag": _info("how many frames the states follow the actions", "Nothing needs to be done."),
        "action-range": _info("a joint's action and state have very different ranges", "Check units and calibration."),
    },
    "episodes": {
        "idle-head": _warning("nothing moves for a long time at the start", EXCLUDE),
        "idle-tail": _warning("nothing moves for a long time at the end", EXCLUDE),
        "episode-short": _warning("an episode of less than a second", EXCLUDE),
        "episode-duplicated": _warning("two episodes have the same states and actions", EXCLUDE),
        "length-spread": _info("an episode is much longer or shorter than the others", VIEW),
        "chunk-short": _info(
            "an episode is shorter than a chunk of 50 actions", "Nothing: the end of a chunk is padded."
        ),
        "start-poses": _info("all episodes start from the same pose", "Vary the start when recording."),
        "drift": _info("the first and the last quarter of the episodes differ", "Check calibration and set-up."),
        "few-episodes": _info("few demonstrations of an instruction", "Record more."),
        "gripper-inert": _info("the gripper never moves in an episode", VIEW),
    },
    "instructions": {
        "instruction-empty": _error("an empty instruction", RENAME),
        "instruction-placeholder": _warning("an instruction such as `test` or `task`", RENAME),
        "instruction-duplicate": _warning("the same instruction under two task indices"),
        "instruction-near": _warning(
            "two instructions that differ in case, punctuation or a typing error only", RENAME
        ),
        "instruction-long": _warning("probably more than the 48 tokens that SmolVLA reads", RENAME),
        "instruction-script": _warning("not in Latin letters: SmolVLA's language model was trained on English", RENAME),
    },
    "loading": {
        "sample-unloadable": _error("smolpilot's reader cannot load the dataset or a sample"),
        "check-failed": _warning("a check failed to run on this dataset", "Please report it, with the message."),
    },
}
"""The codes by group: severity, meaning and, where it is not `repair`, what to do."""

RULES = {
    code: Rule(severity, group, meaning, fix, blocking)
    for group, rules in _RULES.items()
    for code, (severity, meaning, fix, blocking) in rules.items()
}
