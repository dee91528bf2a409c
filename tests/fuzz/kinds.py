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

type Changer = Callable[[random.Random, bytes], tuple[Change, bytes]]


@dataclass(frozen=True)
class Kind:
    """files: patterns below `base` (an empty one: `base` is the file). looks: at every case; more: one of them at each;
    deep: those, too, when there are hours.

    cases: number in CI. written: the verbs write into the input by design.
    limits_s: what one look may take, of the processor and in all; a tenth of a second is usual, but the machine may be busy. silent: for a class of change and a part of
    what is read (`*`: all of that side) the reason why the format cannot show it.
    """

    name: str
    base: str
    files: tuple[str, ...]
    changes: tuple[Changer, ...]
    looks: tuple[Look, ...]
    more: tuple[Look, ...] = ()
    deep: tuple[Look, ...] = ()
    cases: int = 12
    entries: bool = True
    written: bool = False
    limits_s: tuple[float, float] = (20, 120)
    silent: dict[tuple[str, str], str] = field(default_factory=dict)

    def looks_of(self, seed: int, *, deep: bool) -> list[Look]:
        """The looks of one case."""
        one = (*self.more, *(self.deep if deep else ()))
        return [*self.looks, *([one[seed % len(one)]] if one else [])]

    def all_looks(self, *, deep: bool) -> list[Look]:
        """Each look once."""
        return [*self.looks, *self.more, *(self.deep if deep else ())]

    def allowed(self, what: str, part: str) -> str:
        """Why another value of this part may pass in silence after a change of this class; empty: it may not."""
        for key in ((what, part), (what, "*"), ("*", part), ("*", "*")):
            if key in self.silent:
                return self.silent[key]
        return ""


# Heavy ones once, light ones twice.
_VERBS = (
    looks.info, looks.check, looks.convert, looks.tasks, looks.check, looks.repair, looks.stats, looks.check_page,
    looks.view, looks.info_json, looks.split, looks.check, looks.compare, looks.exclude,
)  # fmt: skip
_SHOW = (looks.bundle, looks.nothing, looks.nothing, looks.bundle_json, looks.nothing, looks.localize, looks.nothing)
_SLOW = (looks.train_on,)
_READ = (looks.read,)

