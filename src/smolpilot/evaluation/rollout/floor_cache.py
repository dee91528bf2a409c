"""Episodes of floors that were played before: the same scenes and code give the same ones, paid for once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import PROCESS_GONE, SmolpilotError
from smolpilot.common.hashing import content_name
from smolpilot.common.json_input import read_json_object, to_plain
from smolpilot.common.machine import user_cache

from .results import CRASHED, Run, run_document

FORMAT = "smolpilot-floors/1"


def default_folder() -> Path:
    """Where they are kept unless told otherwise."""
    return user_cache("floors")


class FloorCache:
    """The episodes of floors in one environment, a file for each floor. What cannot be read is made anew."""

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        """identity: whatever decides about an episode beside floor and seed: environment, settings, versions."""
        self._identity, self._folder = to_plain(identity), default_folder() if folder is None else folder

    def known(self, name: str) -> list[Run]:
        """The episodes of a floor that were kept."""
        try:
            document = read_json_object(self._file(name))
            if (document["format"], document["identity"]) != (FORMAT, self._identity):
                return []
            return [Run(**row) for row in document["runs"] if isinstance(row["seed"], int)]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def keep(self, name: str, runs: Sequence[Run]) -> None:
        """Keep these, and those of before. Where nothing can be written, nothing is kept: a cache is a convenience."""
        # A simulation that broke will break again; a process that died may have been killed.
        lasting = [run for run in runs if run.label != CRASHED or not run.error.startswith(PROCESS_GONE)]
        known = {run.seed: run for run in (*self.known(name), *lasting)}
        if not known:
            return
        rows = [to_plain(run_document(known[seed])) for seed in sorted(known)]
        document = {"format": FORMAT, "floor": name, "identity": self._identity, "runs": rows}
        with suppress(OSError, SmolpilotError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self._file(name), json.dumps(document))

    def _file(self, name: str) -> Path:
        return self._folder / f"{content_name(name, json.dumps(self._identity, sort_keys=True))}.json"
