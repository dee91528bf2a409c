"""The kinds of input: which file is changed, how, what is done with it, and what the format cannot show."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from . import looks
from .binary import change_video, change_weights
from .changes import Change, change_bytes
from .documents import change_json, change_json_lines, change_yaml
from .looks import Look
from .tables import change_picture_cell, change_table

type Silent = dict[tuple[str, str], str]
type Changer = Callable[[random.Random, bytes], tuple[Change, bytes]]


@dataclass(frozen=True)
class Kind:
    """files: patterns below `base` (an empty one: `base` is the file). looks: at every case; more: one of them at each;
    deep: those, too, when there are hours; judge: asked when another value was read, whether anything says it.

    cases: number in CI. written: the verbs write into the input by design.
    limits_s: what one look may take, in seconds of the processor and in all (a busy machine): a tenth is usual.
    silent: for a class of change and a part of
    what is read (`*`: all of that side) the reason why the format cannot show it.
    """

    name: str
    base: str
    files: tuple[str, ...]
    changes: tuple[Changer, ...]
    looks: tuple[Look, ...]
    more: tuple[Look, ...] = ()
    deep: tuple[Look, ...] = ()
    judge: Look | None = None
    cases: int = 8
    entries: bool = True
    written: bool = False
    limits_s: tuple[float, float] = (20, 120)
    silent: Silent = field(default_factory=dict)

    def looks_of(self, seed: int, *, deep: bool) -> list[Look]:
        """The looks of one case."""
        one = (*self.more, *(self.deep if deep else ()))
        return [*self.looks, *([one[seed % len(one)]] if one else [])]

    def all_looks(self, *, deep: bool) -> list[Look]:
        """Each look once."""
        judge = [self.judge] if self.judge else []
        return list(dict.fromkeys([*self.looks, *self.more, *(self.deep if deep else ()), *judge]))

    def allowed(self, what: str, part: str) -> str:
        """Why another value of this part may pass in silence after a change of this class; empty: it may not."""
        for key in ((what, part), (what, "*"), ("*", part), ("*", "*")):
            if key in self.silent:
                return self.silent[key]
        return ""


_WITHOUT = ("bytes", "value", "names", "order", "form", "entry")


def _of(reason: str, *parts: str, what: tuple[str, ...] = _WITHOUT) -> Silent:
    """May pass silently, for this reason: another value of the right type (never of another type)."""
    return {(one, part): reason for one in what for part in parts}


# What these formats cannot show. Whatever `dataset check` or a warning says is no silent value.
_FREE_TEXT = "the name of a robot, a joint or an instruction is free text: another text is another name"
_NUMBERED = "joints that are named by numbers are called as those are spelled"
_NO_CHECKSUM = "LeRobot's tables, pictures and videos have no checksum that says what a number or pixel was"
_STATED = "statistics stand in one place only: training computes them anew and stops where they differ"
_UNSEALED = "weights, statistics and settings of a folder without digests: another valid value is another policy"
_SETTING = "a file of settings: another valid value is another setting of its writer"
_LOG = "the log of a run: what is damaged in it is left out, and another number is another measurement"
_NOT_ONE_EACH = 'names that are not one for each dimension are none (`["motors"]` for 14); `dataset check` says so'
_INFO = (
    _of(_FREE_TEXT, "robot", "joints")
    | _of(_NUMBERED, "joints", what=("type",))
    | _of(_NOT_ONE_EACH, "joints", what=("size",))
)
_TASKS = _of(_FREE_TEXT, "instructions")
_STATS = _of(_STATED, "statistics")
_DATA = _of(
    _NO_CHECKSUM, "numbers", "copied numbers", "pictures", "rows", "statistics", "instructions", what=("bytes", "value")
)
_YAML = _of(_SETTING, "*")

# One of them at each case; heavy ones stand once, light ones twice.
_VERBS = (
    looks.info, looks.check, looks.convert, looks.tasks, looks.check, looks.repair, looks.stats, looks.check_page,
    looks.view, looks.info_json, looks.split, looks.check, looks.compare, looks.exclude,
)  # fmt: skip
_SHOW = (looks.bundle, looks.nothing, looks.nothing, looks.bundle_json, looks.nothing, looks.localize, looks.nothing)
_JSON = (change_bytes, change_json, change_json)
_LINES = (change_bytes, change_json_lines, change_json_lines)
_TABLE = (change_bytes, change_table)
_PROVEN = (looks.read, looks.check)
_BLIND = (change_bytes,)
_TEXT = (change_bytes, change_yaml, change_yaml)


def _recording(
    name: str, base: str, files: str, changes: tuple[Changer, ...], silent: Silent | None = None, cases: int = 5
) -> Kind:
    return Kind(
        name, base, (files,), changes, (looks.read,), _VERBS, (looks.train_on,), judge=looks.check, cases=cases,
        silent=silent or {},
    )  # fmt: skip


def _policy(name: str, base: str, files: str, changes: tuple[Changer, ...], cases: int = 6) -> Kind:
    return Kind(
        name, base, (files,), changes, (looks.predict,), _SHOW, (looks.preflight, looks.evaluate), cases=cases,
        silent=_of(_UNSEALED, "*"),
    )  # fmt: skip


KINDS: list[Kind] = [
    # Recordings: the description.
    _recording("info.json v3.0", "v3", "meta/info.json", _JSON, _INFO),
    _recording("info.json v2.1", "v21", "meta/info.json", _JSON, _INFO),
    _recording("tasks.jsonl", "v21", "meta/tasks.jsonl", _LINES, _TASKS),
    _recording("episodes.jsonl", "v21", "meta/episodes.jsonl", _LINES),
    _recording("episodes_stats.jsonl", "v21", "meta/episodes_stats.jsonl", _LINES, _STATS),
    _recording("stats.json", "v3", "meta/stats.json", _JSON, _STATS),
    _recording("tasks.parquet", "v3", "meta/tasks.parquet", _TABLE, _TASKS),
    _recording("episodes parquet", "v3", "meta/episodes/*/*.parquet", _TABLE),
    _recording("manifest", "v3_proven", "meta/smolpilot_manifest.json", _JSON, cases=4),
    # Recordings: tables, pictures, videos.
    _recording("table v3.0", "v3", "data/*/*.parquet", _TABLE, _DATA),
    _recording("table v2.1", "v21", "data/*/*.parquet", _TABLE, _DATA),
    _recording("pictures v2.1", "pictures", "data/*/*.parquet", (change_picture_cell, change_bytes), _DATA),
    _recording("pictures v3.0", "pictures_v3", "data/*/*.parquet", (change_picture_cell, change_table), _DATA),
    _recording("video", "v3", "videos/*/*/*.mp4", (change_video,), _DATA, cases=8),
    Kind("proven copy", "v3_proven", ("data/*/*.parquet", "videos/*/*/*.mp4"), (change_bytes,), _PROVEN),
    # Policies.
    _policy("config.json", "bundle", "config.json", _JSON, 9),
    _policy("config.json (LeRobot)", "lerobot", "config.json", _JSON, 4),
    _policy("smolpilot.json", "bundle", "smolpilot.json", _JSON),
    _policy("robot.yaml", "bundle", "robot.yaml", _TEXT),
    _policy("processors", "bundle", "policy_*.json", _JSON, 9),
    _policy("processors (LeRobot)", "lerobot", "policy_*.json", _JSON, 4),
    _policy("statistics", "bundle", "policy_*.safetensors", (change_weights,), 9),
    _policy("weights", "bundle", "model.safetensors", (change_weights,), 9),
    _policy("index of shards", "shards", "model.safetensors.index.json", _JSON),
    Kind("sealed bundle", "sealed", ("*.safetensors", "policy_*.json"), (change_bytes,), (looks.predict,), _SHOW),
    _policy("vlm/config.json", "bundle", "vlm/config.json", _JSON),
    _policy("tokenizer", "bundle", "vlm/*token*.json", _JSON, 9),
    _policy("adapter_config.json", "adapter", "adapter_config.json", _JSON),
    _policy("adapter weights", "adapter", "adapter_model.safetensors", (change_weights,)),
    # YAML, runs.
    Kind("robot profile", "yaml/robot.yaml", ("",), _TEXT, (looks.profile,), cases=20, silent=_YAML),
    Kind("robot setup", "yaml/setup.yaml", ("",), _TEXT, (looks.setup,), cases=20, silent=_YAML),
    Kind("calibration", "yaml/calibration.json", ("",), _JSON, (looks.calibration,), cases=20, silent=_YAML),
    Kind(
        "operating limits", "limits", ("*.json",), _JSON, (looks.demonstrated,), cases=20,
        silent=_YAML | _of("null, and a text for null, are values there, too", "limits", what=("type",)),
    ),
    Kind(
        "training config", "yaml/config.yaml", ("",), _TEXT, (looks.train_options,), (looks.train_nowhere,),
        (looks.train_config,), cases=10, silent=_YAML,
    ),
    Kind("stages plan", "yaml/plan.yaml", ("",), _TEXT, (looks.plan,), (looks.train_stages,), cases=10, silent=_YAML),
    Kind("run settings", "run", ("config.yaml",), _TEXT, (looks.status,), cases=20, silent=_YAML),
    Kind("run log", "run", ("metrics.jsonl",), _LINES, (looks.status,), cases=20, silent=_of(_LOG, "*", what=("*",))),
    # What smolpilot keeps for itself or ships.
    Kind("engine cache", "engines", ("*/*.json", "*/graphs/*"), _BLIND, (looks.engine,), cases=2, written=True),
    Kind("frame cache", "blocks", ("*/*.block",), (change_bytes,), (looks.block,), cases=20),
    Kind("export", "export", ("*.json", "*.onnx*", "*.npz"), (change_bytes,), (looks.exported,), cases=8),
]  # fmt: skip


def kind_of(name: str) -> Kind:
    """The kind of this name."""
    from . import ways

    return next(kind for kind in (*KINDS, *ways.KINDS) if kind.name == name)
