"""Code of other packages: whatever it raises becomes one error that says whose it is and what it was doing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smolpilot.common.errors import SmolpilotError
from smolpilot.common.text import plain

_LIMIT = 500  # characters of a cause that a message shows


@contextmanager
def blamed(what: str, *, fix: str = "") -> Iterator[None]:
    """Raise SmolpilotError, `what` and the cause, for what the block raises, `sys.exit` included.

    what: such as "The environment maze fails at step 3". Errors of smolpilot's own pass, and so do Ctrl-C and
    a memory that does not suffice.
    """
    try:
        yield
    except (SmolpilotError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # a plugin that exits would end the command as if all were done
        raise SmolpilotError(f"{what}: {plain(f'{type(error).__name__}: {error}', _LIMIT)}", fix=fix) from error
