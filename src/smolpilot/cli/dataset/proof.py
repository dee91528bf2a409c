"""The table of what two datasets have in common, for `compare` and `convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smolpilot.datasets.copy.proof.comparison import Comparison


def print_proof(result: Comparison, title: str) -> None:
    """Print what was compared, how much of it differs, and what was not compared."""
    rows = [("check", "compared", "differ", "what")]
    for row in result.table():
        again = f" ({row['encoded_again']:,} more encoded again, not equal)" if row["encoded_again"] else ""
        rows.append((row["check"], f"{row['compared']:,}", f"{row['differences']:,}", row["what"] + again))
    print(f"\n{title}")
    for name, compared, differences, what in rows:
        print(f"  {name:<12} {compared:>12} {differences:>7}  {what}")
    if result.not_compared:
        print("Not compared:")
    for text in result.not_compared:
        print(f"  {text}")
    print()
