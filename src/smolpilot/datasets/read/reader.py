"""open_dataset and Dataset: frames of a LeRobot dataset with the action chunk that follows each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError, UsageError, did_you_mean
from smolpilot.common.keys import ACTION, ACTION_IS_PAD, STATE, TASK, image_key
from smolpilot.common.progress import working
from smolpilot.common.statistics import Statistics, array_statistics
from smolpilot.datasets.format.episodes import Episode
from smolpilot.datasets.format.files import repair_advice
from smolpilot.datasets.format.meta import DatasetMeta, read_meta, usable
from smolpilot.datasets.media.video import RgbImage, decode_positions, probe

from .alignment import match_frames, require_room
from .arguments import check_images, check_threads, plain_indices
from .gather import Media, Place, default_threads
from .media_sizes import check_image_sizes, check_video_sizes, require_size
from .tables import Tables, load_tables, ranges
from .tensors import Images, chunks, image_memory, split_batch, table_tensors

if TYPE_CHECKING:
    from torch import Tensor

type Indices = Sequence[int] | Sequence[bool] | slice | npt.NDArray[np.integer[Any] | np.bool_] | Tensor


@working("opening the dataset")
def open_dataset(
    path: str | Path, *, episodes: Sequence[int] | None = None, chunk_size: int = 50, trainable: bool = True
) -> Dataset:
    """Open a LeRobot v2.0, v2.1 or v3.0 folder.

    `episodes` (index values) limits it, and only their tables are read; `chunk_size` is H, the number of actions in
    an item. Samples leave out what no policy reads and what they cannot carry: `meta.left_out` names it and says why.
    Raises UsageError for a path or episode that does not exist, DatasetError for damaged data. `trainable` False
    opens also a dataset without state or action, for its images and numbers.
    """
    if chunk_size < 1:
        raise UsageError(f"chunk_size is {chunk_size}.", expected="at least 1 action per chunk")
    meta = usable(read_meta(path, trainable=trainable))
    chosen = [episode.index for episode in meta.episodes] if episodes is None else _known(meta, episodes)
    wanted = meta.episodes if episodes is None else [meta.episode(index) for index in chosen]
    tables = load_tables(meta, wanted, trainable=trainable)
    meta = usable(dataclasses.replace(meta, left_out=meta.left_out | tables.left_out))
    meta = dataclasses.replace(_probe_cameras(meta), statistics=_complete_statistics(meta, tables))
    return Dataset(meta, tables, chosen, chunk_size, Media())


class Dataset:
    """Frames of the selected episodes, in order of episode and frame.

    `dataset[i]` has LeRobot's keys, see `sample`; `dataset[[i, j, …]]` is a batch, see `batch`; so are a slice, a 1-d
    array or tensor of integers and a mask of booleans. Numbers are kept in memory, images are decoded when asked
    for. Pickles without open files; works in forked and spawned loader processes, and several threads may read at once.
    """

    def __init__(self, meta: DatasetMeta, tables: Tables, episodes: list[int], chunk_size: int, media: Media) -> None:
        self.meta = meta
        self.episodes = episodes
        self.chunk_size = chunk_size
        self._tables, self._media = tables, media
        spans = np.array([tables.spans[index] for index in episodes])
        self._rows = ranges(spans[:, 0], spans[:, 1] - spans[:, 0])
        self._positions: dict[tuple[str, int], npt.NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int | Indices) -> dict[str, Any]:
        frames = plain_indices(i, len(self))
        return self.sample(frames) if isinstance(frames, int) else self.batch(frames)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of several frames, read together; torch's DataLoader asks for its batches in this way."""
        # DataLoader copies them into shared memory when it stacks them: no need to be there before.
        return split_batch({**self.batch_images(indices), **self.batch_numbers(indices)})

    def select(self, episodes: Sequence[int]) -> Dataset:
        """The same dataset, other episodes; tables and open videos are shared."""
        chosen = _known(self.meta, episodes)
        tables = self._tables
        if any(index not in tables.spans for index in chosen):
            tables = load_tables(self.meta, [self.meta.episode(index) for index in chosen])
        return Dataset(self.meta, tables, chosen, self.chunk_size, self._media)

    def with_instruction(self, text: str) -> Dataset:
        """The same frames, all with the instruction `text`; nothing on disk changes."""
        if not text.strip():
            raise UsageError("The instruction is empty.", fix="say what the robot does")
        meta = dataclasses.replace(self.meta, tasks=dict.fromkeys(self.meta.tasks, text))
        return Dataset(meta, self._tables, self.episodes, self.chunk_size, self._media)

    @property
    def states(self) -> npt.NDArray[np.float32]:
        """States of all selected frames, `[N, S]`."""
        return self._column(STATE)

    @property
    def actions(self) -> npt.NDArray[np.float32]:
        """Actions of all selected frames, `[N, A]`."""
        return self._column(ACTION)

    @property
    def episode_index(self) -> npt.NDArray[np.int64]:
        """Episode index value of each selected frame, `[N]`."""
        return self._column("episode_index")

    @property
    def frame_index(self) -> npt.NDArray[np.int64]:
        """Number of each selected frame within its episode, `[N]`."""
        return self._column("frame_index")

    @property
    def task_index(self) -> npt.NDArray[np.int64]:
        """Task index value of each selected frame, `[N]`."""
        return self._column("task_index")

    @property
    def timestamps(self) -> npt.NDArray[np.float32]:
        """Seconds since the episode's start of each selected frame, `[N]`."""
        return self._column("timestamp")

    @property
    def instructions(self) -> dict[str, int]:
        """Instruction texts of the selected frames with their number of frames."""
        frames: dict[str, int] = {}
        for value, count in zip(*np.unique(self.task_index, return_counts=True), strict=True):
            text = self.meta.tasks[int(value)]
            frames[text] = frames.get(text, 0) + int(count)
        return frames

    def instruction(self, i: int) -> str:
        """The instruction of frame `i`, by the value of its task index."""
        return self.meta.tasks[int(self._tables.array("task_index")[self._row(i)])]

    def chunk(self, i: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The actions from frame `i` on, `[H, A]`, and which lie beyond the episode, `[H]`: those repeat its last."""
        row = self._row(i)
        stop = self._tables.spans[int(self._tables.array("episode_index")[row])][1]
        rows = row + np.arange(self.chunk_size)
        return self._tables.array(ACTION)[np.minimum(rows, stop - 1)], rows >= stop

    def images(self, i: int) -> dict[str, RgbImage]:
        """The images of frame `i` by camera name, `[h, w, 3]` uint8."""
        return {name: self._picture(name, self._row(i)) for name in self.meta.cameras}

    def image(self, i: int, camera: str) -> RgbImage:
        """The image of one camera of frame `i`, `[h, w, 3]` uint8; UsageError for an unknown camera."""
        self._require_camera(camera)
        return self._picture(camera, self._row(i))

    def pictures(self, indices: Indices, camera: str) -> npt.NDArray[np.uint8]:
        """The images of one camera of several frames, `[n, 3, h, w]` uint8, decoded together."""
        self._require_camera(camera)
        info = self.meta.cameras[camera]
        places = [self._place(camera, row) for row in self._chosen(indices)]
        out = np.empty((len(places), 3, info.height, info.width), dtype=np.uint8)
        self._media.fill(list(zip(places, out, strict=True)), default_threads())
        return out

    def sample(self, i: int, images: bool = True) -> dict[str, Any]:
        """Frame `i` as LeRobotDataset gives it with `delta_timestamps` for the action, as torch tensors.

        `observation.state` `[S]`, `action` `[H, A]`, `action_is_pad` `[H]`, `observation.images.<camera>`
        `[3, h, w]` float in [0, 1], `task` text, the index columns and every other column of the tables. States and
        actions are vectors also with one joint (LeRobot: scalars). Images are left out with `images=False`.
        """
        return split_batch({**(self.batch_images([i]) if images else {}), **self.batch_numbers([i])})[0]

    def batch(
        self,
        indices: Indices,
        *,
        images: Images | None = "float32",
        threads: int | None = None,
    ) -> dict[str, Any]:
        """Several samples, stacked: what torch's `default_collate` makes of them, texts as lists.

        The frames of a batch are decoded in their order in the files, neighbors in one go. `images`: "float32" in
        [0, 1]; "uint8" leaves the division by 255 (and four times the memory) to the device; None leaves images
        out. `threads` decode at once: all cores by default, one in a worker process.
        """
        pictures = {} if images is None else self.batch_images(indices, images=images, threads=threads, shared=True)
        return {**pictures, **self.batch_numbers(indices)}

    def batch_images(
        self,
        indices: Indices,
        *,
        images: Images = "float32",
        threads: int | None = None,
        shared: bool = False,
        cameras: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The part of a batch that `batch_numbers` does not give: `[B, 3, h, w]` of each camera.

        `shared`: in a DataLoader's worker, memory that its parent process can read. `cameras` (names): only of these.
        """
        check_images(images)
        check_threads(threads)
        rows = self._chosen(indices)
        found: dict[str, Any] = {}
        jobs: list[tuple[Place, npt.NDArray[Any]]] = []
        for name in self.meta.cameras if cameras is None else cameras:
            self._require_camera(name)
            camera = self.meta.cameras[name]
            tensor = image_memory((len(rows), 3, camera.height, camera.width), images, shared=shared)
            found[camera.key] = tensor
            found.setdefault(image_key(name), tensor)
            jobs += [(self._place(name, row), out) for row, out in zip(rows, tensor.numpy(), strict=True)]
        self._media.fill(jobs, threads or default_threads())
        return found

    def batch_numbers(self, indices: Indices) -> dict[str, Any]:
        """The part of a batch that needs no decoding: table columns, action chunks, instructions."""
        rows = np.array(self._chosen(indices), dtype=np.int64)
        actions, is_pad = chunks(self._tables, rows, self.chunk_size)
        tasks = [self.meta.tasks[int(index)] for index in self._tables.array("task_index")[rows]]
        return {**table_tensors(self._tables, rows), ACTION: actions, ACTION_IS_PAD: is_pad, TASK: tasks}

    def decode_episode(self, camera: str, episode: int) -> Iterator[RgbImage]:
        """All images of one camera and episode in order, `[h, w, 3]` uint8; the fast way to see every frame."""
        self._require_camera(camera)
        info = self.meta.episode(episode)
        if episode not in self._tables.spans:
            yield from self.select([episode]).decode_episode(camera, episode)
            return
        start, stop = self._tables.spans[episode]
        if camera not in info.videos:
            yield from (self._picture(camera, row) for row in range(start, stop))
            return
        span = info.videos[camera]
        positions = self._frame_positions(camera, info)
        yield from decode_positions(span.path, self._media.videos.index(span.path), positions)

    def group_starts(self) -> npt.NDArray[np.int64]:
        """The frames at which a group of pictures or an episode begins, in the videos of the first camera.

        Reads the packets of its files once. Frames from one start to the next are cheapest decoded together.
        """
        camera = next((name for name, info in self.meta.cameras.items() if info.is_video), None)
        if camera is None:
            return np.arange(len(self), dtype=np.int64)
        groups = []
        for index in self.episodes:
            episode = self.meta.episode(index)
            keyframe = self._media.videos.index(episode.videos[camera].path).keyframe
            groups.append(keyframe[self._frame_positions(camera, episode)])
        changed = (np.diff(np.concatenate(groups)) != 0) | (np.diff(self.episode_index) != 0)
        return np.flatnonzero(np.append(True, changed))

    @working("checking videos and images")
    def check_videos(self, progress: Callable[[int, int], None] | None = None, *, images: bool = True) -> None:
        """Compare size and number of video frames, and the size of images in the tables, with the features and the
        rows of each selected episode, without decoding.

        Reads the packets of every video file once; `progress(done, total)` is called after each episode. `images`
        False leaves out those in the tables, which are read whole for it. Raises DatasetError for the first episode
        that does not fit.
        """
        chosen = [self.meta.episode(index) for index in self.episodes]
        check_video_sizes(self.meta, chosen, self._media.videos)
        if images:
            check_image_sizes(self.meta, chosen, self._tables.spans, self._tables.file_rows)
        for number, episode in enumerate(chosen):
            for camera in episode.videos:
                self._frame_positions(camera, episode)
            if progress is not None:
                progress(number + 1, len(chosen))
        paths = {span.path for episode in chosen for span in episode.videos.values()}
        require_room(self._media.videos, self.meta.episodes, paths, self.meta.root)

    def close(self) -> None:
        """Close open video files; they open again when needed."""
        self._media.videos.close()

    def _require_camera(self, camera: str) -> None:
        if camera not in self.meta.cameras:
            raise UsageError(
                f"The dataset {self.meta.root} has no camera '{camera}'.", fix=did_you_mean(camera, self.meta.cameras)
            )

    def _chosen(self, indices: Indices) -> list[int]:
        """The rows of several frames."""
        frames = plain_indices(indices, len(self))
        if isinstance(frames, int):
            raise UsageError(f"{indices!r} is a single frame.", expected="a list of frames")
        return [self._row(i) for i in frames]

    def _row(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"frame {i} of {len(self)}")
        return int(self._rows[i])

    def _column(self, name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self._tables.array(name)[self._rows]
        return values

    def _picture(self, camera: str, row: int) -> RgbImage:
        return self._media.picture(self._place(camera, row))

    def _place(self, camera: str, row: int) -> Place:
        episode = self.meta.episode(int(self._tables.array("episode_index")[row]))
        if camera not in episode.videos:
            return Place(episode.data_path, self.meta.cameras[camera].key, int(self._tables.file_rows[row]))
        positions = self._frame_positions(camera, episode)
        return Place(episode.videos[camera].path, None, int(positions[int(self._tables.array("frame_index")[row])]))

    def _frame_positions(self, camera: str, episode: Episode) -> npt.NDArray[np.int64]:
        """For each frame of an episode its place in the video file, found by time stamp."""
        place = (camera, episode.index)
        if place not in self._positions:
            span = episode.videos[camera]
            start, stop = self._tables.spans[episode.index]
            times = span.start + self._tables.array("timestamp")[start:stop].astype(np.float64)
            self._positions[place] = match_frames(
                self._media.videos, camera, episode, times, self.meta.fps, self.meta.root
            )
        return self._positions[place]


def _known(meta: DatasetMeta, episodes: Sequence[int]) -> list[int]:
    if not len(episodes):
        raise UsageError("No episodes were selected.", expected="at least one episode index")
    return sorted({meta.episode(index).index for index in episodes})


def _probe_cameras(meta: DatasetMeta) -> DatasetMeta:
    """Take codec and size from the first video of each camera: the meta folder may be silent or wrong about them."""
    cameras = dict(meta.cameras)
    for name, camera in cameras.items():
        if not camera.is_video:
            continue
        first = meta.episodes[0]
        path = first.videos[name].path
        codec, pix_fmt, width, height = probe(path)
        what = f"The video of camera '{name}' in episode {first.index}"
        require_size(meta, what, camera, (width, height), path)
        cameras[name] = dataclasses.replace(camera, codec=codec, pix_fmt=pix_fmt)
    return dataclasses.replace(meta, cameras=cameras)


def _complete_statistics(meta: DatasetMeta, tables: Tables) -> Statistics:
    """The stored statistics, with those of state and action computed where they are missing or not finite."""
    statistics = dict(meta.statistics)
    for key in (STATE, ACTION):
        stored = statistics.get(key, {})
        if key not in tables.columns:
            continue
        if not all(
            name in stored and np.isfinite(stored[name]).all() for name in ("mean", "std", "min", "max", "count")
        ):
            statistics[key] = array_statistics(tables.array(key))
            continue
        for name in ("mean", "std", "min", "max"):
            if stored[name].shape != meta.features[key].shape:
                raise DatasetError(
                    f"The stored {name} of '{key}' in {meta.root} has shape {list(stored[name].shape)}.",
                    expected=f"shape {list(meta.features[key].shape)}",
                    fix=repair_advice(meta.root, "computes them anew"),
                )
    return statistics


def compute_statistics(dataset: Dataset) -> Statistics:
    """Exact statistics of state and action over the selected frames, in float64 (population std, quantiles)."""
    return {STATE: array_statistics(dataset.states), ACTION: array_statistics(dataset.actions)}
