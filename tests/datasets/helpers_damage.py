"""More than forty ways in which recordings break, each with the code that names it and the episode it hits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .helpers_recordings import Edit, Take, takes, write_lines, write_v3, write_v21, write_video

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@dataclass(frozen=True)
class Damage:
    """`layout` v3 or v21; `code` that check must report for `episode` (None: for the dataset); `repairable` with the
    episodes that a repair drops, and (episode, rows) of those that it shortens.
    `edit` spoils the demonstrations before writing, `spoil` the written folder."""

    name: str
    layout: str
    code: str
    episode: int | None = None
    spoil: Callable[[Path], object] | None = None
    edit: Edit | None = None
    repairable: bool = True
    dropped: tuple[int, ...] = ()
    shorter: tuple[tuple[int, int], ...] = ()


def damaged(damage: Damage, sound: dict[str, Path], path: Path) -> Path:
    """A copy of the sound recording with this damage."""
    if damage.edit is not None:
        write = write_v3 if damage.layout == "v3" else write_v21
        write(path, takes(damage.edit))
    else:
        shutil.copytree(sound[damage.layout], path)
    if damage.spoil is not None:
        damage.spoil(path)
    return path


def table_v3(root: Path) -> Path:
    return root / "data" / "chunk-000" / "file-000.parquet"


def video_v3(root: Path, file: int = 0, camera: str = "front") -> Path:
    return root / "videos" / f"observation.images.{camera}" / "chunk-000" / f"file-{file:03d}.mp4"


def episodes_v3(root: Path) -> Path:
    return root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"


def table_v21(root: Path, episode: int) -> Path:
    return root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet"


def video_v21(root: Path, episode: int, camera: str = "front") -> Path:
    return root / "videos" / "chunk-000" / f"observation.images.{camera}" / f"episode_{episode:06d}.mp4"


def change_info(root: Path, **values: Any) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    for key, value in values.items():
        if value is ...:
            del info[key]
        else:
            info[key] = value
    path.write_text(json.dumps(info))


def change_features(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info["features"])
    path.write_text(json.dumps(info))


def change_table(path: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    """Edit a table's columns as lists; a removed column goes, a new one is guessed."""
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    types = {name: table.schema.field(name).type for name in table.column_names}
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays).replace_schema_metadata(table.schema.metadata), path)


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def rows_of(columns: dict[str, list[Any]], episode: int) -> list[int]:
    return [i for i, value in enumerate(columns["episode_index"]) if value == episode]


def wall_clock(columns: dict[str, list[Any]], rows: list[int]) -> None:
    """Up to two seconds late, unevenly, as a loop that waits for a slow camera records it."""
    late = np.cumsum(np.random.default_rng(0).uniform(0, 4.0 / len(rows), len(rows)))
    for i, row in enumerate(rows):
        columns["timestamp"][row] += float(late[i])


