"""Instructions: empty, placeholders, doubled or nearly so, too long, not in Latin letters."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from smolpilot.common.text import LIMIT
from smolpilot.common.text import plain as cut
from smolpilot.datasets.check.context import CheckContext, ranges
from smolpilot.datasets.tolerant.findings import Finding
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

_PLACEHOLDER = re.compile("test|task|asdf|todo|tbd|n/a|na|none|null|xxx|placeholder|default|instruction")
TOKENS = 48
# Letters of an instruction that are looked at, and up to which two of them are compared word by word.
_READ, _COMPARED = 10_000, 1_000
_LONGEST_WORD = 40  # whose misspellings are looked for: their number grows with the square


def texts(context: CheckContext) -> Iterator[Finding]:
    """Each instruction that rows use, on its own and against the others."""
    dataset = context.dataset
    used = _used(dataset)
    for index, text in dataset.tasks.items():
        episodes = used.get(index, [])
        place = {"episode": episodes[0] if episodes else None}
        where = f"Task {index}" + (f" (episodes {ranges(episodes)})" if episodes else "")
        plain = text.strip()[:_READ]
        if not plain:
            yield context.finding("instruction-empty", f"{where} has an empty instruction.", **place)
            continue
        if _PLACEHOLDER.fullmatch(plain.lower()) or len(plain) < 3 or not any(c.isalpha() for c in plain):
            yield context.finding(
                "instruction-placeholder", f'{where} has the instruction "{cut(plain, LIMIT)}".', **place
            )
        tokens = round(estimate_tokens(plain) * max(len(text) / _READ, 1))
        if tokens > TOKENS:
            message = f'{where}: "{plain[:40]}…" has about {tokens} tokens (estimated), SmolVLA reads {TOKENS}.'
            yield context.finding("instruction-long", message, **place)
        share = _foreign(plain)
        if share > 0.1:
            message = f'{where}: {100 * share:.0f} % of the letters of "{plain[:40]}" are not Latin.'
            yield context.finding("instruction-script", message, **place)
    yield from _alike(context)


def _alike(context: CheckContext) -> Iterator[Finding]:
    """Instructions that are the same, or differ by writing only: found by what is left without the difference."""
    same: dict[str, int] = {}
    words: dict[tuple[str, ...], list[int]] = {}
    tasks = context.dataset.tasks
    for index, text in tasks.items():
        if not text.strip():
            continue
        if text in same:
            message = f'Tasks {same[text]} and {index} have the same text "{cut(text, LIMIT)}".'
            yield context.finding("instruction-duplicate", message)
            continue
        same[text] = index
        if len(text) <= _COMPARED:
            plain = tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))
            words.setdefault(plain, []).append(index)
    near: set[tuple[int, int]] = set()
    for indices in words.values():
        near |= {(indices[0], index) for index in indices[1:]}
    near |= {(words[one][0], words[two][0]) for one, two in _slips(list(words))}
    for one, two in sorted((min(pair), max(pair)) for pair in near):
        message = f'Tasks {one} and {two} differ little: "{cut(tasks[one], LIMIT)}", "{cut(tasks[two], LIMIT)}".'
        yield context.finding("instruction-near", message)


def _slips(texts: list[tuple[str, ...]]) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs that differ by one mistyped word. Two words of which one is a slip of the other share a word of one letter
    less, so that only texts that share it in the same place are compared."""
    known: dict[tuple[object, ...], list[tuple[str, ...]]] = {}
    found = set()
    for text in texts:
        for place, word in enumerate(text):
            # Numbers and short words (left/right, red/blue, 1/2) are differences that mean something.
            if not 5 <= len(word) <= _LONGEST_WORD or not word.isalpha():
                continue
            for shape in {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}:
                listed = known.setdefault((*text[:place], None, shape, *text[place + 1 :]), [])
                found |= {(other, text) for other in listed if other != text and _one_slip(other[place], word)}
                listed.append(text)
    return found


def estimate_tokens(text: str) -> int:
    """About how many tokens a SmolVLM2 tokenizer makes of a text and its final newline; rather too few than too many.

    English words of up to seven letters are one token; longer ones are cut, other scripts cost more per letter.
    """
    count = 1
    for word in re.findall(r"[^\W_]+|[^\w\s]|_", text):
        foreign = sum(1 for c in word if ord(c) > 0x24F)
        count += foreign + math.ceil((len(word) - foreign) / 7)
    return count


def _used(dataset: FoundDataset) -> dict[int, list[int]]:
    used: dict[int, list[int]] = {}
    for episode, rows in dataset.rows.items():
        numbers = rows.numbers("task_index")
        for value in () if numbers is None else np.unique(numbers).tolist():
            used.setdefault(int(value), []).append(episode)
    return used


def _foreign(text: str) -> float:
    letters = [c for c in text if c.isalpha()]
    strange = [c for c in letters if "LATIN" not in unicodedata.name(c, "")]
    return len(strange) / len(letters) if letters else 0.0


def _one_slip(a: str, b: str) -> bool:
    """Of two words that share one of a letter less: one letter added, dropped or changed, or two neighbors exchanged.

    A letter that moved further is no slip: `stone` and `tones`.
    """
    if len(a) != len(b):
        return True
    apart = [i for i in range(len(a)) if a[i] != b[i]]
    if len(apart) == 2:
        one, two = apart
        return two == one + 1 and (a[one], a[two]) == (b[two], b[one])
    return len(apart) == 1
