"""Seeded changes of JSON, JSON lines and YAML that know the format: values of other types and sizes, odd names."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import yaml

from .changes import Change

# A text that begins with one of these is written as bare JSON, or as a key without the mark (two keys become one).
RAW, TWICE = "\x00raw:", "\x00twice:"

NUMBERS: list[Any] = [
    0, -1, 1, 2, 7, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 10**30, 1e9, 10**12, float("nan"), float("inf"),
    f"{RAW}1e400", f"{RAW}{'9' * 5000}", f"{RAW}-0",
]  # fmt: skip
TEXTS: list[str] = [
    "", " ", "x", "0", "none", "../../../escaped", "/OUTSIDE/escaped", "a/b", "..", "a\x00b", "\ud800", "[/red]",
    "[link=x]y[/link]", "{0}", "{episode_index.x}", "{episode_index:09999999999d}", "{episode_index!r}", "%s%n%(x)s",
    "\x1b]0;title\x07\x1b[2J", "<script>alert(1)</script>", "$\\frac{$", "=1+1", "(\\w+\\.?)+!", "\u202eabc",
    "ünïcode 测试",
    "two\nlines", "x" * 100_000, "-rf", "float16", "video", "observation.state", "v3.0", "v2.1",
    "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", "~", "$HOME", "NaN",
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, [], {}, [None], [[[]]], ["a", 1], {"a": 1}, {"": {"b": []}}]
HUGE: list[Any] = [
    f"{RAW}{'[' * 2000}{']' * 2000}",
    f"{RAW}{'[' * 100_000}",
    RAW + '{"a":' * 900 + "1" + "}" * 900,
    list(range(5000)),
    {f"key{i}": i for i in range(3000)},
    "long " * 200_000,
]


def change_json(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change a JSON file that was sound."""
    if rng.random() < 0.06:
        return _other_form(rng, content)
    change, document = change_value(rng, json.loads(content))
    return change, spell(document).encode()