def change_lines(root: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = root / "meta" / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    write_lines(path, rows)


def faststart(path: Path, keep: float) -> None:
    """Move the index of an mp4 to its front, then cut off its end: it opens, and ends too early."""
    moved = path.with_suffix(".moved.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)
    cut(path, keep)


def exchange(one: Path, other: Path) -> None:
    third = one.with_suffix(".third")
    one.rename(third)
    other.rename(one)
    third.rename(other)


def set_v3(column: str, row: int, value: Any) -> Callable[[Path], object]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[column][row] = value

    return lambda root: change_table(episodes_v3(root), change)


def in_v3(change: Callable[[dict[str, list[Any]]], object]) -> Callable[[Path], object]:
    return lambda root: change_table(table_v3(root), change)


def in_v21(episode: int, change: Callable[[dict[str, list[Any]]], object]) -> Callable[[Path], object]:
    return lambda root: change_table(table_v21(root, episode), change)


def duplicated_rows(columns: dict[str, list[Any]]) -> None:
    last = rows_of(columns, 4)[3]
    for values in columns.values():
        values[last + 1 : last + 1] = values[last - 1 : last + 1]


def swapped_spans(columns: dict[str, list[Any]]) -> None:
    for end in ("from", "to"):
        values = columns[f"videos/observation.images.front/{end}_timestamp"]
        values[0], values[1] = values[1], values[0]


def drop(name: str) -> Callable[[dict[str, list[Any]]], object]:
    return lambda columns: columns.pop(name) and None


def put(name: str, place: int, value: Any) -> Callable[[dict[str, list[Any]]], object]:
    def change(columns: dict[str, list[Any]]) -> None:
        columns[name][place] = value

    return change


def not_a_number(columns: dict[str, list[Any]]) -> None:
    columns["observation.state"][rows_of(columns, 2)[5]][1] = float("nan")


def task_gap(root: Path) -> None:
    change_lines(root, "tasks.jsonl", lambda rows: rows[1].update(task_index=7))
    for episode in (1, 3, 5):
        change_table(table_v21(root, episode), lambda columns: columns.update(task_index=[7] * len(columns["index"])))


def other_codec(root: Path) -> None:
    write_video(video_v21(root, 3), takes()[3].pictures["front"], codec="av1")


def shorter(root: Path) -> None:
    write_video(video_v21(root, 2), takes()[2].pictures["front"][:-3])


def longer(root: Path) -> None:
    pictures = takes()[2].pictures["front"]
    write_video(video_v21(root, 2), np.concatenate([pictures, pictures[:3]]))


def other_size(root: Path) -> None:
    write_video(video_v21(root, 1), takes()[1].pictures["front"][:, :32, :48].copy())


def moved_files(root: Path) -> None:
    """Folder names and file names of somebody's own, as a v2.1 recorder of 2024 wrote them."""
    (root / "tables").mkdir()
    for episode in range(6):
        table_v21(root, episode).rename(root / "tables" / f"ep{episode}.parquet")
        for camera in ("front", "wrist"):
            path = root / "films" / camera / f"take-{episode}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            video_v21(root, episode, camera).rename(path)
    shutil.rmtree(root / "data")
    shutil.rmtree(root / "videos")


def bare_tables(root: Path) -> None:
    """No running numbers, no per-episode statistics, a pattern of its own: a public recording is like this."""
    for episode in range(6):
        for name in ("index", "task_index"):
            change_table(table_v21(root, episode), drop(name))
    (root / "meta" / "episodes_stats.jsonl").unlink()


def as_double(root: Path) -> None:
    path = table_v21(root, 2)
    table = pq.read_table(path)
    values = table["action"].cast(pa.list_(pa.float64()))
    pq.write_table(table.set_column(table.column_names.index("action"), "action", values), path)


# Spoiled demonstrations: the folder is sound, what it shows is not.


def black(made: list[Take]) -> None:
    made[3].pictures["wrist"][:] = 0


def blackout(made: list[Take]) -> None:
    made[2].pictures["front"][10:16] = 0


def frozen(made: list[Take]) -> None:
    made[1].pictures["front"][4:] = made[1].pictures["front"][4]


def flash(made: list[Take]) -> None:
    made[4].pictures["front"][12:] = np.minimum(made[4].pictures["front"][12:].astype(int) + 70, 255).astype(np.uint8)


def dead_joint(made: list[Take]) -> None:
    made[2].state[:, 1] = made[2].state[0, 1]


def waiting(head: bool) -> Edit:
    def edit(made: list[Take]) -> None:
        take = made[1]
        still = 25
        place = 0 if head else -1
        for name in ("state", "action"):
            values = getattr(take, name)
            extra = np.repeat(values[place][None], still, axis=0)
            setattr(take, name, np.concatenate([extra, values] if head else [values, extra]))
        for camera, pictures in take.pictures.items():
            extra = np.repeat(pictures[place][None], still, axis=0)
            take.pictures[camera] = np.concatenate([extra, pictures] if head else [pictures, extra])

    return edit


def same_as_state(made: list[Take]) -> None:
    for take in made:
        take.action = take.state.copy()


def late_actions(made: list[Take]) -> None:
    for take in made:
        take.action = np.concatenate([np.repeat(take.state[:1], 3, axis=0), take.state[:-3]])


def twin(made: list[Take]) -> None:
    made[5] = Take(made[2].state, made[2].action, made[2].pictures, made[2].task)


def spike(made: list[Take]) -> None:
    made[3].action[12, 0] = 25.0


def leap(made: list[Take]) -> None:
    """Half of the way at once, where 99 of 100 steps are small: enough steps to know that."""
    for take in made:
        take.state[:, 0] *= 0.2
        take.action[:, 0] *= 0.2
    made[4].state[13:, 0] += 1.0


def hung_bus(made: list[Take]) -> None:
    made[0].state[6:18] = made[0].state[6]


def instruction(text: str) -> Edit:
    def edit(made: list[Take]) -> None:
        for take in made[1::2]:
            take.task = text

    return edit


def no_text(root: Path) -> None:
    change_lines(root, "tasks.jsonl", lambda rows: rows[1].update(task=""))
    change_lines(root, "episodes.jsonl", lambda rows: [row.update(tasks=[""]) for row in rows[1::2]] and None)


def wrong_statistics(root: Path) -> None:
    change_lines(root, "episodes_stats.jsonl", lambda rows: rows[3]["stats"]["action"].update(mean=[5.0, 5.0, 5.0]))


def wrong_whole_statistics(root: Path) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats["observation.state"]["std"] = [9.0, 9.0, 9.0]
    path.write_text(json.dumps(stats))


def no_numbers(root: Path) -> None:
    path = root / "meta" / "stats.json"
    stats = json.loads(path.read_text())
    stats["action"]["max"][0] = float("nan")
    path.write_text(json.dumps(stats))


def torn_line(root: Path) -> None:
    path = root / "meta" / "episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1][:20]]))


def doubled_line(root: Path) -> None:
    change_lines(root, "episodes.jsonl", lambda rows: rows.append(dict(rows[2])))


V3, V21 = "v3", "v21"

DAMAGES = [
    Damage("torn data file", V21, "parquet-torn", 2, lambda root: cut(table_v21(root, 2), 0.6), dropped=(2,)),
    Damage("torn data file of all episodes", V3, "parquet-torn", 4, lambda r: cut(table_v3(r), 0.9), repairable=False),
    Damage("truncated mp4", V21, "video-torn", 4, lambda root: cut(video_v21(root, 4), 0.7), dropped=(4,)),
    Damage(
        "truncated mp4 of several episodes", V3, "video-torn", 1, lambda r: cut(video_v3(r), 0.7), dropped=(0, 1, 2)
    ),
    Damage(
        "mp4 with its index, cut", V21, "video-undecodable", 3, lambda r: faststart(video_v21(r, 3), 0.6), dropped=(3,)
    ),
    Damage("missing data file", V21, "file-missing", 1, lambda root: table_v21(root, 1).unlink(), dropped=(1,)),
    Damage("missing video", V21, "file-missing", 5, lambda root: video_v21(root, 5).unlink(), dropped=(5,)),
    Damage(
        "missing video of several episodes", V3, "file-missing", 3, lambda r: video_v3(r, 1).unlink(), dropped=(3, 4, 5)
    ),
    Damage("empty video", V21, "file-empty", 0, lambda root: video_v21(root, 0).write_bytes(b""), dropped=(0,)),
    Damage("pointer for a video", V21, "lfs-pointer", 3, lambda r: video_v21(r, 3).write_bytes(POINTER), dropped=(3,)),
    Damage("pointer for a table", V21, "lfs-pointer", 2, lambda r: table_v21(r, 2).write_bytes(POINTER), dropped=(2,)),
    Damage("pointer for info", V3, "lfs-pointer", None, lambda r: (r / "meta" / "info.json").write_bytes(POINTER)),
    Damage("info torn", V21, "info-damaged", None, lambda root: cut(root / "meta" / "info.json", 0.5)),
    Damage("info missing", V3, "info-damaged", None, lambda root: (root / "meta" / "info.json").unlink()),
    Damage("no features", V21, "features-damaged", None, lambda root: change_info(root, features=...)),
    Damage("unknown version", V21, "version-unknown", None, lambda root: change_info(root, codebase_version="v7.3")),
    Damage("version of another layout", V3, "version-unknown", None, lambda r: change_info(r, codebase_version="v2.1")),
    Damage("no fps", V3, "fps-invalid", None, lambda root: change_info(root, fps=None)),
    Damage("wrong fps", V3, "fps-mismatch", None, lambda root: change_info(root, fps=25)),
    Damage("wrong fps, v2.1", V21, "fps-mismatch", None, lambda root: change_info(root, fps=30)),
    Damage(
        "pattern out of the folder",
        V21,
        "template-unusable",
        None,
        lambda r: change_info(r, data_path="../{episode_index}"),
    ),
    Damage("no video pattern", V3, "template-unusable", None, lambda root: change_info(root, video_path=None)),
    Damage("own folder names", V21, "path-unusual", None, moved_files),
    Damage("wrong totals", V21, "totals-wrong", None, lambda root: change_info(root, total_frames=99)),
    Damage("wrong totals, v3", V3, "totals-wrong", None, lambda root: change_info(root, total_episodes=50)),
    Damage("wrong length", V3, "episode-length", 2, set_v3("length", 2, 22)),
    Damage(
        "wrong length, v2.1",
        V21,
        "episode-length",
        4,
        lambda r: change_lines(r, "episodes.jsonl", lambda x: x[4].update(length=99)),
    ),
    Damage("wrong range of rows", V3, "episode-span", 3, set_v3("dataset_from_index", 3, 5)),
    Damage("wrong index", V3, "index-wrong", 0, in_v3(put("index", 7, 4000))),
    Damage("wrong episode index", V21, "episode-index-wrong", 3, in_v21(3, lambda c: c.update(episode_index=[1] * 30))),
    Damage("frames out of order", V21, "frame-index-wrong", 2, in_v21(2, lambda c: c["frame_index"].reverse())),
    Damage("duplicated rows", V3, "rows-duplicated", 4, in_v3(duplicated_rows)),
    Damage("no columns index and task_index", V21, "column-missing", None, bare_tables),
    Damage("no column timestamp", V21, "column-missing", 1, in_v21(1, drop("timestamp"))),
    Damage("empty cells", V21, "column-empty", 3, in_v21(3, put("action", 4, None)), dropped=(3,)),
    Damage("rows of different widths", V21, "column-shape", 4, in_v21(4, put("action", 6, [1.0])), dropped=(4,)),
    Damage("another type", V21, "column-type", 2, as_double),
    Damage("task index without text", V21, "task-unknown", 1, in_v21(1, put("task_index", 3, 9))),
    Damage("tasks with gaps", V21, "task-gaps", None, task_gap),
    Damage("torn episode list", V21, "episode-unlisted", 5, torn_line),
    Damage("no episode list", V21, "meta-damaged", None, lambda root: (root / "meta" / "episodes.jsonl").unlink()),
    Damage("no episode table", V3, "meta-damaged", None, lambda root: shutil.rmtree(root / "meta" / "episodes")),
    Damage("no task list", V21, "meta-damaged", None, lambda root: (root / "meta" / "tasks.jsonl").unlink()),
    Damage("torn task table", V3, "meta-damaged", None, lambda root: cut(root / "meta" / "tasks.parquet", 0.5)),
    Damage("episode listed twice", V21, "episode-duplicate", 2, doubled_line),
    Damage(
        "time stamps of a wall clock",
        V21,
        "timestamp-off-video",
        1,
        in_v21(1, lambda c: wall_clock(c, list(range(27)))),
    ),
    Damage(
        "time stamps of a wall clock, v3", V3, "timestamp-off-grid", 2, in_v3(lambda c: wall_clock(c, rows_of(c, 2)))
    ),
    Damage(
        "time stamps half a frame late",
        V21,
        "timestamp-off-video",
        0,
        in_v21(0, lambda c: c.update(timestamp=[t + 0.05 for t in c["timestamp"]])),
    ),
    Damage("time stamps backwards", V21, "timestamp-backwards", 5, in_v21(5, put("timestamp", 9, 0.1))),
    Damage(
        "swapped videos", V21, "video-swapped", 3, lambda r: exchange(video_v21(r, 3), video_v21(r, 4)), dropped=(3, 4)
    ),
    Damage(
        "swapped videos of equal length",
        V21,
        "video-swapped",
        2,
        lambda root: exchange(video_v21(root, 1), video_v21(root, 2)),
        repairable=False,
    ),
    Damage(
        "swapped places in a video",
        V3,
        "video-swapped",
        1,
        lambda r: change_table(episodes_v3(r), swapped_spans),
    ),
    Damage(
        "swapped cameras",
        V21,
        "video-swapped",
        4,
        lambda r: exchange(video_v21(r, 4), video_v21(r, 4, "wrist")),
        repairable=False,
    ),
    Damage("video too short", V21, "video-short", 2, shorter, shorter=((2, 24),)),
    Damage("video too long", V21, "video-long", 2, longer, repairable=False),
    Damage("mixed codecs", V21, "video-mixed", 3, other_codec, repairable=False),
    Damage("another size", V21, "video-size", 1, other_size, dropped=(1,)),
    Damage(
        "wrong codec declared",
        V21,
        "video-codec",
        None,
        lambda r: change_features(r, lambda f: f["observation.images.front"]["info"].update({"video.codec": "hevc"})),
    ),
    Damage("black camera", V21, "camera-black", 3, edit=black, repairable=False),
    Damage("black for a while", V3, "camera-black", 2, edit=blackout, repairable=False),
    Damage("frozen camera", V3, "camera-frozen", 1, edit=frozen, repairable=False),
    Damage("light switched on", V21, "exposure-jump", 4, edit=flash, repairable=False),
    Damage("wrong statistics of an episode", V21, "statistics-wrong", 3, wrong_statistics),
    Damage("wrong statistics", V3, "statistics-wrong", None, wrong_whole_statistics),
    Damage("statistics that are no numbers", V3, "statistics-damaged", None, no_numbers),
    Damage(
        "no statistics", V21, "statistics-missing", None, lambda root: (root / "meta" / "episodes_stats.jsonl").unlink()
    ),
    Damage("NaN", V3, "not-finite", 2, in_v3(not_a_number), dropped=(2,)),
    Damage("dead joint", V3, "joint-dead", 2, edit=dead_joint, repairable=False),
    Damage("idle head", V21, "idle-head", 1, edit=waiting(True), repairable=False),
    Damage("idle tail", V3, "idle-tail", 1, edit=waiting(False), repairable=False),
    Damage("action equals state", V21, "action-equals-state", None, edit=same_as_state, repairable=False),
    Damage("actions come late", V3, "action-late", None, edit=late_actions, repairable=False),
    Damage("duplicate episode", V21, "episode-duplicated", 5, edit=twin, repairable=False),
    Damage("outlier", V21, "outlier", 3, edit=spike, repairable=False),
    Damage("jump", V3, "jump", 4, edit=leap, repairable=False),
    Damage("hung bus", V21, "state-frozen", 0, edit=hung_bus, repairable=False),
    Damage("empty instruction", V21, "instruction-empty", 1, no_text, repairable=False),
    Damage("placeholder instruction", V3, "instruction-placeholder", 1, edit=instruction("test"), repairable=False),
    Damage(
        "nearly the same instruction",
        V3,
        "instruction-near",
        None,
        edit=instruction("Touch the red block."),
        repairable=False,
    ),
    Damage(
        "long instruction",
        V21,
        "instruction-long",
        1,
        edit=instruction("put the red block away " * 12),
        repairable=False,
    ),
    Damage(
        "untranslated instruction", V21, "instruction-script", 1, edit=instruction("触摸蓝色方块"), repairable=False
    ),
    Damage(
        "joint names nested",
        V21,
        "names-nested",
        None,
        lambda r: change_features(r, lambda f: f["action"].update(names=[["pan", "lift", "gripper"]])),
    ),
    Damage(
        "joint names null",
        V21,
        "names-missing",
        None,
        lambda r: change_features(r, lambda f: f["action"].update(names=None)),
    ),
]
