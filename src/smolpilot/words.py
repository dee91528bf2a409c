"""Words for people: numbers with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


def numbered(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`, `1,000 frames`: the noun takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed_joints(names: Sequence[str], limit: int = 6) -> str:
    """Number and names of joints, the first ones."""
    return f"{numbered(len(names), 'joint')} ({', '.join(names[:limit])}{', ...' if len(names) > limit else ''})"
