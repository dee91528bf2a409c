"""Convert a LeRobot dataset to another version: python convert.py SOURCE TARGET [v3.0 or v2.1]

The source stays as it is. The target appears when every value and every video packet is proven equal. A run that was
stopped resumes where it was.
"""

import sys
from typing import Literal

from smolpilot.datasets.convert import convert
from smolpilot.datasets.copy import CopyOptions


def main(source: str, target: str, version: Literal["v3.0", "v2.1"] = "v3.0") -> None:
    report = convert(source, target, CopyOptions(version=version, jobs=2))
    print(f"{target}: LeRobot {version}, {report.episodes} episodes, {report.frames} frames")
    for warning in report.warnings:
        print(f"warning: {warning}")


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
