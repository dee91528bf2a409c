"""The `smolpilot` command: finds the verb, loads only its file, turns errors into exit codes."""

from __future__ import annotations

import os
import sys
import warnings

from smolpilot.common.errors import UsageError
from smolpilot.common.renamed import renamed_verb
from smolpilot.common.safe_paths import is_utf8
from smolpilot.common.streams import guarded, open_closed_streams
from smolpilot.common.text import plain
from smolpilot.version import __version__

from .parsing import verbs
from .parsing.light import spare_pandas
from .parsing.outcome import exit_code_of


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 a check failed, 2 misuse, 130 interrupted."""
    open_closed_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(verbs.usage())
        return 0
    if args[0] in ("-V", "--version", "version"):
        print(f"smolpilot {__version__}")
        return 0
    # OpenMP threads that spin while they wait starve each other on a busy machine (measured: up to ten times slower).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not os.environ.get("SMOLPILOT_TRACEBACK"):
        warnings.formatwarning = lambda message, kind, *_, **__: f"{getattr(kind, 'label', 'warning')}: {message}\n"
    with guarded():
        return exit_code_of(lambda: _checked(args))


def _checked(args: list[str]) -> int:
    _refuse_other_encodings(args)
    return _verb(args)


def _verb(args: list[str]) -> int:
    name, rest = verbs.find(renamed_verb(args))
    if name in verbs.GROUPS:
        print(verbs.usage(name))
        return 0
    if name.startswith("dataset ") and sys.argv[1:] == args:
        spare_pandas()
    # tyro is loaded here, for a page of verbs needs none of it.
    from .parsing.options import parse

    verb = verbs.load(name)
    options = verb.read(rest) if verb.read is not None else parse(verb.options, rest, verb=name)
    return int(verb.run(options) or 0)


def _refuse_other_encodings(args: list[str]) -> None:
    """A name from a disk in another encoding cannot be opened by all that reads here, nor written into a file."""
    for argument in args:
        if not is_utf8(argument):
            raise UsageError(
                f"The argument {plain(argument, 200)} is no UTF-8.",
                expected="paths and texts in UTF-8",
                fix="rename the file or folder; `ls -b` shows the bytes of a name",
            )


if __name__ == "__main__":
    sys.exit(main())
