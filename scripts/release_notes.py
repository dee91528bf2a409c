"""Print the changelog's notes on a version; fail unless the tag is the package's version and has such notes.

python scripts/release_notes.py v1.2.3
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def release_notes(tag: str, version_file: str, changelog: str) -> str:
    """The section of the changelog on the version of this tag. ValueError: the tag and the files do not agree."""
    found = re.search(r'^__version__ = "(.+)"$', version_file, re.MULTILINE)
    version = found[1] if found else "unknown"
    if tag != f"v{version}":
        raise ValueError(f"The tag is {tag}, but version.py says {version}. Expected the tag v{version}.")
    sections = re.split(r"^## \[(.+?)\].*\n", changelog, flags=re.MULTILINE)
    notes = dict(zip(sections[1::2], sections[2::2], strict=True)).get(version, "")
    # References of links stand below the last section.
    notes = re.sub(r"^\[.+?\]: .*$", "", notes, flags=re.MULTILINE).strip()
    if not notes:
        raise ValueError(f"CHANGELOG.md has no notes on {version}. Expected a section '## [{version}] - DATE'.")
    return notes


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    version_file = (ROOT / "src" / "smolpilot" / "version.py").read_text(encoding="utf-8")
    try:
        print(release_notes(arguments[0], version_file, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
