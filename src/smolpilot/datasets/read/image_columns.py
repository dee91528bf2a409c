"""Whether the cameras whose images lie in the tables are there, told from the tables' footers alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq

from smolpilot.common.errors import DatasetError
from smolpilot.common.text import pluralize
from smolpilot.datasets.format.files import repair_advice
from smolpilot.datasets.format.meta import DatasetMeta


class ImageColumns:
    """Counts, for each camera with images in the tables, the files and rows that have none."""

    def __init__(self, meta: DatasetMeta) -> None:
        self._meta = meta
        self._cameras = {camera.key: name for name, camera in meta.cameras.items() if not camera.is_video}
        self._files: list[Path] = []
        self._without: dict[str, list[Path]] = {key: [] for key in self._cameras}
        self._holes: dict[str, list[tuple[Path, int]]] = {key: [] for key in self._cameras}

    def see(self, path: Path, file: pq.ParquetFile) -> None:
        """Take note of a data file."""
        if not self._cameras:
            return
        self._files.append(path)
        places = {file.schema.column(i).path: i for i in range(len(file.schema))}
        for key in self._cameras:
            place = places.get(f"{key}.bytes", places.get(key))
            if place is None:
                self._without[key].append(path)
                continue
            holes = _empty_cells(file, place)
            if holes == file.metadata.num_rows and holes:
                self._without[key].append(path)
            elif holes:
                self._holes[key].append((path, holes))

    def never_recorded(self, *, strict: bool) -> dict[str, str]:
        """The cameras that no file has an image of, by key; with `strict` a DatasetError for those that some have."""
        found = {}
        for key, name in self._cameras.items():
            if len(self._without[key]) == len(self._files):
                found[key] = "a camera of which no table holds an image"
            elif strict and self._without[key]:
                raise self._lacking(name, self._without[key])
            elif strict and self._holes[key]:
                path, holes = self._holes[key][0]
                raise DatasetError(
                    f"The camera '{name}' has no image in {pluralize(holes, 'row')} of {path}.",
                    expected="an image in every row",
                    fix=repair_advice(self._meta.root, "keeps the episodes that have all"),
                )
        return found

    def _lacking(self, camera: str, files: Collection[Path]) -> DatasetError:
        without = set(files)
        episodes = [episode.index for episode in self._meta.episodes if episode.data_path in without]
        some = ", ".join(map(str, episodes[:10])) + (f", … ({len(episodes)} in all)" if len(episodes) > 10 else "")
        return DatasetError(
            f"The camera '{camera}' has no images in episodes {some}, though it has them in others.",
            expected="an image of every camera in every row",
            fix=repair_advice(self._meta.root, "keeps the episodes that have all"),
        )


def _empty_cells(file: pq.ParquetFile, place: int) -> int:
    holes = 0
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(place).statistics
        if statistics is not None and statistics.has_null_count:
            holes += statistics.null_count
    return holes
