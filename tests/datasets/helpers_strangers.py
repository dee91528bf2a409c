"""Recordings as strangers bring them: readable in all that a policy needs, with one thing that their writers did
otherwise. Each says what a repair keeps, and (`said`) what its report must tell."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from .helpers_damage import (
    change_features,
    change_info,
    change_table,
    episodes_v3,
    rows_of,
    table_v21,
    video_v21,
)
from .helpers_recordings import FPS, Take, takes, write_v3, write_v21, write_video

# In v3.0 three episodes in the first video file, one in the second.
LENGTHS = (24, 27, 30, 25)
INDEX = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Stranger:
    """`layout` v3 or v21; `dropped` episodes, `rows` left of shortened ones (first, last not included); `gone`
    features that the copy lacks. `planned`: near to another one, so that only its plan is looked at."""

    name: str
    layout: str
    spoil: Callable[[Path], object]
    said: str
    dropped: tuple[int, ...] = ()
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    fps: float = FPS
    planned: bool = False


def recorded() -> list[Take]:
    """The demonstrations that all of them hold."""
    return takes(lengths=LENGTHS)


def write_sound(base: Path) -> dict[str, Path]:
    """The recording before it was made strange, in both layouts."""
    return {"v3": write_v3(base / "v3", recorded()), "v21": write_v21(base / "v21", recorded())}


def brought(stranger: Stranger, sound: dict[str, Path], path: Path) -> Path:
    """A copy of the sound recording, made strange."""
    shutil.copytree(sound[stranger.layout], path)
    stranger.spoil(path)
    return path


def marked(*names: str) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        for name in names:
            path = root / "meta" / name
            path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())

    return spoil


def encoded(encoding: str, *names: str) -> Callable[[Path], object]:
    """Meta files in another encoding, with a letter that ASCII lacks."""

    def spoil(root: Path) -> None:
        change_info(root, robot_type="küchenarm")
        for name in names:
            path = root / "meta" / name
            text = (
                json.dumps(json.loads(path.read_text()), ensure_ascii=False)
                if name == "info.json"
                else path.read_text()
            )
            path.write_bytes(text.encode(encoding))

    return spoil


def without_videos(camera: str, episodes: range) -> Callable[[Path], object]:
    return lambda root: [video_v21(root, episode, camera).unlink() for episode in episodes] and None


def unplaced(camera: str, *episodes: int) -> Callable[[Path], object]:
    """The episode table has no chunk, file and times of these episodes' videos."""

    def change(columns: dict[str, list[Any]]) -> None:
        for what in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"):
            for episode in episodes:
                columns[f"videos/observation.images.{camera}/{what}"][episode] = None

    return lambda root: change_table(episodes_v3(root), change)


def tables_of(root: Path) -> list[Path]:
    return sorted(root.glob("data/*/*.parquet"))


def cast_columns(kinds: dict[str, pa.DataType]) -> Callable[[Path], object]:
    """Columns of another type, the same values."""

    def spoil(root: Path) -> None:
        for path in tables_of(root):
            table = pq.read_table(path)
            for name, kind in kinds.items():
                column = table[name]
                if pa.types.is_list(kind):
                    column = pa.array([[value] for value in column.to_pylist()], kind)
                elif pa.types.is_string(kind):
                    column = pa.array([str(value) for value in column.to_pylist()])
                elif pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
                    column = column.cast(pa.list_(kind))
                else:
                    column = column.cast(kind)
                table = table.set_column(table.column_names.index(name), name, column)
            pq.write_table(table, path)

    return spoil


def added(
    name: str, values: Callable[[int], list[Any]], entry: dict[str, Any] | None = None
) -> Callable[[Path], object]:
    """A further column in every table; `values` makes one table's from its number of rows."""

    def spoil(root: Path) -> None:
        for path in tables_of(root):
            table = pq.read_table(path)
            pq.write_table(table.append_column(name, pa.array(values(len(table)))), path)
        if entry is not None:
            change_features(root, lambda features: features.update({name: entry}))

    return spoil


def emptied(column: str, episode: int, rows: slice) -> Callable[[Path], object]:
    """Cells without a value."""

    def change(columns: dict[str, list[Any]]) -> None:
        for row in rows_of(columns, episode)[rows]:
            columns[column][row] = None

    return lambda root: [change_table(path, change) for path in tables_of(root)] and None


