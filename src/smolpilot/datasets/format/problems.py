"""Where what is wrong with a dataset goes: the strict reader raises the first of it, the tolerant one lists all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smolpilot.common.errors import DatasetError


class Problems:
    """What the readers of a dataset tell of it. `code` is one of the rules, `place` says where: episode, camera, …

    This is the strict reader's: a report is a DatasetError, a remark nothing. Links have been looked at before.
    """

    def report(self, code: str, message: str, *, expected: str = "", advice: str = "", **place: Any) -> None:
        """Something that a dataset cannot be trained on with; `advice` says what to do about it."""
        raise DatasetError(message, expected=expected, fix=advice)

    def report_error(self, code: str, error: DatasetError, **place: Any) -> None:
        """The same of what stands in an error."""
        self.report(code, error.found, expected=error.expected, advice=error.fix, **place)

    def remark(self, code: str, message: str, **place: Any) -> None:
        """Something that a strict reader can do without."""

    def named(self, path: Path) -> str:
        """A path as messages name it."""
        return str(path)

    def opens(self, path: Path, what: str, code: str, **place: Any) -> bool:
        """Whether a file may be opened: it is the dataset's own, or this has said that it is not."""
        return True


REFUSE = Problems()
