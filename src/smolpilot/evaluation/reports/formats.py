"""Numbers as people read them, the same in every report and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "–"


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: significant digits, a true minus sign, `n/a` for none."""
    if value is None:
        return "n/a"
    if isinstance(value, int) or (abs(value) >= 10 ** (digits - 1) and abs(value) < 1e7):
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def percent(value: float | None) -> str:
    """A share as per cent with one digit where it matters."""
    if value is None:
        return "n/a"
    text = f"{100 * value:.1f}"
    return text.removesuffix(".0") + " %"


def points(value: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−").removesuffix(".0")


def interval(ends: Sequence[float]) -> str:
    """A confidence interval of a share, in per cent."""
    return f"{percent(ends[0]).removesuffix(' %')} to {percent(ends[1])}"


def between(ends: Sequence[float | None] | None, digits: int = 3) -> str:
    """A pair of numbers as `low … high`, which needs no translation."""
    if ends is None or ends[0] is None or ends[1] is None:
        return NONE
    return f"{number(ends[0], digits)} … {number(ends[1], digits)}"


def percents(ends: Sequence[float]) -> str:
    """A confidence interval of a share as `12.3 … 45.6 %`."""
    return f"{percent(ends[0]).removesuffix(' %')} … {percent(ends[1])}"


def milliseconds(value: float | None) -> str:
    """A time as `14.2 ms`, from a second on as `1.3 s`."""
    if value is None:
        return NONE
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"