def shortened(camera: str, frames: int, *episodes: int) -> Callable[[Path], object]:
    """Videos that end (or, below 0, begin) too early (late) by some frames."""

    def spoil(root: Path) -> None:
        for episode in episodes:
            pictures = recorded()[episode].pictures[camera]
            if frames > 0:
                write_video(video_v21(root, episode, camera), pictures[:-frames])
            else:
                late_video(video_v21(root, episode, camera), pictures[-frames:], -frames)

    return spoil


def late_video(path: Path, pictures: npt.NDArray[Any], frames: int) -> None:
    """A video whose first frame has the time stamp of frame number `frames`."""
    write_video(path, pictures)
    moved = path.with_suffix(".moved.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.time_base = source.streams.video[0].time_base
        base = source.streams.video[0].time_base
        assert base is not None
        shift = round(frames / FPS / base)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


def longer(camera: str, frames: int, episode: int) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        pictures = recorded()[episode].pictures[camera]
        write_video(video_v21(root, episode, camera), np.concatenate([pictures, pictures[-frames:]]))

    return spoil


def at_rate(fps: float) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        for episode, take in enumerate(recorded()):
            for camera, pictures in take.pictures.items():
                write_video(video_v21(root, episode, camera), pictures, fps=fps)

    return spoil


def in_one_go(path: Path, pictures: list[npt.NDArray[Any]]) -> None:
    """One key frame, at the start, and frames that need later ones, too."""
    path.unlink()
    with av.open(str(path), "w") as output:
        options = {"x264-params": "keyint=500:scenecut=0:bframes=3", "crf": "18", "threads": "1"}
        stream = output.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        for picture in pictures:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def few_key_frames(root: Path) -> None:
    """All episodes of a file encoded in one go; the table declares another codec, which is to be repaired."""
    for camera in ("front", "wrist"):
        files = sorted((root / "videos" / f"observation.images.{camera}").glob("*/*.mp4"))
        made = iter(recorded())
        for path in files:
            with av.open(str(path)) as container:
                left = container.streams.video[0].frames
            shown: list[npt.NDArray[Any]] = []
            while len(shown) < left:
                shown += list(next(made).pictures[camera])
            in_one_go(path, shown)
    change_features(root, lambda features: features["observation.images.front"]["info"].update({"video.codec": "hevc"}))


def renamed(names: dict[str, str]) -> Callable[[Path], object]:
    """Feature names of others, everywhere."""

    def spoil(root: Path) -> None:
        info = json.loads((root / "meta" / "info.json").read_text())
        info["features"] = {names.get(key, key): value for key, value in info["features"].items()}
        (root / "meta" / "info.json").write_text(json.dumps(info))
        stats = json.loads((root / "meta" / "stats.json").read_text())
        (root / "meta" / "stats.json").write_text(json.dumps({names.get(k, k): v for k, v in stats.items()}))
        for path in tables_of(root):
            table = pq.read_table(path)
            pq.write_table(table.rename_columns([names.get(key, key) for key in table.column_names]), path)
        table = pq.read_table(episodes_v3(root))
        columns = []
        for name in table.column_names:
            kind, _, rest = name.partition("/")
            key, _, what = rest.rpartition("/")
            columns.append(f"{kind}/{names[key]}/{what}" if key in names else name)
        pq.write_table(table.rename_columns(columns), episodes_v3(root))
        for old, new in names.items():
            if (root / "videos" / old).is_dir():
                (root / "videos" / old).rename(root / "videos" / new)

    return spoil


def tasks_as_pandas_left_them(root: Path) -> None:
    table = pq.read_table(root / "meta" / "tasks.parquet")
    texts = next(table[name] for name in table.column_names if name != "task_index").to_pylist()
    plain = pa.table({"task": texts, "task_index": table["task_index"].to_pylist()})
    pq.write_table(plain, root / "meta" / "tasks.parquet")


def declared_size(root: Path) -> None:
    change_features(root, lambda features: features["observation.images.front"].update(shape=[480, 640, 3]))


def stray_table(root: Path) -> None:
    shutil.copyfile(table_v21(root, 2), root / "data" / "chunk-000" / "extra_000017.parquet")
    shutil.copyfile(video_v21(root, 2), root / "videos" / "chunk-000" / "take of the other day 21.mp4")


def nested(root: Path) -> None:
    """A backup of the recording inside of it."""
    shutil.copytree(root, root.with_name("backup-of-it"))
    shutil.move(root.with_name("backup-of-it"), root / "backup")


REWARD = {"dtype": "float32", "shape": [1], "names": None}
NOTE = {"dtype": "string", "shape": [1], "names": None}
V3, V21 = "v3", "v21"
FLOATS = dict.fromkeys(INDEX, pa.float64())
WHOLE = ("frame_index", "episode_index", "index", "task_index")


STRANGERS = [
    Stranger("mark", V21, marked("info.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl"), "byte order"),
    Stranger(
        "mark, v3", V3, marked("info.json", "stats.json"), "meta/stats.json: byte order mark removed", planned=True
    ),
    Stranger("UTF-16", V21, encoded("utf-16", "info.json", "tasks.jsonl"), "written as UTF-8 (it is UTF-16)"),
    Stranger("Windows-1252", V3, encoded("cp1252", "info.json"), "written as UTF-8 (it is not UTF-8)"),
    Stranger(
        "camera never recorded",
        V21,
        without_videos("wrist", range(4)),
        "Camera 'wrist' left out: no episode has a video of it",
        gone=("observation.images.wrist",),
    ),
    Stranger(
        "camera never recorded, v3",
        V3,
        lambda root: shutil.rmtree(root / "videos" / "observation.images.wrist"),
        "Camera 'wrist' left out: no episode has",
        gone=("observation.images.wrist",),
    ),
    Stranger(
        "camera that most episodes lack",
        V21,
        without_videos("wrist", range(3)),
        "Camera 'wrist' left out: 3 of 4 episodes lack a video of it",
        gone=("observation.images.wrist",),
        planned=True,
    ),
    Stranger(
        "camera that two episodes lack", V21, without_videos("wrist", range(1, 3)), "", dropped=(1, 2), planned=True
    ),
    Stranger(
        "place of an episode",
        V3,
        unplaced("wrist", 1),
        "Episode 1: the place of the video of camera 'wrist'",
        planned=True,
    ),
    Stranger("place of the first", V3, unplaced("front", 0), "Episode 0: the place of the video", planned=True),
    Stranger("places of neighbors", V3, unplaced("wrist", 0, 1), "Episodes 0-1: the place of the video", planned=True),
    Stranger("places over a file's end", V3, unplaced("wrist", 2, 3), "Episodes 2-3: the place of the video"),
    Stranger("no places at all", V3, unplaced("wrist", *range(4)), "Episodes 0-3: the place of the video"),
    Stranger("index columns as float64", V21, cast_columns(FLOATS), "Column frame_index written as int64"),
    Stranger("index columns as float64, v3", V3, cast_columns(FLOATS), "it was float64", planned=True),
    Stranger(
        "index columns as int32", V3, cast_columns(dict.fromkeys(WHOLE, pa.int32())), "it was int32", planned=True
    ),
    Stranger(
        "index columns as lists",
        V21,
        cast_columns({**dict.fromkeys(WHOLE, pa.list_(pa.int64())), "timestamp": pa.list_(pa.float32())}),
        "it was lists of int64",
    ),
    Stranger(
        "index columns as lists, v3",
        V3,
        cast_columns(dict.fromkeys(WHOLE, pa.list_(pa.int64()))),
        "lists of",
        planned=True,
    ),
    Stranger(
        "index columns as texts", V21, cast_columns(dict.fromkeys(INDEX, pa.string())), "it was string", planned=True
    ),
    Stranger("index columns as texts, v3", V3, cast_columns(dict.fromkeys(INDEX, pa.string())), "it was string"),
    Stranger(
        "joints as float64", V3, cast_columns({"action": pa.float64()}), "'action' written as float32", planned=True
    ),
    Stranger("texts with nulls", V3, added("note", lambda n: [None, *["a"] * (n - 1)], NOTE), "became empty texts"),
    Stranger(
        "numbers with nulls",
        V3,
        added("next.reward", lambda n: [*[0.5] * (n - 1), None], REWARD),
        "'next.reward' left out: 1 of its 106 cells are empty",
        gone=("next.reward",),
        planned=True,
    ),
    Stranger(
        "nothing but nulls",
        V21,
        added("note", lambda n: [None] * n, NOTE),
        "'note' left out",
        gone=("note",),
        planned=True,
    ),
    Stranger(
        "numbers that are not finite",
        V21,
        added("next.reward", lambda n: [0.5] * (n - 1) + [float("nan")], REWARD),
        "NaN or infinite",
        gone=("next.reward",),
        planned=True,
    ),
    Stranger(
        "lists of varying length",
        V21,
        added("hits", lambda n: [[1.0] * (1 + i % 3) for i in range(n)], {"dtype": "float64", "shape": [3]}),
        "lists of different lengths",
        gone=("hits",),
    ),
    Stranger("messages", V3, added("note", lambda n: [{"a": 1}] * n), "'note' left out", gone=("note",), planned=True),
    Stranger(
        "messages with a name",
        V21,
        added("note", lambda n: [{"a": 1}] * n, NOTE),
        "left out",
        gone=("note",),
        planned=True,
    ),
    Stranger("pandas' index", V3, added("__index_level_0__", lambda n: list(range(n))), "pandas' own row index"),
    Stranger(
        "pandas' index, v2.1",
        V21,
        added("__index_level_0__", lambda n: list(range(n))),
        "pandas' own row",
        planned=True,
    ),
    Stranger(
        "no action at the end", V21, emptied("action", 3, slice(-2, None)), "last 2 rows left out", rows={3: (0, 23)}
    ),
    Stranger(
        "no state at the end, v3", V3, emptied("observation.state", 2, slice(-1, None)), "last row", rows={2: (0, 29)}
    ),
    Stranger("no action in the middle", V21, emptied("action", 3, slice(4, 6)), "", dropped=(3,)),
    Stranger("no task", V21, emptied("task_index", 2, slice(3, 4)), "task", planned=True),
    Stranger("no time", V21, emptied("timestamp", 2, slice(3, 4)), "Episode 2: time stamps", planned=True),
    Stranger(
        "one row too many",
        V21,
        lambda root: [shortened(camera, 1, *range(4))(root) for camera in ("front", "wrist")] and None,
        "Episodes 0-3: the last row left out",
        rows={episode: (0, length - 1) for episode, length in enumerate(LENGTHS)},
    ),
    Stranger(
        "three rows too many",
        V21,
        shortened("front", 3, 2),
        "Episode 2: the last 3 rows",
        rows={2: (0, 27)},
        planned=True,
    ),
    Stranger(
        "videos that begin late",
        V21,
        lambda root: [shortened(camera, -1, 3)(root) for camera in ("front", "wrist")] and None,
        "Episode 3: the first row left out",
        rows={3: (1, 25)},
    ),
    Stranger("a frame too many", V21, longer("wrist", 1, 1), "", planned=True),
    Stranger("another rate", V21, at_rate(9.8), "fps 10 becomes 9.8", fps=9.8),
    Stranger("few key frames", V3, few_key_frames, "codec hevc becomes h264"),
    Stranger("too many splits", V21, lambda root: change_info(root, splits={"train": "0:100"}), "train 0:4"),
    Stranger(
        "splits of other kinds",
        V3,
        lambda root: change_info(root, splits={"train": [0, 1, 2]}),
        "train 0:4",
        planned=True,
    ),
    Stranger(
        "names of openpi",
        V3,
        renamed({"observation.state": "state", "action": "actions", "observation.images.front": "image"}),
        "Feature 'actions' is called 'action'",
    ),
    Stranger("tasks as plain columns", V3, tasks_as_pandas_left_them, "meta/tasks.parquet"),
    Stranger("another size declared", V21, declared_size, "declared 64x48, as its videos are"),
    Stranger(
        "another shape declared",
        V21,
        lambda root: change_features(root, lambda features: features["action"].update(shape=[6], names=None)),
        "'action' is declared with shape [3]",
    ),
    Stranger("stray files", V21, stray_table, "extra_000017.parquet"),
    Stranger("a recording inside", V3, nested, "backup/ is a dataset of its own"),
]
