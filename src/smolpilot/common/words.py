"""Words for people: numbers with their nouns."""

from __future__ import annotations

from collections.abc import Sequence


def numbered(number: int, noun: str) -> str:
    """`1 episode`, `2 episodes`, `1,000 frames`: the noun takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def sized(count: float) -> str:
    """Bytes in the unit that shows them: `512 B`, `3.4 MB`, `120 GB`; never `0.0 GB` for what is there."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= 0.9995 * factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def listed_joints(names: Sequence[str], limit: int = 6) -> str:
    """Number and names of joints, the first ones."""
    return f"{numbered(len(names), 'joint')} ({', '.join(names[:limit])}{', ...' if len(names) > limit else ''})"
