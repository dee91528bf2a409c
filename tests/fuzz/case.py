"""One case: an input, a seeded change, the looks at it, and the judgment."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .changes import Change, change_entry
from .kinds import Kind
from .looks import Misbehaved, Place, Refused, Values
from .world import SECRET

OUTCOMES = ("right", "error", "traceback", "hang", "silent")
_TIMERS = (signal.ITIMER_PROF, signal.ITIMER_REAL)


class Hang(BaseException):
    """A case that takes too long."""


@dataclass
class Result:
    """What became of a case. failed: it may not be so; parts: what was read otherwise without a word."""

    kind: str
    seed: int
    file: str
    what: str
    change: str
    outcome: str
    failed: bool = False
    look: str = ""
    detail: str = ""
    parts: list[str] = field(default_factory=list)
    allowed: str = ""
    refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def run_case(
    kind: Kind, seed: int, world: Path, sound: dict[str, Values], keep: Path | None = None, *, deep: bool = False
) -> Result:
    """Change a copy of the kind's input by the seed, look, and judge. sound: what each look gives without change."""
    rng = random.Random(f"{kind.name} {seed}")
    with tempfile.TemporaryDirectory(dir=world / "cases") as made:
        place = new_place(kind, Path(made), world)
        file, change = apply(kind, rng, place)
        result = Result(kind.name, seed, file, change.what, change.text, "right")
        before, outside = state(place.given), state(place.outside)
        looks = kind.looks_of(seed, deep=deep)
        for look in looks:
            result.refused = False
            _look(kind, look, place, result, sound)
            _left(place, result, look.__name__)
            if result.outcome in ("hang", "traceback"):
                break
            if look is looks[-1] and result.outcome == "silent" and kind.judge and kind.judge not in looks:
                looks.append(kind.judge)  # does anything say it?
        if state(place.given) != before and not kind.written:
            _fail(result, "traceback", "source", "the source was changed")
        strays, after = _strays(place, world), state(place.outside)
        if after != outside or strays:
            changed = sorted(bytes.fromhex(name) for name in dict(outside.items() ^ after.items()))
            _fail(result, "traceback", "paths", f"a file outside the output: {strays or changed}")
        _judge(kind, result)
        if keep is not None and result.failed:
            target = keep / f"{kind.name.replace(' ', '-')}-{seed}"
            _keep(place.given, target)
        os.chdir(world)
        return result


def _keep(given: Path, target: Path) -> None:
    """Copy a failing input to `target`; pipes cannot be copied, and are not."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if not given.is_dir():
        shutil.copy2(given, target, follow_symlinks=False)
        return
    pipes = lambda folder, names: [name for name in names if (Path(folder) / name).is_fifo()]  # noqa: E731
    shutil.copytree(given, target / given.name, symlinks=True, ignore=pipes)


def sound_values(kind: Kind, world: Path, *, deep: bool) -> dict[str, Values]:
    """What each look at the unchanged input gives; it must be sound. Kept in the world, for other kinds."""
    found: dict[str, Values] = {}
    for look in kind.all_looks(deep=deep):
        name = look.__name__
        # Where nothing is compared one input is enough to know that the look itself is in order.
        kept, any_input = (world / "sound" / f"{base.replace('/', '-')}-{name}.pickle" for base in (kind.base, "any"))
        if not kept.exists() and not any_input.exists():
            with tempfile.TemporaryDirectory(dir=world / "cases") as made:
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    place = new_place(kind, Path(made), world)
                    values = look(place)
                values["spoken"] = _spoken(said, place)
                os.chdir(world)
            beside = kept.with_suffix(f".{os.getpid()}")
            beside.write_bytes(pickle.dumps(values))
            beside.replace(kept if len(values) > 1 else any_input)
        found[name] = pickle.loads((kept if kept.exists() else any_input).read_bytes())
    return found


def new_place(kind: Kind, root: Path, world: Path) -> Place:
    """A copy of the kind's input in a folder of its own, which is the current one."""
    root = root / "a" / "b" / "c"
    (root / "in").mkdir(parents=True)
    source = world / kind.base
    given = root / "in" / source.name
    if source.is_dir():
        shutil.copytree(source, given, symlinks=True)
    else:
        shutil.copy(source, given)
    place = Place(root, given, world)
    place.outside.mkdir(exist_ok=True)
    for name in ("out", "home", "tmp"):
        (root / name).mkdir()
    (root / "v3").symlink_to(world / "v3")  # what plans and settings name
    os.environ.update(HOME=str(root / "home"), XDG_CACHE_HOME=str(root / "cache"), TMPDIR=str(root / "tmp"))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(root / "cache" / "inductor")  # torch makes it beside TMPDIR's files
    tempfile.tempdir = str(root / "tmp")
    os.chdir(root)
    return place


def apply(kind: Kind, rng: random.Random, place: Place) -> tuple[str, Change]:
    """Change one file of the copy."""
    files = sorted(
        path for pattern in kind.files for path in ([place.given] if not pattern else place.given.glob(pattern))
    )
    assert files, f"{kind.name}: no file {kind.files}"
    path = rng.choice(files)
    name = path.relative_to(place.given).as_posix()
    if kind.entries and rng.random() < 0.1:
        return name, change_entry(rng, path, place.world / "secret.txt", alone=path == place.given)
    change, content = rng.choice(kind.changes)(rng, path.read_bytes())
    path.write_bytes(content.replace(b"/OUTSIDE", str(place.outside).encode()))
    return name, change


