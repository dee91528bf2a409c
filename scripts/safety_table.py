"""Try every fault of the promises in docs/safety.md, and write its tables: what was tried, what was survived.

    python scripts/safety_table.py            try all, write docs/safety.md and docs/safety.zh-CN.md
    python scripts/safety_table.py --check    change nothing; fail where a table names other faults than are tried

The faults are those of tests/runtime/safety/helpers_cases.py. One that is not survived ends this with its error.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

type Tried = dict[int, list[tuple[str, int]]]

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- table: written by scripts/safety_table.py -->"
END = "<!-- end of table -->"
HEADS = {
    "en": "| | promise | what the firmware does | what we do | faults tried: survived |",
    "zh": "| | 承诺 | 固件的行为 | 我们的做法 | 尝试的故障：通过 |",
}
PAGES = {"en": "docs/safety.md", "zh": "docs/safety.zh-CN.md"}
PROCESSES = 8, "processes interrupted, ended and killed, the cable pulled, in real time"


def cases() -> list[Any]:
    """The faults, as the tests have them."""
    sys.path.insert(0, str(ROOT / "tests"))
    found: list[Any] = importlib.import_module("runtime.safety.helpers_cases").CASES
    return found


def processes() -> int:
    """How many tests of real processes there are, all passed; a failure ends this."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        tests = ROOT / "tests/runtime/safety/test_control_process.py"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", f"--junitxml={report}", str(tests)]
        subprocess.run(command, cwd=ROOT, check=True)
        return len(list(ElementTree.parse(report).getroot().iter("testcase")))


def rows(language: str, tried: Tried) -> list[str]:
    """The table's lines."""
    words = promises()
    lines = [HEADS[language], "|---|---|---|---|---|"]
    for number in sorted(tried):
        promise = words[number] if language == "en" else words[number]["zh"]
        names = {fault: fault if language == "en" else words["faults_zh"][fault] for fault, _ in tried[number]}
        stop = "." if language == "en" else "。"
        faults = [f"{names[fault]}: {count} of {count}" for fault, count in tried[number]]
        if language == "zh":
            faults = [f"{names[fault]}：{count}/{count}" for fault, count in tried[number]]
        told = ("; " if language == "en" else "；").join(faults)
        lines.append(
            f"| {number} | {promise['promise']} | {promise['firmware'].rstrip(stop)} | "
            f"{promise['ours'].rstrip(stop)} | {told} |"
        )
    return lines


def promises() -> dict[Any, Any]:
    """The promises' words."""
    found: dict[Any, Any] = yaml.safe_load((ROOT / "tests/runtime/safety/promises.yaml").read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Try the faults and write the tables, or compare their names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    tried: Tried = {}
    for case in cases():
        count = 0 if check else case.check()
        print(f"{case.promise}  {case.fault}: {'not tried' if check else f'{count} of {count} survived'}", flush=True)
        tried.setdefault(case.promise, []).append((case.fault, count))
    tried[PROCESSES[0]].append((PROCESSES[1], 0 if check else processes()))
    for language, page in PAGES.items():
        path = ROOT / page
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        old, after = rest.split(END)
        new = f"\n{chr(10).join(rows(language, tried))}\n"
        if check and without_counts(old) != without_counts(new):
            print(f"{page} does not name what is tried. Run: python scripts/safety_table.py")
            return 1
        if not check:
            path.write_text(f"{before}{BEGIN}{new}{END}{after}", encoding="utf-8")
    return 0


def without_counts(table: str) -> str:
    """The table's words alone."""
    return re.sub(r"\d+( of |/)\d+", "", table)


if __name__ == "__main__":
    sys.exit(main())
