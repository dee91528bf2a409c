"""Whether every video and every image in the tables has the size that the features state, told by their headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smolpilot.common.errors import DatasetError
from smolpilot.common.machine import in_threads
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.features import CameraInfo
from smolpilot.datasets.format.files import file_state, open_parquet, reading, repair_advice
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.media.image_formats import ImageError, Size, encoded_size
from smolpilot.datasets.media.video import VideoReader, probe
from smolpilot.datasets.media.video_file import VideoError

from .gather import default_threads

# The header of a JPEG lies behind what a camera notes about itself; that is rarely longer.
_HEAD = 2048
_ROWS = 32
# Opening a video takes 2 to 3 ms.
_FEW = 100


def check_video_sizes(meta: DatasetMeta, episodes: Iterable[Episode], videos: VideoReader) -> None:
    """Compare the headers of the episodes' videos with the features; their indexes are made for it, once.

    Raises DatasetError for the first episode whose video cannot be read or has another size.
    """
    for episode in episodes:
        for name, span in episode.videos.items():
            camera = meta.cameras[name]
            try:
                index = videos.index(span.path)
            except VideoError as error:
                words = f"{error.reason} (episode {episode.index}, camera '{name}')"
                raise VideoError(span.path, words) from error
            what = f"The video of camera '{name}' in episode {episode.index}"
            require_size(meta, what, camera, (index.width, index.height), span.path)


def check_image_sizes(
    meta: DatasetMeta,
    episodes: Iterable[Episode],
    spans: Mapping[int, tuple[int, int]],
    file_rows: npt.NDArray[np.int64],
) -> None:
    """Compare the headers of the images in the tables with the features; nothing is decoded.

    `spans` and `file_rows` as in `Tables`. Raises DatasetError for the first frame whose image has another size, is of
    a format that is not decoded, or is missing.
    """
    cameras = {name: camera for name, camera in meta.cameras.items() if not camera.is_video}
    if not cameras:
        return
    by_file: dict[Path, list[Episode]] = {}
    for episode in episodes:
        by_file.setdefault(episode.data_path, []).append(episode)

    def check(path: Path) -> None:
        places = {
            int(row): (episode.index, frame)
            for episode in by_file[path]
            for frame, row in enumerate(file_rows[slice(*spans[episode.index])])
        }
        for name, camera in cameras.items():
            _check_column(meta, path, name, camera, places)

    # Reading lets go of Python's lock.
    for _ in in_threads(check, list(by_file), default_threads()):
        pass


def size_note(meta: DatasetMeta) -> str:
    """One sentence on the first video that cannot be opened or has another size, where there are few; else empty."""
    files = {
        span.path: (episode.index, name)
        for episode in reversed(meta.episodes)
        for name, span in episode.videos.items()
        if meta.cameras[name].key not in meta.left_out and file_state(span.path) == "whole"
    }
    if len(files) > _FEW:
        return ""
    for path, (episode, name) in sorted(files.items()):
        what = f"The video of camera '{name}' in episode {episode}"
        try:
            require_size(meta, what, meta.cameras[name], probe(path)[2:], path)
        except DatasetError as error:
            return error.found
    return ""


def require_size(meta: DatasetMeta, what: str, camera: CameraInfo, found: tuple[int, int], path: Path) -> None:
    """DatasetError for a video or image (`what`) of another width and height (`found`) than the features state."""
    if found != (camera.width, camera.height):
        raise other_size(meta, what, camera, f"{found[0]}x{found[1]}", path)


def other_size(meta: DatasetMeta, what: str, camera: CameraInfo, found: str, path: Path) -> DatasetError:
    """The error for a video or image (`what`) that is of another size (`found`)."""
    return DatasetError(
        f"{what} is {found}, meta/info.json says {camera.width}x{camera.height} ({path}).",
        expected="one size for all images of a camera, the one that the features state",
        fix=repair_advice(meta.root, "puts the description right, or leaves out episodes of another size"),
    )


def _check_column(
    meta: DatasetMeta, path: Path, name: str, camera: CameraInfo, places: Mapping[int, tuple[int, int]]
) -> None:
    file = open_parquet(path, "data file")
    starts = np.cumsum([0, *(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))])
    wanted = np.unique(np.searchsorted(starts, np.array(list(places)), side="right") - 1)
    for group in wanted.tolist():
        row = int(starts[group])
        with reading(path, "data file"):
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[camera.key]):
                cells = _contents(batch.column(0))
                for number, head in enumerate(_heads(cells)):
                    if row + number in places:
                        episode, frame = places[row + number]
                        where = f"The image of camera '{name}' at frame {frame} of episode {episode}"
                        height, width = _image_size(meta, path, where, head, cells[number])
                        require_size(meta, where, camera, (width, height), path)
                row += len(cells)


def _contents(column: pa.Array) -> pa.Array:
    """The encoded images of a column that holds them as `{bytes, path}`, or as they are."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        return pc.struct_field(column, "bytes")
    return column


def _heads(cells: pa.Array) -> list[object]:
    if pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
        found: list[object] = pc.binary_slice(cells, 0, _HEAD).to_pylist()
        return found
    return [None] * len(cells)


def _image_size(meta: DatasetMeta, path: Path, where: str, head: object, cell: pa.Scalar) -> Size:
    try:
        try:
            return encoded_size(head)
        except ImageError:
            return encoded_size(cell.as_py() if head is not None else None)
    except ImageError as error:
        raise DatasetError(
            f"{where} cannot be decoded: {error} ({path}).",
            expected="an encoded PNG or JPEG image in every row",
            fix=repair_advice(meta.root, "leaves such episodes out"),
        ) from error