KINDS: list[Kind] = [
    # Recordings: the description
    Kind("info.json v3.0", "v3", ("meta/info.json",), (change_bytes, change_json, change_json), _READ, _VERBS, _SLOW),
    Kind("info.json v2.1", "v21", ("meta/info.json",), (change_bytes, change_json, change_json), _READ, _VERBS, _SLOW),
    Kind("tasks.jsonl", "v21", ("meta/tasks.jsonl",), (change_bytes, change_json_lines, change_json_lines), _READ, _VERBS, _SLOW),
    Kind("episodes.jsonl", "v21", ("meta/episodes.jsonl",), (change_bytes, change_json_lines, change_json_lines), _READ, _VERBS, _SLOW),
    Kind("episodes_stats.jsonl", "v21", ("meta/episodes_stats.jsonl",), (change_bytes, change_json_lines), _READ, _VERBS, _SLOW),
    Kind("stats.json", "v3", ("meta/stats.json",), (change_bytes, change_json), _READ, _VERBS, _SLOW),
    Kind("tasks.parquet", "v3", ("meta/tasks.parquet",), (change_bytes, change_table), _READ, _VERBS, _SLOW),
    Kind("episodes parquet", "v3", ("meta/episodes/*/*.parquet",), (change_bytes, change_table), _READ, _VERBS, _SLOW),
    Kind("manifest", "v3_proven", ("meta/smolpilot_manifest.json",), (change_bytes, change_json), _READ, _VERBS, _SLOW, cases=8),
    # Recordings: tables, pictures, videos
    Kind("table v3.0", "v3", ("data/*/*.parquet",), (change_bytes, change_table), _READ, _VERBS, _SLOW),
    Kind("table v2.1", "v21", ("data/*/*.parquet",), (change_bytes, change_table), _READ, _VERBS, _SLOW),
    Kind("pictures in tables", "pictures", ("data/*/*.parquet",), (change_picture_cell, change_picture_cell, change_table), _READ, _VERBS, _SLOW),
    Kind("pictures in tables v3.0", "pictures_v3", ("data/*/*.parquet",), (change_picture_cell, change_table), _READ, _VERBS, _SLOW, cases=8),
    Kind("video", "v3", ("videos/*/*/*.mp4",), (change_video,), _READ, _VERBS, _SLOW, cases=20),
    Kind("proven copy", "v3_proven", ("data/*/*.parquet", "videos/*/*/*.mp4"), (change_bytes,), (looks.read, looks.check), (), cases=6),
    # Policies
    Kind("config.json", "bundle", ("config.json",), (change_bytes, change_json, change_json), (looks.predict,), _SHOW, cases=24),
    Kind("config.json (LeRobot)", "lerobot", ("config.json",), (change_bytes, change_json), (looks.predict,), _SHOW),
    Kind("smolpilot.json", "bundle", ("smolpilot.json",), (change_bytes, change_json, change_json), (looks.predict,), _SHOW),
    Kind("robot.yaml", "bundle", ("robot.yaml",), (change_bytes, change_yaml), (looks.predict,), (looks.bundle, looks.preflight, looks.nothing)),
    Kind("processors", "bundle", ("policy_*.json",), (change_bytes, change_json, change_json), (looks.predict,), _SHOW, cases=20),
    Kind("processors (LeRobot)", "lerobot", ("policy_*.json",), (change_bytes, change_json), (looks.predict,), _SHOW),
    Kind("statistics", "bundle", ("policy_*.safetensors",), (change_weights,), (looks.predict,), _SHOW, cases=20),
    Kind("weights", "bundle", ("model.safetensors",), (change_weights,), (looks.predict,), _SHOW, cases=20),
    Kind("shards", "shards", ("model.safetensors.index.json",), (change_bytes, change_json), (looks.predict,), _SHOW),
    Kind("sealed bundle", "sealed", ("*.safetensors", "policy_*.json"), (change_bytes,), (looks.predict,), _SHOW, cases=8),
    Kind("vlm/config.json", "bundle", ("vlm/config.json",), (change_bytes, change_json, change_json), (looks.predict,), _SHOW, cases=20),
    Kind("tokenizer", "bundle", ("vlm/*token*.json", "vlm/tokenizer.json"), (change_bytes, change_json), (looks.predict,), _SHOW, cases=20),
    Kind("adapter_config.json", "adapter", ("adapter_config.json",), (change_bytes, change_json, change_json), (looks.predict,), _SHOW, cases=20),
    Kind("adapter weights", "adapter", ("adapter_model.safetensors",), (change_weights,), (looks.predict,), _SHOW),
    # YAML, runs, caches
    Kind("robot profile", "yaml/robot.yaml", ("",), (change_bytes, change_yaml, change_yaml), (looks.profile,), (), cases=40),
    Kind("training config", "yaml/config.yaml", ("",), (change_bytes, change_yaml, change_yaml), (looks.train_options,), (looks.train_nowhere,), (looks.train_config,), cases=40),
    Kind("stages plan", "yaml/plan.yaml", ("",), (change_bytes, change_yaml, change_yaml), (looks.plan,), (looks.train_stages,), cases=40),
    Kind("run status", "run", ("config.yaml", "metrics.jsonl", "environment.json"), (change_bytes,), (looks.status,), (), cases=16),
    Kind("run settings", "run", ("config.yaml",), (change_yaml,), (looks.status,), (), cases=16),
    Kind("run metrics", "run", ("metrics.jsonl",), (change_json_lines,), (looks.status,), (), cases=16),
]


def kind_of(name: str) -> Kind:
    """The kind of this name."""
    from . import ways

    return next(kind for kind in (*KINDS, *ways.KINDS) if kind.name == name)
