"""What a verb's errors become: one message on standard error and an exit code, no traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from smolpilot.common.errors import Refusal, SmolpilotError, exit_code, explain, too_many_files
from smolpilot.common.text import plain


def exit_code_of(verb: Callable[[], int]) -> int:
    """Run a verb; its exit code: 0 done, 1 a check failed, 2 misuse, 130 interrupted."""
    try:
        return verb()
    except SmolpilotError as error:
        limit = too_many_files(error)
        return _report(str(error), error.exit_code) if limit is None else _report(_refusal(limit), 1)
    except KeyboardInterrupt:
        return _report("Interrupted.", 130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _report(_refusal(explain(error)), exit_code(error))
    except MemoryError:
        return _report("The memory does not suffice.\nFix: close other programs, or ask for less at once.", 1)
    except Exception as error:
        # Some libraries raise what they like.
        limit = too_many_files(error)
        if limit is None:
            raise
        return _report(_refusal(limit), 1)


def _refusal(refusal: Refusal) -> str:
    return f"{refusal.found}\nFix: {refusal.fix}." if refusal.fix else refusal.found


_LONGEST_LINE = 4000  # letters of a message: a name in it may have a million


def _report(message: str, code: int) -> int:
    if os.environ.get("SMOLPILOT_TRACEBACK"):
        traceback.print_exc()
    head, *rest = (plain(line, _LONGEST_LINE) for line in message.split("\n"))
    print("\n".join([f"error: {head}", *(f"  {line}" for line in rest)]), file=sys.stderr)
    return code
