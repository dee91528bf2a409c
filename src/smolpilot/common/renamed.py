"""Names of version 0.1 for verbs, options and values: accepted for one version, with a warning. Loads nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

UNTIL = "0.3"
"""The version that does not know the old names any more."""

VERBS = {
    "robots check": "robot profile check",
    "robots NAME": "robot show NAME",
    "robots": "robot list",
}
"""First words of a command, before and now; NAME is any word that is no option."""

_POLICY = ("train", "preflight", "eval", "rollout", "bench", "bundle", "export")
OPTIONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("train", "preflight"), "stats", "norm_stats"),
    (("train",), "statistics", "norm_stats_file"),
    (_POLICY, "stats_from", "policy_stats_from"),
    (("rollout",), "execution_horizon", "n_action_steps"),
    (("bench",), "steps", "num_steps"),
    (("bench",), "modes", "engine"),
)
"""Verbs, and their option (and key of a YAML file) before and now."""

VALUES = {("augment", "colour"): "color"}
"""An option and a name before the `=` of its value; that name now."""

type Say = Callable[[str], None]


def warn(text: str) -> None:
    """Say on standard error that an old name was used."""
    print(f"warning: {text}; the old name works until smolpilot {UNTIL}", file=sys.stderr)


def quiet(text: str) -> None:
    """Say nothing: for files that smolpilot wrote, which nobody has to change."""


def renamed_verb(words: Sequence[str], say: Say = warn) -> list[str]:
    """The words of a command, its verb as it is called now."""
    for old, new in VERBS.items():
        pattern = old.split()
        pairs = list(zip(words, pattern, strict=False))
        if len(pairs) < len(pattern) or not all(_is(word, part) for word, part in pairs):
            continue
        named = {part: word for word, part in pairs}
        say(f"`smolpilot {old}` is now `smolpilot {new}`")
        return [*(named.get(part, part) for part in new.split()), *words[len(pattern) :]]
    return list(words)


def _is(word: str, part: str) -> bool:
    return word == part or (part == "NAME" and not word.startswith("-"))


def renamed_option(verb: str, key: str) -> str | None:
    """What the option of a verb (in snake_case) is called now; None for one that was not renamed."""
    return next((new for verbs, old, new in OPTIONS if old == key and verb in verbs), None)


def renamed_words(verb: str, words: Sequence[str], say: Say = warn) -> list[str]:
    """The words behind a verb, with options and values as they are called now."""
    found, option = [], ""
    for word in words:
        if word.startswith("--"):
            name, sign, value = word[2:].partition("=")
            option = name.replace("-", "_").lower()
            if (new := renamed_option(verb, option)) is not None:
                option, old = new, name
                name = new.replace("_", "-")
                say(f"--{old} is now --{name}")
            found.append(f"--{name}{sign}{_value(option, value, say)}")
        else:
            found.append(_value(option, word, say))
    return found


def _value(option: str, word: str, say: Say) -> str:
    name, sign, rest = word.partition("=")
    new = VALUES.get((option, name)) if sign else None
    if new is None:
        return word
    say(f"--{option} {name}= is now {new}=")
    return f"{new}={rest}"


def renamed_keys(verb: str, values: Mapping[str, Any], say: Say = warn) -> dict[str, Any]:
    """A mapping of a verb's options, from YAML, with keys as they are called now."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        new = renamed_option(verb, str(key).replace("-", "_"))
        if new is not None and new not in values:
            say(f"key `{key}` is now `{new}`")
            key = new
        if isinstance(value, Mapping):
            names = {name: VALUES.get((str(key), str(name)), name) for name in value}
            for name, current in names.items():
                if name != current:
                    say(f"key `{key}.{name}` is now `{key}.{current}`")
            value = {names[name]: inner for name, inner in value.items()}
        found[key] = value
    return found