def change_json_lines(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change a file of JSON lines that was sound: one of its documents, or the order of its lines."""
    lines = content.decode().splitlines()
    kind = rng.random()
    if kind < 0.06:
        return _other_form(rng, content)
    if kind < 0.25:
        return _lines(rng, lines)
    place = rng.randrange(len(lines))
    change, document = change_value(rng, json.loads(lines[place]))
    lines[place] = spell(document)
    return Change(change.what, f"line {place + 1}: {change.text}"), ("\n".join(lines) + "\n").encode()


def change_yaml(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """Change a YAML file that was sound: a value in it, or a line that only YAML has."""
    if rng.random() < 0.25:
        lines = content.decode().splitlines()
        line = rng.choice(_YAML_LINES)
        lines.insert(rng.randrange(len(lines) + 1), line)
        return Change("size" if len(line) > 400 else "names", f"a line {line[:60]!r}"), "\n".join(lines).encode()
    change, document = change_value(rng, yaml.safe_load(content))
    if " is None instead of " in change.text:
        change = Change("names", change.text)  # in a file of settings null stands for nothing said
    text = spell(document)
    if "\\u0000" not in json.dumps(document) and rng.random() < 0.7:
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return change, text.encode("utf-8", "surrogatepass")


def _bomb(depth: int) -> str:
    """Nine times nine times nine ... of one text, in a few hundred bytes."""
    rows = [f"a0: &a0 [{', '.join(['lol'] * 9)}]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)]
    return "\n".join(rows)


_YAML_LINES = (
    "x: !!python/object/apply:os.system ['true']", "x: !!python/name:os.system", "x: !many 1", "<<: *nothing",
    "name: &a [*a]", "\tname: x", "name: [", "name: {", "name: 'x", "---", "...", "%YAML 9.9", "? [1]\n: 2",
    "? {a: 1}\n: 2",
    "1: 2", "null: 3", "true: 4", "2020-01-01: 5", ".nan: 6", "x: 2020-01-01", "x: 0x1f", "x: 1_000", "x: 190:20:30",
    "x: !!binary aGk=", "x: !!set {a, b}", "x: !!timestamp 2020-13-45", "name: " + "[" * 20_000, _bomb(9), _bomb(12),
    "\n".join(f"{' ' * i}a:" for i in range(3000)), "x: " + "9" * 5000, "x: \"\\ud800\"", "x: \x07", "\ufeffx: 1",
    "name: &b x\nlabel: *b",
)  # fmt: skip


def change_value(rng: random.Random, document: Any) -> tuple[Change, Any]:
    """The document with one change at a random place (a copy; the given one stays)."""
    document = json.loads(json.dumps(document))
    places = list(_places(document, ()))
    path = rng.choice(places)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    where = ".".join(map(str, path)) or "the document"
    old = parent[path[-1]] if path else document
    roll = rng.random()
    if path and roll < 0.25:
        change = _keys(rng, parent, path[-1])
        return Change(change.what, f"{where}: {change.text}"), document
    what, new = _other_value(rng, old, roll)
    if not path:
        return Change(what, f"{where} is {_short(new)}"), new
    parent[path[-1]] = new
    return Change(what, f"{where} is {_short(new)} instead of {_short(old)}"), document


def _places(value: Any, path: tuple[Any, ...]) -> Any:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _places(child, (*path, key))
    elif isinstance(value, list):
        # A long list stands for few places: its first entries and its last.
        for i in [*range(min(len(value), 6)), *([len(value) - 1] if len(value) > 6 else [])]:
            yield from _places(value[i], (*path, i))


def _keys(rng: random.Random, parent: Any, key: Any) -> Change:
    """Remove, rename, double or add an entry."""
    operation = rng.choice(("removed", "removed", "renamed", "doubled", "added"))
    old = parent[key]
    if isinstance(parent, list):
        if operation == "removed":
            del parent[key]
        elif operation == "renamed" and len(parent) > 1:
            other = (key + 1) % len(parent)
            parent[key], parent[other] = parent[other], parent[key]
        elif operation == "added":
            parent.insert(key, rng.choice([*OTHERS, *NUMBERS, *TEXTS]))
        else:
            parent.insert(key, old)
        return Change("order", f"{operation} in the list")
    if operation == "removed":
        del parent[key]
        return Change("names", "removed")
    if operation == "doubled":
        parent[TWICE + key] = _other_value(rng, old, 0.5)[1]
        return Change("names", f"a second time, as {_short(parent[TWICE + key])}")
    name = rng.choice([*TEXTS[:-1], key.upper(), f" {key}", f"{key}x"])
    if operation == "renamed":
        del parent[key]
    parent[name] = old
    return Change("names", f"{operation}: {_short(name)}")


def _other_value(rng: random.Random, old: Any, roll: float) -> tuple[str, Any]:
    """A value of the same type (`value`), of another (`type`), or of a size that nobody means (`size`)."""
    if roll > 0.95:
        return "size", rng.choice(HUGE)
    if roll > 0.55:
        if isinstance(old, bool):
            return "value", not old
        if isinstance(old, int | float):
            near = [old + 1, old - 1, -old, old * 2, old * 1000, *NUMBERS]
            return "value", rng.choice(near)
        if isinstance(old, str):
            return "value", rng.choice([*TEXTS, old + "x", old[:-1], old.upper()])
        if isinstance(old, list) and old:
            return "order", rng.choice([old[:-1], old * 2, old[::-1], [old], [*old, None], old[:1] * len(old)])
        if isinstance(old, dict) and old:
            return "order", rng.choice([{}, dict(reversed(old.items())), {"": old}])
    new = rng.choice([value for value in (*OTHERS, *NUMBERS[:16], *TEXTS[:6]) if _type(value) != _type(old)])
    return "type", new


def _type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return repr(type(value))
    return "number" if isinstance(value, int | float) else type(value).__name__


def _lines(rng: random.Random, lines: list[str]) -> tuple[Change, bytes]:
    operation = rng.choice(("removed", "doubled", "exchanged", "all gone", "blank", "no JSON", "huge"))
    place = rng.randrange(len(lines))
    if operation == "removed":
        del lines[place]
    elif operation == "doubled":
        lines.insert(place, lines[place])
    elif operation == "exchanged":
        lines.reverse()
    elif operation == "all gone":
        lines.clear()
    elif operation == "blank":
        lines.insert(place, "   ")
    elif operation == "huge":
        lines.insert(place, '{"x": "' + "x" * 2_000_000 + '"}')
    else:
        lines.insert(place, rng.choice(("null", "[]", "5", '"x"', "{}", "}", "[" * 100_000, "NaN")))
    return Change("order", f"line {place + 1} {operation}"), ("\n".join(lines) + "\n").encode()


def _other_form(rng: random.Random, content: bytes) -> tuple[Change, bytes]:
    """The same values in other bytes."""
    text = content.decode()
    form = rng.choice(("bom", "crlf", "utf-16", "latin-1", "trailing"))
    if form == "bom":
        return Change("form", "a byte order mark"), b"\xef\xbb\xbf" + content
    if form == "crlf":
        return Change("form", "line ends of Windows"), text.replace("\n", "\r\n").encode()
    if form == "utf-16":
        return Change("form", "UTF-16"), text.encode("utf-16")
    if form == "latin-1":
        return Change("form", "Latin-1"), text.replace("a", "ä").encode("latin-1")
    return Change("form", "white space around"), b" \n" + content + b"\n \n"


def spell(document: Any) -> str:
    """JSON in which marked texts are bare."""
    text = json.dumps(document)
    text = text.replace("\\u0000twice:", "")
    return re.sub(r'"\\u0000raw:((?:[^"\\]|\\.)*)"', lambda match: json.loads(f'"{match.group(1)}"'), text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
