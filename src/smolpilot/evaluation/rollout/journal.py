"""The episodes of a rollout as they end, a line of JSON each: what a killed rollout resumes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.common.json_input import parse_json, read_json_object, to_plain
from smolpilot.common.text import shown

from .results import EPISODES, LANGUAGE, Run, run_document

_SETTINGS = "settings.json"


class Journal:
    """The folder OUT.partial beside a rollout's OUT, as long as the rollout has not ended."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        """settings: whatever decides about an episode. UsageError where OUT.partial holds those of other settings."""
        self.folder = out.with_name(f"{out.name}.partial")
        plain = to_plain(settings)
        if (self.folder / _SETTINGS).is_file():
            self._require_same(plain)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _SETTINGS).write_text(json.dumps(plain), encoding="utf-8")
        self._lines = {name: (self.folder / name).open("a", encoding="utf-8") for name in (EPISODES, LANGUAGE)}

    def known(self, name: str = EPISODES) -> list[Run]:
        """The episodes that have ended; a line that was cut off is none. name: LANGUAGE for those of other texts."""
        content = (self.folder / name).read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._lines[name].truncate(len(whole))
        return [Run(**parse_json(line)) for line in whole.splitlines()]

    def add(self, run: Run, name: str = EPISODES) -> None:
        """Write an episode that has ended; it outlives a kill."""
        self._lines[name].write(json.dumps(to_plain(run_document(run))) + "\n")
        self._lines[name].flush()

    def close(self, *, ended: bool) -> int:
        """Close the file, and count the episodes that it keeps: none where the rollout has ended, whose results hold
        them all; then the folder goes."""
        for file in self._lines.values():
            file.close()
        kept = 0 if ended else sum((self.folder / name).read_bytes().count(b"\n") for name in self._lines)
        if not kept:
            shutil.rmtree(self.folder, ignore_errors=True)
        return kept

    def _require_same(self, settings: Mapping[str, Any]) -> None:
        try:
            before = read_json_object(self.folder / _SETTINGS)
        except (OSError, ValueError):
            before = {}
        other = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
        if other:
            name = other[0]
            raise UsageError(
                f"{self.folder} holds episodes of another rollout: its {name} is {shown(before.get(name))}, now "
                f"{shown(settings.get(name))}.",
                expected="the same settings, to resume it",
                fix="take another --out, or delete that folder",
            )