def _look(kind: Kind, look: Any, place: Place, result: Result, sound: dict[str, Values]) -> None:
    name = look.__name__

    def stop(*_: Any) -> None:
        raise Hang("too long")

    for number, timer, seconds in zip((signal.SIGPROF, signal.SIGALRM), _TIMERS, kind.limits_s, strict=True):
        signal.signal(number, stop)
        signal.setitimer(timer, seconds)
    threads: list[str] = []
    threading.excepthook = lambda args: threads.append(f"{args.exc_type.__name__}: {args.exc_value}")
    sys.unraisablehook = lambda args: threads.append(f"{type(args.exc_value).__name__}: {args.exc_value}")
    from smolpilot.common.errors import SmolpilotError

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            values = look(place)
        odd = [key for key, value in values.items() if value != sound[name].get(key)]
        spoken = _spoken(said, place)
        if "left out" in odd or "findings" in odd or (odd and spoken != sound[name]["spoken"]):
            # Said in so many words: by `check`, by a warning, or in the list of what samples leave out.
            # What has another type must be refused all the same.
            _tell(result, name, f"said: {values.get('findings') or values.get('left out') or spoken}")
        elif odd:
            result.parts += [part for part in odd if part not in result.parts]
            result.detail += f" {name}: " + "; ".join(f"{part}: {str(values[part])[:90]}" for part in odd)
            result.outcome = "silent" if result.outcome == "right" else result.outcome
            result.look = name
        if threads:
            _fail(result, "traceback", name, f"in a thread: {threads}")
    except (SmolpilotError, Refused) as error:
        _tell(result, name, " ".join(str(error).split())[:400], refused=True)
    except Hang as error:
        _fail(result, "hang", name, f"{error}: {_where()}")
    except MemoryError:
        _fail(result, "hang", name, f"no memory: {_where()}")
    except OSError as error:
        # What a public function lets pass the command line turns into one line.
        _tell(result, name, f"{type(error).__name__}: {error}"[:400], refused=True)
    except Misbehaved as error:
        _fail(result, "traceback", name, str(error))
    except BaseException as error:
        _fail(result, "traceback", name, f"{type(error).__name__}: {str(error)[:200]}: {_where()}")
    finally:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)


def _spoken(said: list[warnings.WarningMessage], place: Place) -> list[str]:
    """What Python's warnings say, wherever the input lies."""
    return sorted({str(one.message).replace(str(place.root), "") for one in said})


def _tell(result: Result, look: str, detail: str, *, refused: bool = False) -> None:
    """Note a clear word. It does not make up for a value of another type that was read before."""
    result.refused = refused
    if result.outcome == "right" or (result.outcome == "silent" and result.what not in ("type", "size")):
        result.outcome, result.look, result.detail = "error", look, detail


def _where() -> str:
    frames = [frame for frame in traceback.extract_tb(sys.exc_info()[2]) if "/fuzz/" not in frame.filename]
    inner = [frame for frame in frames if "/smolpilot/" in frame.filename][-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(inner))


def _fail(result: Result, outcome: str, look: str, detail: str) -> None:
    result.outcome, result.failed, result.look, result.detail = outcome, True, look, detail


def _left(place: Place, result: Result, look: str) -> None:
    """Outputs are whole or not there; nothing stays beside them; no foreign content in them."""
    entries = sorted(path.name for path in place.out.iterdir())
    odd = [name for name in entries if name not in ("result", "result.html")]
    if odd:
        _fail(result, "traceback", look, f"left behind: {odd}")
    elif result.refused and entries and look not in ("check_page", "repair"):
        _fail(result, "traceback", look, f"refused, yet there is {entries}: {result.detail}")
    rest = [str(path) for name in ("home", "tmp") for path in (place.root / name).rglob("*")]
    beside = [path.name for path in (place.root / "in").iterdir() if path.name != place.given.name]
    if rest or beside:
        _fail(result, "traceback", look, f"left behind: {rest or beside}")
    for path in place.out.rglob("*"):
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes():
            _fail(result, "traceback", look, f"the content of another file in {path.name}")
    for path in place.out.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _strays(place: Place, world: Path) -> list[str]:
    """Files that were made outside the place's own folders."""
    known = {"in", "out", "home", "tmp", "cache", "v3"}
    found = [path for path in place.root.iterdir() if path.name not in known]
    case = place.root.parents[2]
    for folder, only in ((place.root.parent, "c"), (place.root.parents[1], "b"), (case, "a")):
        found += [path for path in folder.iterdir() if path.name != only]
    return [str(path.relative_to(world)) for path in found]


def state(path: Path) -> dict[str, str]:
    """What stands in a folder (or file): names, kinds, modes, contents; links are not followed."""
    found: dict[str, str] = {}
    if not path.exists() and not path.is_symlink():
        return found
    for one in [path, *sorted(path.rglob("*"))]:
        facts = one.lstat()
        text = str(one.readlink()) if one.is_symlink() else ""
        if not one.is_symlink() and one.is_file():
            text = hashlib.blake2b(one.read_bytes(), digest_size=16).hexdigest()
        found[os.fsencode(one.relative_to(path)).hex()] = f"{facts.st_mode} {text}"
    return found


def _judge(kind: Kind, result: Result) -> None:
    """A silent other value is a failure unless the format cannot show it, part by part."""
    if result.outcome != "silent":
        result.parts = []
        return
    reasons = [kind.allowed(result.what, part) for part in result.parts]
    result.failed = not all(reasons)
    result.allowed = next((reason for reason in reasons if reason), "") if not result.failed else ""
