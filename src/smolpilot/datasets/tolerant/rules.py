"""Every code that a check can report: its severity, group, meaning and fix. docs/dataset-checks.md lists the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """What a code means; `fix` may name {path} and {episode}."""

    severity: Literal["error", "warning", "info"]
    group: str
    meaning: str
    fix: str


RULES: dict[str, Rule] = {
    # structure
    "recording-empty": Rule("error", "structure", "no episode has been recorded yet", "Record episodes into it."),
    "recording-interrupted": Rule(
        "error", "structure", "the recorder was stopped before it closed its files, so they are incomplete", REPAIR
    ),
    "info-damaged": Rule(
        "error",
        "structure",
        "meta/info.json is missing, truncated, not a JSON object, or has a value that LeRobot does not accept",
        REPAIR,
    ),
    "version-unknown": Rule(
        "error", "structure", "codebase_version is missing, unknown, or does not match the files", REPAIR
    ),
    "meta-damaged": Rule(
        "error",
        "structure",
        "a file of the meta folder (episodes, tasks, statistics) is missing, torn or unreadable",
        REPAIR,
    ),
    "lfs-pointer": Rule("error", "structure", "a file is a Git-LFS pointer, not the content", "git -C {path} lfs pull"),
    "file-missing": Rule("error", "structure", "a data or video file that the metadata names does not exist", AGAIN),
    "file-empty": Rule("error", "structure", "a file has 0 bytes", AGAIN),
    "parquet-torn": Rule("error", "structure", "a data file is not a complete parquet file", AGAIN),
    "template-unusable": Rule(
        "error", "structure", "data_path or video_path is missing, not a template, or points out of the folder", REPAIR
    ),
    "path-unusual": Rule("error", "structure", "the files exist, but not where data_path and video_path say", REPAIR),
    "fps-invalid": Rule("error", "structure", "info's fps is missing or not a number above 0", REPAIR),
    "totals-wrong": Rule(
        "error", "structure", "total_episodes, total_frames or total_tasks of info differ from the data", REPAIR
    ),
    "totals-missing": Rule("error", "structure", "info has no totals, which LeRobot needs (v2.x: a warning)", REPAIR),
    "splits-wrong": Rule("info", "structure", "info's splits name episodes that are not there", REPAIR),
    "file-stray": Rule(
        "info", "structure", "a file in data/ or videos/ that no episode uses", "Remove it from a copy."
    ),
    "file-left-out": Rule(
        "warning",
        "structure",
        "a file that copies leave out: a link out of the dataset, not a regular file, hidden (info), or with a name "
        "that is not UTF-8 (renamed)",
        "Put the file itself in its place, or remove it from a copy.",
    ),
    "table-stray": Rule(
        "error",
        "structure",
        "a table in data/ that no episode uses: LeRobot reads it anyway",
        "Remove the file, or leave it out of a copy: " + REPAIR,
    ),
    "manifest-changed": Rule(
        "error",
        "structure",
        "a file has changed since smolpilot wrote it, by meta/smolpilot_manifest.json (beside meta/, data/ and "
        "videos/: info)",
        CHANGED,
    ),
    "manifest-missing": Rule("warning", "structure", "meta/smolpilot_manifest.json lists a file that is gone", CHANGED),
    "manifest-added": Rule(
        "info", "structure", "a file that meta/smolpilot_manifest.json does not list", "Nothing needs to be done."
    ),
    "manifest-damaged": Rule(
        "warning",
        "structure",
        "meta/smolpilot_manifest.json cannot be read, so changes of files cannot be detected",
        REPAIR,
    ),
    "file-large": Rule("info", "structure", "a file of more than 5 GB", "smolpilot dataset convert {path} DST"),
    # schema
    "features-damaged": Rule(
        "error", "schema", "info's features are missing, or one has no dtype and shape that LeRobot knows", REPAIR
    ),
    "feature-missing": Rule(
        "error",
        "schema",
        "there is no observation.state or no action",
        RENAME_FEATURE,
    ),
    "names-nested": Rule("info", "schema", "joint names are nested or keyed; smolpilot flattens them", REPAIR),
    "names-missing": Rule("info", "schema", "joints have no names", REPAIR),
    "names-wrong": Rule("warning", "schema", "there is not one name per joint, or a name appears twice", REPAIR),
    "column-missing": Rule("error", "schema", "a data file lacks a column that the features or LeRobot need", REPAIR),
    "column-undeclared": Rule(
        "error",
        "schema",
        "a data file has a column that the features do not name: LeRobot cannot open it (v2.x: a warning)",
        REPAIR,
    ),
    "column-type": Rule(
        "error",
        "schema",
        "a column is not of the type that the features declare (a warning if LeRobot casts it)",
        REPAIR,
    ),
    "column-shape": Rule("error", "schema", "a column has more or fewer numbers per row than its feature", REPAIR),
    "column-empty": Rule("error", "schema", "a column has rows without a value: LeRobot cannot batch them", REPAIR),
    "camera-absent": Rule("error", "schema", "a camera is declared, and no episode has a video of it", REPAIR),
    "camera-unusable": Rule(
        "warning",
        "schema",
        "a depth camera, or images that are not three 8-bit colors: samples leave it out",
        WITHOUT,
    ),
    # indices
    "episode-duplicate": Rule("error", "indices", "the metadata list an episode twice", REPAIR),
    "episode-unlisted": Rule("error", "indices", "an episode has data, but the metadata do not list it", REPAIR),
    "episode-gaps": Rule("error", "indices", "episode numbers have gaps: LeRobot looks them up by position", REPAIR),
    "episode-lookup": Rule(
        "error",
        "indices",
        "the episode table is not in the order of its episodes: LeRobot looks them up by position",
        REPAIR,
    ),
    "episode-length": Rule("error", "indices", "an episode has more or fewer rows than the metadata say", REPAIR),
    "episode-span": Rule(
        "error", "indices", "dataset_from_index and dataset_to_index are not where the episode's rows are", REPAIR
    ),
    "episode-index-wrong": Rule("error", "indices", "rows carry the number of another episode", REPAIR),
    "frame-index-wrong": Rule("error", "indices", "frames are not numbered 0, 1, 2, … in order", REPAIR),
    "rows-duplicated": Rule("error", "indices", "the same frame appears more than once in the table", REPAIR),
    "index-wrong": Rule("error", "indices", "`index` does not number all rows in order", REPAIR),
    "task-unknown": Rule("error", "indices", "rows point to a task that has no instruction", REPAIR),
    "task-mismatch": Rule(
        "warning", "indices", "the instruction in the episode list is not the one of its rows", REPAIR
    ),
    "task-duplicate": Rule("error", "indices", "a task index appears twice in the task list", REPAIR),
    "task-gaps": Rule(
        "warning", "indices", "task indices have gaps (v2.x: an error where rows use one beyond them)", REPAIR
    ),
    "task-lookup": Rule(
        "error",
        "indices",
        "LeRobot reads another instruction, because it uses the index of meta/tasks.parquet, at row `task_index`",
        REPAIR,
    ),
    "task-unused": Rule("info", "indices", "a task that no row uses", "Nothing needs to be done."),
    # time
    "fps-mismatch": Rule("error", "time", "info's fps is not the rate of time stamps and videos", REPAIR),
    "timestamp-backwards": Rule("error", "time", "time stamps that do not increase", REPAIR),
    "timestamp-off-grid": Rule(
        "error", "time", "time stamps are not frame / fps (wall clock, gaps, another start)", REPAIR
    ),
    "timestamp-off-video": Rule(
        "error",
        "time",
        "a row's time stamp is not the one of its decoded video frame: LeRobot fails or shows another frame",
        REPAIR,
    ),
    # video
    "video-torn": Rule("error", "video", "a video cannot be opened", AGAIN),
    "video-undecodable": Rule("error", "video", "some frames of a video cannot be decoded", REPAIR),
    "video-short": Rule("error", "video", "fewer video frames than rows", REPAIR),
    "video-long": Rule(
        "warning", "video", "more video frames than rows: it is unknown which frames have no row", EXCLUDE
    ),
    "video-span": Rule("error", "video", "the episode table places an episode's video on another one's frames", REPAIR),
    "video-swapped": Rule("error", "video", "the videos of two episodes or cameras seem to be swapped", EXCLUDE),
    "video-size": Rule(
        "error", "video", "images of another size or number of channels than the features state", EXCLUDE
    ),
    "picture-outside": Rule(
        "error", "video", "an image in the tables is a path only: LeRobot looks for it in the working folder", REPAIR
    ),
    "video-codec": Rule("warning", "video", "codec or pixel format is not the declared one", REPAIR),
    "video-mixed": Rule("warning", "video", "one camera's files differ in codec, pixel format or size", EXCLUDE),
    "video-rate": Rule("warning", "video", "the video's frame rate is not the camera's declared one", REPAIR),
    "video-grid": Rule("warning", "video", "frames of a video are not evenly spaced in time", EXCLUDE),
    "video-keyframe": Rule(
        "info",
        "video",
        "an episode does not begin with a key frame: it cannot be cut out without encoding again",
        "smolpilot dataset convert {path} DST --reencode",
    ),
    "picture-undecodable": Rule("error", "video", "an image inside the tables cannot be decoded", EXCLUDE),
    "camera-black": Rule("error", "video", "a camera is black", EXCLUDE),
    "camera-frozen": Rule("warning", "video", "a camera shows the same image while the robot moves", EXCLUDE),
    "exposure-jump": Rule("warning", "video", "the brightness jumps within an episode", EXCLUDE),
    "exposure-spread": Rule("info", "video", "an episode is much darker or brighter than the others", VIEW),
    # statistics
    "statistics-missing": Rule("warning", "statistics", "stored statistics are missing", REPAIR),
    "statistics-damaged": Rule(
        "error", "statistics", "stored statistics are not finite or of another shape (unused features: info)", REPAIR
    ),
    "statistics-wrong": Rule(
        "error",
        "statistics",
        "stored statistics are not those of the data: policies are normalized with them (unused features: info)",
        REPAIR,
    ),
    "statistics-pictures": Rule("warning", "statistics", "stored image statistics are not those of the video", REPAIR),
    # numbers
    "not-finite": Rule("error", "numbers", "NaN or infinite numbers (in an unused feature: info)", EXCLUDE),
    "joint-dead": Rule("warning", "numbers", "a joint's state stands still while its action moves", EXCLUDE),
    "joint-constant": Rule("info", "numbers", "a joint never moves", "Nothing, if the task does not use it."),
    "joint-saturated": Rule("info", "numbers", "a joint stays at the end of its range", VIEW),
    "limit-position": Rule("warning", "numbers", "values outside the robot profile's limits", EXCLUDE),
    "limit-velocity": Rule("warning", "numbers", "movements faster than the robot profile allows", EXCLUDE),
    "unit-mismatch": Rule(
        "error", "numbers", "values seem to be in another unit than the robot profile's", "Choose the right --robot."
    ),
    "unit-assumed": Rule(
        "info",
        "numbers",
        "the assumed unit, where datasets of this robot come in two (a warning where version, robot_type or values "
        "speak for the other)",
        "Choose the right --robot.",
    ),
    "profile-mismatch": Rule(
        "error",
        "numbers",
        "the robot profile's joints are not the dataset's",
        "Choose another --robot: smolpilot robot list",
    ),
    "outlier": Rule("warning", "numbers", "a number far outside the joint's usual range", EXCLUDE),
    "jump": Rule("warning", "numbers", "a state jumps from one frame to the next", EXCLUDE),
    "state-frozen": Rule("warning", "numbers", "all states repeat while the actions go on", EXCLUDE),
    "action-equals-state": Rule(
        "warning",
        "numbers",
        "actions repeat the states: a policy learns to stand still",
        "Record the commands as actions.",
    ),
    "action-late": Rule(
        "warning", "numbers", "actions come after the motion they should command", "Shift the action column forward."
    ),
    "action-lag": Rule("info", "numbers", "how many frames the states follow the actions", "Nothing needs to be done."),
    "action-range": Rule(
        "info", "numbers", "a joint's action and state have very different ranges", "Check units and calibration."
    ),
    # episodes
    "idle-head": Rule("warning", "episodes", "nothing moves for a long time at the start", EXCLUDE),
    "idle-tail": Rule("warning", "episodes", "nothing moves for a long time at the end", EXCLUDE),
    "episode-short": Rule("warning", "episodes", "an episode of less than a second", EXCLUDE),
    "episode-duplicated": Rule("warning", "episodes", "two episodes have the same states and actions", EXCLUDE),
    "length-spread": Rule("info", "episodes", "an episode is much longer or shorter than the others", VIEW),
    "chunk-short": Rule(
        "info", "episodes", "an episode is shorter than a chunk of 50 actions", "Nothing: the end of a chunk is padded."
    ),
    "start-poses": Rule("info", "episodes", "all episodes start from the same pose", "Vary the start when recording."),
    "drift": Rule(
        "info", "episodes", "the first and the last quarter of the episodes differ", "Check calibration and set-up."
    ),
    "few-episodes": Rule("info", "episodes", "few demonstrations of an instruction", "Record more."),
    "gripper-inert": Rule("info", "episodes", "the gripper never moves in an episode", VIEW),
    # instructions
    "instruction-empty": Rule("error", "instructions", "an empty instruction", RENAME),
    "instruction-placeholder": Rule(
        "warning",
        "instructions",
        "an instruction such as `test` or `task`",
        RENAME,
    ),
    "instruction-duplicate": Rule("warning", "instructions", "the same instruction under two task indices", REPAIR),
    "instruction-near": Rule(
        "warning",
        "instructions",
        "two instructions that differ in case, punctuation or a typing error only",
        RENAME,
    ),
    "instruction-long": Rule(
        "warning",
        "instructions",
        "probably more than the 48 tokens that SmolVLA reads",
        RENAME,
    ),
    "instruction-script": Rule(
        "warning",
        "instructions",
        "not in Latin letters: SmolVLA's language model was trained on English",
        RENAME,
    ),
    # loading
    "sample-unloadable": Rule("error", "loading", "smolpilot's reader cannot load the dataset or a sample", REPAIR),
    "check-failed": Rule(
        "warning", "loading", "a check failed to run on this dataset", "Please report it, with the message."
    ),
}
