"""Whole samples per second: smolpilot's reader beside LeRobotDataset's two backends, on the same v3.0 folders.

A sample is what a training step needs: all cameras as float32, state, a chunk of 50 actions, instruction. Recordings
are 480x640 in AV1 with a key frame every second frame (LeRobot's settings), one and two cameras, made up anew or given.
Contenders take turns in short bursts, so that other work on the machine meets them alike; rates and ratios are medians
over the rounds, with the smallest and largest ratio beside them. Before that, samples are compared for equality.

"raw decoding" is libdav1d alone (through PyAV, packets in memory, one thread, frames thrown away) on the frames that
the same order asks for: no reader that decodes them with this decoder can take less. It assumes that each camera's
video is one file without B-frames.

`python benchmarks/dataset_reader.py [--samples 48] [--rounds 5] [--path V3_FOLDER …]` (needs the `test` dependency
group; torchcodec also needs FFmpeg's shared libraries, e.g. `apt-get install ffmpeg`, and is left out without them).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from dataset_convert import scene, view
from torch.utils.data import BatchSampler, DataLoader, Subset

os.environ["HF_HUB_OFFLINE"] = "1"
FPS, CHUNK, EPISODES, LENGTH, BATCH, WORKERS, WINDOW = 30, 50, 4, 90, 8, 2, 64

type Burst = Callable[[np.random.Generator], float]


def record(path: Path, cameras: list[str]) -> None:
    """Cameras that stand still, something that moves: 17 kB per key frame, as of a real robot."""
    from smolpilot.datasets import DatasetWriter

    picture = scene()
    sizes = dict.fromkeys(cameras, (480, 640))
    with DatasetWriter(
        path, fps=FPS, state_names=list("abcdef"), action_names=list("abcdef"), cameras=sizes, codec="av1"
    ) as writer:
        for episode in range(EPISODES):
            for number in range(LENGTH):
                frame: dict[str, Any] = {
                    "observation.state": np.full(6, number),
                    "action": np.full(6, number),
                    "task": "push",
                }
                for k, camera in enumerate(cameras):
                    seen = view(picture[120 * episode :], k, number, 480, 640)
                    frame[f"observation.images.{camera}"] = seen
                writer.add_frame(frame)
            writer.end_episode()


def their_datasets(path: Path) -> dict[str, Any]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / FPS for step in range(CHUNK)]}
    found = {}
    for backend in ("pyav", "torchcodec"):
        dataset = LeRobotDataset("benchmark/reader", root=path, video_backend=backend, delta_timestamps=deltas)
        try:
            dataset[0]
        except (ImportError, RuntimeError) as error:
            print(f"{backend} is left out: {str(error).splitlines()[0]}")
            continue
        found[f"LeRobot {backend}"] = dataset
    return found


def require_equal(ours: Any, theirs: dict[str, Any]) -> None:
    for name, dataset in theirs.items():
        for i in (0, 77, len(ours) - 1):
            expected, found = dataset[i], ours[i]
            assert set(expected) == set(found)
            for key, value in expected.items():
                same = found[key] == value if isinstance(value, str) else torch.equal(found[key], value)
                assert same, f"{name}: sample {i}, {key}"
    print(f"samples are equal, bit for bit: smolpilot, {', '.join(theirs)}")


def rate_of(batches: Iterator[Any], samples: int, warm: int) -> float:
    """Samples per second of batches, after the first `warm` ones."""
    for _ in range(warm):
        next(batches)
    done, start = 0, time.perf_counter()
    for batch in batches:
        done += len(batch["task"])
        if done >= samples:
            break
    return done / (time.perf_counter() - start)


def one_by_one(dataset: Any, samples: int) -> Burst:
    def burst(generator: np.random.Generator) -> float:
        order = generator.permutation(len(dataset))[:samples].tolist()
        start = time.perf_counter()
        for i in order:
            dataset[i]
        return samples / (time.perf_counter() - start)

    return burst


def with_workers(dataset: Any, samples: int, mode: str = "standard") -> Burst:
    from lerobot.datasets import video_utils

    from smolpilot.datasets import SampleOrder

    def burst(generator: np.random.Generator) -> float:
        # torchcodec's decoders do not survive a fork: LeRobot's workers fail when its parent has used them.
        video_utils._default_decoder_cache.clear()
        order = generator.permutation(len(dataset)).tolist()
        if mode == "standard":
            loader = DataLoader(Subset(dataset, order), batch_size=BATCH, num_workers=WORKERS)
        else:
            if mode == "local":
                order = list(SampleOrder(dataset, "local", seed=int(generator.integers(1000)), window=BATCH))
            loader = DataLoader(dataset, batch_size=None, sampler=BatchSampler(order, BATCH, True), num_workers=WORKERS)
        return rate_of(iter(loader), samples * 2, warm=2 * WORKERS)

    return burst


def with_loader(dataset: Any, samples: int, order: Any, images: Any = "float32", workers: int = 0) -> Burst:
    from smolpilot.datasets import Loader

    def burst(generator: np.random.Generator) -> float:
        seed = int(generator.integers(1000))
        loader: Any = Loader(dataset, BATCH, order=order, images=images, seed=seed, window=WINDOW, workers=workers)
        if order == "random":
            return rate_of(iter(loader), samples * 2, warm=2 * max(1, workers))
        # A window counts when it is handed out: measure whole windows, after the first ones.
        warm = max(1, workers)
        return rate_of(iter(loader), (3 if workers else 2) * WINDOW, warm * WINDOW // BATCH)

    return burst


def processor_times(readers: dict[str, Callable[[int], Any]], samples: int, size: int, rounds: int) -> None:
    """Milliseconds of processor time per sample: what is left of the differences on a busy machine."""
    print("\nprocessor time per sample, exact random order, all threads of the process (least of the rounds)")
    least = dict.fromkeys(readers, np.inf)
    for number in range(rounds + 1):
        order = np.random.default_rng(number).permutation(size)[:samples].tolist()
        for name, read in readers.items():
            start = time.process_time()
            for i in order:
                read(i)
            least[name] = min(least[name], (time.process_time() - start) / samples)
    for name, seconds in least.items():
        line = f"  {name:<34}{1000 * seconds:7.2f} ms"
        for peer in least if not name.startswith("LeRobot") else ():
            if peer.startswith("LeRobot"):
                line += f"   {least[peer] / seconds:5.1f}x {peer.split()[1]}"
        print(line, flush=True)


def raw_decoding(dataset: Any) -> Callable[[int], None]:
    """Decode the frames of a sample and throw them away: packets in memory, one thread, one decoder per camera."""
    from smolpilot.datasets.media.video import read_index

    cameras = []
    for camera in dataset.meta.camera_names:
        path = dataset.meta.episodes[0].videos[camera].path
        container = av.open(str(path))
        container.streams.video[0].codec_context.thread_count = 1
        cameras.append((read_index(path), path.read_bytes(), container))

    def decode(position: int) -> None:
        for index, content, container in cameras:
            codec = container.streams.video[0].codec_context
            codec.flush_buffers()
            for number in range(int(index.keyframe[position]), position + 1):
                offset, size = int(index.packets.offset[number]), int(index.packets.size[number])
                codec.decode(av.Packet(content[offset : offset + size]))

    return decode


def contest(title: str, bursts: dict[str, Burst], rounds: int) -> None:
    """Run the bursts in turns; print rates and, for ours, the ratio to each of LeRobot's."""
    rates: dict[str, list[float]] = {name: [] for name in bursts}
    for number in range(rounds + 1):
        for name, burst in bursts.items():
            rate = burst(np.random.default_rng(number))
            if number:  # the first round warms up: indexes are made, files are read into memory
                rates[name].append(rate)
    print(f"\n{title}")
    peers = [name for name in bursts if name.startswith("LeRobot")]
    for name, values in rates.items():
        line = f"  {name:<34}{statistics.median(values):7.1f}/s"
        for peer in peers if name not in peers else ():
            ratios = [a / b for a, b in zip(values, rates[peer], strict=True)]
            line += f"   {statistics.median(ratios):5.1f}x {peer.split()[1]} ({min(ratios):.1f} to {max(ratios):.1f})"
        print(line, flush=True)


