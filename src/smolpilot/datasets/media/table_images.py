"""Images stored inside the tables (features of dtype `image`), read by row group so that memory stays bounded."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.files import dataset_root, open_parquet, reading, repair_advice

from .image_formats import ImageError, decoded, rgb

_GROUPS_KEPT = 4


class TableImageReader:
    """Decodes images of parquet columns; keeps the encoded bytes of a few row groups."""

    def __init__(self) -> None:
        self._starts: dict[Path, npt.NDArray[np.int64]] = {}
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._starts = state["starts"]
        self._forget()

    def picture(self, path: Path, key: str, row: int, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
        """The image in column `key`, row `row` of the file: `[h, w, 3]` uint8.

        Raises DatasetError when it cannot be decoded, and when it is not of the `size` (height, width).
        """
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            starts = self._row_group_starts(path, key)
            group = int(np.searchsorted(starts, row, side="right")) - 1
            cell = self._group(path, key, group)[row - int(starts[group])].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise DatasetError(
                f"Row {row} of column '{key}' in {path} holds no image.",
                expected="encoded images inside the table, not links to files",
            )
        try:
            picture = decoded(content, size=size)
            if picture.mode.startswith(("I", "F")):
                raise ImageError(f"it is a depth or float image (mode {picture.mode}), not one of 8-bit colors")
            return rgb(picture)
        except ImageError as error:
            raise DatasetError(
                f"Row {row} of column '{key}' in {path} cannot be decoded: {error}.",
                expected="a PNG or JPEG image of 8-bit colors, of the size that the features state",
                fix=repair_advice(dataset_root(path), "leaves its episode out"),
            ) from error

    def _row_group_starts(self, path: Path, key: str) -> npt.NDArray[np.int64]:
        if path not in self._starts:
            file = open_parquet(path, "data file")
            if key not in file.schema_arrow.names:
                raise DatasetError(f"The data file {path} has no column '{key}'.")
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._starts[path] = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
        return self._starts[path]

    def _group(self, path: Path, key: str, group: int) -> Any:
        place = (path, key, group)
        if place not in self._groups:
            with reading(path, "data file"):
                self._groups[place] = open_parquet(path, "data file").read_row_group(group, columns=[key])[key]
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(place)
        return self._groups[place]

    def _forget(self) -> None:
        # A lock that another thread held during a fork would never be released in the child.
        self._process = os.getpid()
        self._groups: OrderedDict[tuple[Path, str, int], Any] = OrderedDict()
        self._lock = threading.Lock()
