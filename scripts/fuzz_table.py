#!/usr/bin/env python
"""Run the fuzzer's cases and write their counts into docs/security.md: `python scripts/fuzz_table.py [--times 20]`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    writer = "`python scripts/fuzz_table.py` writes this table."
    head = f"{number} cases, {date}: of each kind the seeds from {first} on. {writer}"
    listed = [f"- {reason} ({', '.join(kinds)})" for reason, kinds in sorted(reasons.items())]
    silent = ["", "Silent other values, each where the format cannot show it:", "", *listed] if listed else []
    return "\n".join([head, "", *rows, *silent])


def replaced(text: str, block: str) -> str:
    """The document with the block between its marks; ValueError when it has none."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"no {BEGIN} and {END}")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{block}\n{END}", text)


def run(kinds: Sequence[Any], first: int, times: int, jobs: int, *, deep: bool) -> dict[str, list[dict[str, Any]]]:
    """The results of each kind; `jobs` servers take one kind after the other."""
    from fuzz.runner import Server

    waiting, results = deque(kinds), {}
    keep = os.environ.get("SMOLPILOT_FUZZ_KEEP")

    def work(world: Path) -> None:
        server = Server(world)
        while waiting:
            kind = waiting.popleft()
            seeds = range(first, first + times * kind.cases)
            found = list(server.cases(kind.name, seeds, deep=deep, keep=keep and str(Path(keep).absolute())))
            results[kind.name] = found
            print(f"{kind.name}: {dict(Counter(one['outcome'] for one in found))}", flush=True)
            for one in found:
                if one["failed"]:
                    print(f"  seed {one['seed']}: {one['change'][:100]}")
                    print(f"    {one['outcome']} in {one['look']}: {one['detail'][:300]}", flush=True)
        server.close()

    with tempfile.TemporaryDirectory(prefix="smolpilot-fuzz-") as folder, ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work, Path(folder) / "world") for _ in range(jobs)]:
            done.result()
    return {kind.name: results[kind.name] for kind in kinds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2, help="how many times the cases that CI runs of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="kinds at a time")
    parser.add_argument("--deep", action="store_true", help="with training and evaluation, which take long")
    parser.add_argument("--kind", action="append", help="only this kind, again for several")
    parser.add_argument("--results", type=Path, help="a file that keeps all results, for runs of some kinds at a time")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzz.kinds import KINDS

    chosen = [kind for kind in KINDS if not options.kind or kind.name in options.kind]
    kept = json.loads(options.results.read_text()) if options.results and options.results.exists() else {}
    kept |= run(chosen, options.seed, options.times, options.jobs, deep=options.deep)
    if options.results:
        options.results.write_text(json.dumps(kept))
    results = {kind.name: kept[kind.name] for kind in KINDS if kind.name in kept}
    block = table(results, options.seed, datetime.date.today().isoformat())
    print(block)
    if len(results) == len(KINDS):
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(encoding="utf-8"), block), encoding="utf-8")
    return 1 if any(one["failed"] for found in results.values() for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