def compare(path: Path, samples: int, rounds: int) -> None:
    from smolpilot.datasets import open_dataset

    ours, theirs = open_dataset(path, chunk_size=CHUNK), their_datasets(path)
    cameras = len(ours.meta.camera_names)
    print(f"\n=== {cameras} camera{'s' * (cameras > 1)}, {len(ours)} samples, {os.cpu_count()} cores ===")
    require_equal(ours, theirs)
    contest(
        "in the process: exact random order; local order (each window decoded forwards)",
        {
            **{name: one_by_one(dataset, samples) for name, dataset in theirs.items()},
            "dataset[i]": one_by_one(ours, samples),
            "Loader random": with_loader(ours, samples, "random"),
            "Loader local": with_loader(ours, samples, "local"),
            "Loader local, uint8": with_loader(ours, samples, "local", "uint8"),
        },
        rounds,
    )
    readers = {name: dataset.__getitem__ for name, dataset in theirs.items()}
    readers |= {"dataset[i]": ours.__getitem__, "raw decoding, nothing else": raw_decoding(ours)}
    processor_times(readers, samples, len(ours), rounds)
    contest(
        f"DataLoader, {WORKERS} workers, batches of {BATCH}: exact random order; local order (pairs share a batch)",
        {
            **{name: with_workers(dataset, samples) for name, dataset in theirs.items()},
            "DataLoader": with_workers(ours, samples),
            "DataLoader, lists of indices": with_workers(ours, samples, "lists"),
            "Loader(workers=2)": with_loader(ours, samples, "random", workers=WORKERS),
            "DataLoader, lists, local": with_workers(ours, samples, "local"),
            "Loader(workers=2), local": with_loader(ours, samples, "local", workers=WORKERS),
        },
        rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=48, help="samples per burst")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--path", type=Path, nargs="*", default=[], help="v3.0 folders to read instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = options.path
        if not paths:
            for cameras in (["front"], ["front", "wrist"]):
                paths.append(Path(folder) / f"{len(cameras)}")
                record(paths[-1], cameras)
        for path in paths:
            compare(path, options.samples, options.rounds)


if __name__ == "__main__":
    main()
