"""Pin every package, transitive ones too, in pyproject.toml, without any registry's address.

uv's lock file names addresses, so it stays out of git; the versions it holds are written as
`[tool.uv] constraint-dependencies` between two marker comments, and `uv lock` finds the same versions again anywhere.

    python scripts/refresh_pins.py            newest versions that fit: resolve without pins, write the new ones
    python scripts/refresh_pins.py --missing  keep the pins, pin what a new requirement brings
    python scripts/refresh_pins.py --check    resolve with the pins and fail unless exactly they come out
    python scripts/refresh_pins.py --from-lock uv.lock    pin what a lock file holds
    python scripts/refresh_pins.py --requirements         keep the pins, write requirements/*.txt from them

With the pins, requirements/*.txt are written: the same versions with the hashes of their files, for releases
(`pip install --require-hashes -r requirements/runtime.txt`); one file for the package, one for it with each extra, one
with the tests' packages, one for what builds it, one each for what builds the site and what checks the workflows, which
do without the package. No addresses stand in them either.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "# pins: written by scripts/refresh_pins.py, do not edit by hand"
END = "# end of pins"
# All that a build of the package reads; resolving needs its metadata.
NEEDED = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".python-version",
    "src/smolpilot/__init__.py",
    "src/smolpilot/version.py",
)
# Groups of pyproject.toml that do without the package.
ALONE = ("site", "workflows")
# What requirements/*.txt are for.
MACHINES = (
    "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "sys_platform == 'linux' and platform_machine == 'aarch64'",
    "sys_platform == 'darwin' and platform_machine == 'arm64'",
)


def pins_of_lock(lock: dict[str, Any]) -> list[str]:
    """`name==version` of every package of a lock file from a registry; several versions of one get their markers."""
    packages = [package for package in lock["package"] if "registry" in package["source"]]
    names = [package["name"] for package in packages]
    pins = []
    for package in packages:
        pin = f"{package['name']}=={package['version']}"
        if names.count(package["name"]) > 1:
            markers = package.get("resolution-markers", [])
            if not markers:
                raise SystemExit(f"{package['name']} has several versions, one of them without a marker")
            pin += " ; " + " or ".join(f"({marker})" for marker in markers)
        pins.append(pin)
    return sorted(pins)


def read_pins(text: str) -> tuple[list[str], list[str]]:
    """The pins in the text of pyproject.toml: of the packages, and of the packages that build ours."""
    uv = tomllib.loads(text)["tool"]["uv"]
    return uv.get("constraint-dependencies", []), uv.get("build-constraint-dependencies", [])


def write_pins(text: str, pins: list[str], build: list[str]) -> str:
    """The text of pyproject.toml with these pins between the markers (empty lists: without any)."""
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    lists = {"constraint-dependencies": pins, "build-constraint-dependencies": build}
    body = "".join(
        f"{key} = [\n{''.join(f'  {_quoted(pin)},' + chr(10) for pin in value)}]\n" for key, value in lists.items()
    )
    return f"{before}{BEGIN}\n{body if pins else ''}{END}{after}"


def _quoted(pin: str) -> str:
    return f"'{pin}'" if '"' in pin else f'"{pin}"'


def resolve(pyproject: str, *, upgrade: bool) -> dict[str, Any]:
    """The lock file that uv makes for this pyproject.toml, in a copy, without an earlier lock file."""
    with tempfile.TemporaryDirectory() as folder:
        for name in NEEDED:
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        Path(folder, "pyproject.toml").write_text(pyproject, encoding="utf-8")
        subprocess.run([*find_uv(), "lock", *(["--upgrade"] if upgrade else [])], cwd=folder, check=True)
        return tomllib.loads(Path(folder, "uv.lock").read_text(encoding="utf-8"))


def resolve_build(pyproject: str) -> list[str]:
    """Versions of the packages that build ours ([build-system] requires), without addresses."""
    requires = "\n".join(tomllib.loads(pyproject)["build-system"]["requires"])
    command = [*find_uv(), "pip", "compile", "--quiet", "--universal", "--no-header", "--no-annotate", "-"]
    # In an empty folder, so that the present pins are not taken as constraints.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / ".python-version", folder)
        done = subprocess.run(command, input=requires, capture_output=True, text=True, check=True, cwd=folder)
    return sorted(line.strip() for line in done.stdout.splitlines() if "==" in line)


def requirement_sets(pyproject: str) -> dict[str, list[str]]:
    """The name of each file in requirements/, and what it adds to the package's own requirements, as uv's options."""
    extras = tomllib.loads(pyproject)["project"]["optional-dependencies"]
    return {"runtime": [], **{name: ["--extra", name] for name in extras}, "test": ["--group", "test"]}


def write_requirements(pyproject: str) -> None:
    """Write requirements/*.txt from the pins of this pyproject.toml: versions and hashes, no addresses."""
    folder = ROOT / "requirements"
    folder.mkdir(exist_ok=True)
    requires = tomllib.loads(pyproject)
    below = re.search(r"<\s*([0-9.]+)", requires["project"]["requires-python"])
    assert below is not None, "requires-python has no upper end"
    with tempfile.TemporaryDirectory() as temporary:
        # uv would resolve for every later Python, too, and for machines that torch has no files for.
        environments = [f"python_version < '{below[1]}' and {machine}" for machine in MACHINES]
        limited = pyproject.replace("[tool.uv]\n", f"[tool.uv]\nenvironments = {json.dumps(environments)}\n")
        Path(temporary, "pyproject.toml").write_text(limited, encoding="utf-8")
        for name, options in requirement_sets(pyproject).items():
            _compile(temporary, "pyproject.toml", *options, to=folder / f"{name}.txt")
        for name in ALONE:
            _compile(temporary, "--group", name, to=folder / f"{name}.txt")
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary, "requires.in").write_text("\n".join(requires["build-system"]["requires"]), encoding="utf-8")
        Path(temporary, "pins.txt").write_text("\n".join(read_pins(pyproject)[1]), encoding="utf-8")
        _compile(temporary, "requires.in", "--constraint", "pins.txt", to=folder / "build.txt")


def _compile(folder: str, *words: str, to: Path) -> None:
    command = [*find_uv(), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", *words]
    shutil.copy(ROOT / ".python-version", folder)
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    to.write_text(done.stdout, encoding="utf-8")
    print(f"{to.relative_to(ROOT)}: {len(re.findall('^[a-z]', done.stdout, re.MULTILINE))} packages")


def find_uv() -> list[str]:
    """The uv command, or uv as a module of this Python."""
    found = shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def _check(text: str) -> int:
    pins, build = read_pins(text)
    addresses = [pin for pin in (*pins, *build) if "://" in pin]
    found = pins_of_lock(resolve(text, upgrade=False))
    unpinned, unused = sorted(set(found) - set(pins)), sorted(set(pins) - set(found))
    for title, names in (("not pinned", unpinned), ("pinned but not used", unused), ("with an address", addresses)):
        if names:
            print(f"{title}: {', '.join(names)}", file=sys.stderr)
    if unpinned or unused or addresses:
        print("run scripts/refresh_pins.py", file=sys.stderr)
        return 1
    print(f"{len(pins)} packages, exactly as pinned; {len(build)} for the build")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="resolve with the pins; fail unless exactly they come out")
    parser.add_argument("--missing", action="store_true", help="keep the pins; pin what a new requirement brings")
    parser.add_argument("--from-lock", type=Path, help="pin what this lock file holds, resolving nothing")
    parser.add_argument("--requirements", action="store_true", help="keep the pins; write requirements/*.txt from them")
    arguments = parser.parse_args()
    path = ROOT / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    if arguments.check:
        return _check(text)
    if arguments.requirements:
        write_requirements(text)
        return 0
    bare = write_pins(text, [], [])
    if arguments.missing:
        lock = resolve(text, upgrade=False)
    elif arguments.from_lock:
        lock = tomllib.loads(arguments.from_lock.read_text(encoding="utf-8"))
    else:
        lock = resolve(bare, upgrade=True)
    old, old_build = read_pins(text)
    pins, build = pins_of_lock(lock), old_build if arguments.missing else resolve_build(bare)
    pinned = write_pins(text, pins, build)
    path.write_text(pinned, encoding="utf-8")
    for pin in sorted(set(pins) ^ set(old), key=lambda pin: re.split("==", pin)[0]):
        print(f"{'+' if pin in pins else '-'} {pin}")
    print(f"{len(pins)} packages pinned, {len(build)} for the build")
    write_requirements(pinned)
    return 0


if __name__ == "__main__":
    sys.exit(main())
