"""Where the files of a dataset are, by the patterns `data_path` and `video_path` of meta/info.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolpilot.common.safe_text import LIMIT, plain, shown

from .files import repair_advice
from .problems import Problems
from .templates import fill_template
from .versions import Format


class DatasetPaths:
    """Fills the patterns; many episodes may share a file. A pattern that cannot be filled is reported once."""

    def __init__(self, root: Path, info: Mapping[str, Any], form: Format, problems: Problems) -> None:
        self.root, self._problems = root, problems
        self.use(info, form)
        self._unusable: set[str] = set()
        self._known: dict[tuple[str | None, int, int], Path | None] = {}

    def use(self, info: Mapping[str, Any], form: Format) -> None:
        """Fill the patterns of this description."""
        self._info, self.form = info, form

    def data(self, chunk: int, number: int) -> Path | None:
        """The table with this number in this folder; the number is the episode's where each has a table."""
        return self._place(None, chunk, number)

    def video(self, key: str, chunk: int, number: int) -> Path | None:
        """The video of a camera with this number in this folder."""
        return self._place(key, chunk, number)

    def pattern(self, key: str | None, chunk: int, number: int) -> Path | None:
        """The path that the pattern gives; None, with a report, when there is no usable pattern."""
        which = "data_path" if key is None else "video_path"
        template = self._info.get(which)
        if not isinstance(template, str):
            reason = "is missing" if template is None else f"is {shown(template)}"
        else:
            try:
                return self.root / fill_template(template, self.form.names(chunk, number, key))
            except ValueError as error:
                reason = f"{error}: {plain(template, LIMIT)}"
        # Without a readable info.json there are no patterns: that has been said.
        if which not in self._unusable and self._info:
            self._unusable.add(which)
            self._problems.report(
                "template-unusable",
                f"The '{which}' of {self._problems.named(self.root / 'meta' / 'info.json')} {reason}.",
                expected=f"a pattern such as {self.form.data_path if key is None else self.form.video_path}",
                advice=repair_advice(self.root, "finds the files and writes the pattern"),
            )
        return None

    def found(self, key: str | None, chunk: int, number: int) -> Path | None:
        """Where the file is: where the pattern says."""
        return self.pattern(key, chunk, number)

    def _place(self, key: str | None, chunk: int, number: int) -> Path | None:
        place = (key, chunk, number)
        if place not in self._known:
            self._known[place] = self.found(*place)
        return self._known[place]
