"""Words for people: numbers with their nouns."""

from __future__ import annotations


def numbered(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`, `1,000 frames`: the noun takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
