"""The help of a verb: its options in groups, what each is for, its default, and examples. From the options' field docs.

tyro reads the words; its own help knows no groups of fields, and breaks field docs where the source breaks them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .arguments import Field, fields_of

# An option means the same in every verb, so it stands in the same group everywhere. Order: that of use; `*`: essential.
GROUPS = {
    "data": "config* dataset* mixture balance order stages* episodes* episode every max_frames env* env_settings "
    "env_python swap_instruction language floors mixed_rendering instruction* units* robot* robot_type "
    "features without feature parts rename set undo to seed frames findings check ungated expert colors "
    "target noise vary_timing keep_failures demonstrations rollouts tolerance recompute strict keep_times",
    "motion": "go* unattended* hold_to_run* speed* start_pose seconds*",
    "schedule": "schedule* merge refill rate realtime",
    "model": "policy* preset* from_scratch* train_expert_only* freeze_vision lora* lora_alpha lora_targets tokenizer "
    "revision camera_map* cameras chunk_size n_action_steps* num_steps max_tokens norm_stats* norm_stats_file "
    "policy_stats_from engine* against* untrained",
    "optimization": "steps* batch_size* lr* warmup_steps decay_lr weight_decay clip ema patience seeds*",
    "augmentation": "augment* cache_views",
    "cache": "cache* cache_dtype cache_dir frames_gb",
    "memory and precision": "device* eval.batch_size dtype* precision memory* micro_batch compile backend calibrate_on "
    "calibration_frames workers jobs parallel repeats",
    "validation": "preflight held_out* split_seed eval_every eval_frames overfit",
    "output": "out* json* html open first dry_run reencode codec data_file_mb video_file_mb chunk_files video_episodes "
    "save_every keep log_every track log_only",
    "resuming": "resume*",
}
_ORDER = {
    name.rstrip("*"): (number, group) for group, names in GROUPS.items() for number, name in enumerate(names.split())
}
ESSENTIAL = frozenset(name[:-1] for names in GROUPS.values() for name in names.split() if name.endswith("*"))
_MANY = 16
"""Options of a verb from which on `--help` shows the essential ones only."""
_INDENT = 26


def field_docs(options: type) -> dict[str, str]:
    """The docs of a dataclass's fields (the string after each), each in one line; those of its bases, too."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
        for node, after in itertools.pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(node.target, ast.Name):
                found[node.target.id] = " ".join(ast.literal_eval(after.value).split())
    return found


def examples_of(verb: str) -> list[str]:
    """Commands that show how a verb is used."""
    import yaml

    found: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("examples.yaml").read_text(encoding="utf-8"))
    return found.get(verb, [])


def help_text(
    options: type,
    verb: str,
    *,
    everything: bool = True,
    config: bool = False,
    given: object = None,
) -> str:
    """The help of a verb; `given`: options of a config file, whose values are then the defaults.

    everything: all options, else the essential ones of a verb that has many. config: it takes --config FILE.
    """
    fields, docs = fields_of(options), field_docs(options)
    width = min(max(shutil.get_terminal_size().columns, 60), 110)
    positional = [field for field in fields.values() if field.positional]
    listed = [field for field in fields.values() if not field.positional]
    if config:
        listed.append(Field("config", "config", None, metavar="FILE"))
        docs["config"] = "YAML file of options; those on the command line win. See smolpilot schema train."
    needed = [f"{field.option} {field.metavar}" for field in listed if field.required]
    shown = [field for field in listed if everything or len(listed) < _MANY or field.name in ESSENTIAL]
    words = ["smolpilot", verb, *map(_place, positional), *needed]
    if len(listed) > len(needed):
        words.append("[options]")
    parts = [f"usage: {' '.join(words)}", *_paragraphs(options, width)]
    if positional:
        parts.append(_section("arguments", positional, docs, width, given))
    for group, members in _grouped(shown, verb).items():
        parts.append(_section(group, members, docs, width, given))
    if len(shown) < len(listed):
        parts.append(f"{len(listed) - len(shown)} more options: smolpilot {verb} --help-all")
    if examples := examples_of(verb):
        parts.append("\n".join(["examples:", *(f"  {example}" for example in examples)]))
    return "\n\n".join(parts)


def _grouped(fields: list[Field], verb: str) -> Mapping[str, list[Field]]:
    if len(fields) <= 8:
        return {"options": fields} if fields else {}
    groups: dict[str, list[Field]] = {name: [] for name in (*GROUPS, "other")}
    for field in fields:
        groups[_place_of(field, verb)[1]].append(field)
    ranks = {field.name: (not field.required, field.name not in ESSENTIAL, _place_of(field, verb)) for field in fields}
    return {name: sorted(members, key=lambda one: ranks[one.name]) for name, members in groups.items() if members}


def _place_of(field: Field, verb: str) -> tuple[int, str]:
    return _ORDER.get(f"{verb}.{field.name}") or _ORDER.get(field.name, (0, "other"))


def _paragraphs(options: type, width: int) -> Iterator[str]:
    for paragraph in inspect.cleandoc(options.__doc__ or "").split("\n\n"):
        yield textwrap.fill(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)


def _section(title: str, fields: list[Field], docs: Mapping[str, str], width: int, given: object) -> str:
    lines = [f"{title}:"]
    for field in fields:
        head = f"  {_place(field) if field.positional else _typed(field)}"
        text = " ".join(filter(None, [docs.get(field.attribute, ""), _default(field, docs, given)]))
        if len(head) > _INDENT - 2:
            lines.append(head)
            head = ""
        body = textwrap.wrap(text, width - _INDENT, break_long_words=False, break_on_hyphens=False)
        lines.append(f"{head:<{_INDENT}}{body[0] if body else ''}".rstrip())
        lines += [f"{'':<{_INDENT}}{line}" for line in body[1:]]
    return "\n".join(lines)


def _place(field: Field) -> str:
    name = field.metavar if field.metavar.isupper() and field.metavar not in ("PATH", "TEXT") else field.name.upper()
    return name if field.required else f"[{name}]"


def _typed(field: Field) -> str:
    if field.is_flag:
        return ", ".join(field.spellings)
    return f"{field.option} {field.metavar}"


def _default(field: Field, docs: Mapping[str, str], given: object) -> str:
    """`Default: VALUE.`, once: where the docs say it in words, only a value of the config file."""
    value, stated = field.default, "Default:" in docs.get(field.attribute, "")
    if field.required:
        return "" if field.positional else "Required."
    in_file = getattr(given, field.attribute, value)
    if in_file != value:
        return f"In the config file: {_spelled(in_file)}."
    if stated or value is None or value is False or value in ((), {}, ""):
        return ""
    return f"Default: {_spelled(value)}."


def _spelled(value: Any) -> str:
    from smolpilot.common.option_types import AUTO

    if isinstance(value, Mapping):
        return " ".join(f"{name}={inner}" for name, inner in value.items())
    if isinstance(value, tuple | list):
        return " ".join(map(_spelled, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else "auto" if value == AUTO else str(value)
