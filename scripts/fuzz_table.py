#!/usr/bin/env python
"""Run the fuzzer's cases and write their counts into docs/security.md: `python scripts/fuzz_table.py [--cases 200]`."""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- fuzz table: begin -->", "<!-- fuzz table: end -->"
COLUMNS = {
    "right": "right",
    "error": "clear error",
    "traceback": "traceback",
    "hang": "hang",
    "silent": "silent other value",
}


def table(results: Mapping[str, Sequence[Mapping[str, Any]]], first: int, date: str) -> str:
    """Counts by kind as Markdown, with the reasons for what passes silently. results: by kind, as `case.Result`."""
    rows = ["| kind | tried | " + " | ".join(COLUMNS.values()) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    total: Counter[str] = Counter()
    reasons: dict[str, list[str]] = {}
    for kind, found in results.items():
        counts = Counter(str(one["outcome"]) for one in found)
        total += counts
        rows.append(f"| {kind} | {len(found)} | " + " | ".join(str(counts[name]) for name in COLUMNS) + " |")
        for one in found:
            if one["outcome"] == "silent":
                reason = str(one["allowed"] or "NOT ALLOWED")
                reasons.setdefault(reason, [])
                if kind not in reasons[reason]:
                    reasons[reason].append(kind)
    number = sum(map(len, results.values()))
    rows.append(f"| all | {number} | " + " | ".join(str(total[name]) for name in COLUMNS) + " |")
    each = max(map(len, results.values()), default=0)
    head = (
        f"Seeds {first} to {first + each - 1} of each kind, {date}; `python scripts/fuzz_table.py` writes this table."
    )
    listed = [f"- {reason} ({', '.join(kinds)})" for reason, kinds in sorted(reasons.items())]
    silent = ["", "Silent other values, each where the format cannot show it:", "", *listed] if listed else []
    return "\n".join([head, "", *rows, *silent])


def replaced(text: str, block: str) -> str:
    """The document with the block between its marks; ValueError when it has none."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"no {BEGIN} and {END}")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{block}\n{END}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", action="append", help="only this kind; the document stays as it is then")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzz.kinds import KINDS
    from fuzz.runner import Server

    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="smolpilot-fuzz-") as folder:
        server = Server(Path(folder) / "world")
        for kind in KINDS:
            if options.kind and kind.name not in options.kind:
                continue
            seeds = range(options.seed, options.seed + options.cases)
            keep = os.environ.get("SMOLPILOT_FUZZ_KEEP")
            results[kind.name] = list(
                server.cases(kind.name, seeds, deep=True, keep=keep and str(Path(keep).absolute()))
            )
            counts = Counter(one["outcome"] for one in results[kind.name])
            print(f"{kind.name}: {dict(counts)}", flush=True)
            for one in results[kind.name]:
                if one["failed"]:
                    print(f"  seed {one['seed']}: {one['change'][:100]}")
                    print(f"    {one['outcome']} in {one['look']}: {one['detail'][:300]}")
        server.close()
    block = table(results, options.seed, datetime.date.today().isoformat())
    print(block)
    if not options.kind:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), block), encoding="utf-8")
    return 1 if any(one["failed"] for found in results.values() for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
