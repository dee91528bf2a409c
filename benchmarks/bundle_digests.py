"""What digests cost: comparing those of a bundle beside loading it, an engine's cache beside opening it, cached blocks.

    uv run python benchmarks/bundle_digests.py [--turns 5] [--narrow] [--engine] [--folder DIR]

A random policy of 450 million weights in float32 (1.8 GB with the unused language head; `--narrow`: 25 million) is
saved once. Each turn is a process of its own, which loads without digests, compares them alone, and loads with them
(they are computed beside the loading), after a load that nobody measures. The files are in the page cache for all,
which is the worst case: from a disk, what is read for the digests need not be read again. `--engine` does the same for
the graphs of the OpenVINO engine. Blocks of a frame cache are read at random, kept open or opened anew for every read.
Medians; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smolpilot.common.statistics import Statistics

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from startup import machine

from smolpilot.common import hashing
from smolpilot.common.hashing import folder_differences
from smolpilot.common.keys import ACTION, STATE
from smolpilot.smolvla import Policy, SmolVLA, Transforms, TransformsConfig, load_policy, save_bundle
from smolpilot.smolvla.checkpoint.sealing import check_digests
from smolpilot.smolvla.config import PolicyConfig, TextConfig, VisionConfig, VLMConfig
from smolpilot.smolvla.config.presets import preset
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_tokenizer
from smolpilot.training.cache.block_store import BlockStore

CPU = torch.device("cpu")
NARROW = VLMConfig(
    vision=VisionConfig(width=192, layers=6, heads=3, mlp_width=768),
    text=TextConfig(width=384, heads=6, kv_heads=2, mlp_width=1024),
)
BLOCKS, ROWS, ROW_BYTES, READS = 64, 32, 1 << 19, 1024  # rows as those of two cameras in `--cache vision`


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def with_processor(what: str, call: Callable[[], Any]) -> dict[str, float]:
    """Seconds of a call, by the clock and of the processor: the second says more on a machine with other work."""
    begin = time.process_time()
    seconds, _ = timed(call)
    return {what: seconds, f"{what}, processor": time.process_time() - begin}


def make_bundle(folder: Path, vlm: VLMConfig) -> int:
    """A random policy for two cameras and six joints; its weights in bytes."""
    shapes = dict.fromkeys(("front", "wrist"), (3, 480, 640))
    config: PolicyConfig = preset("smolvla", image_shapes=shapes, state_dim=6, action_dim=6, vlm=vlm)
    model = SmolVLA(config)
    model.initialize(torch.Generator().manual_seed(0))
    values = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
    numbers: Statistics = {key: {name: np.full(6, value) for name, value in values.items()} for key in (STATE, ACTION)}
    transforms = Transforms(
        TransformsConfig(config, numbers, byte_level_tokenizer(vlm), {slot: slot for slot in config.real_cameras})
    )
    save_bundle(Policy(model, transforms), folder)
    return (folder / "model.safetensors").stat().st_size


def measure_bundle(folder: Path, turn: int) -> dict[str, float]:
    """Seconds of comparing and of loading. What a process loads first takes longer: the order changes by turns."""
    load_policy(folder, device="cpu", compare_digests=False)
    loads: dict[str, Callable[[], Any]] = {
        "loading without": lambda: load_policy(folder, device="cpu", compare_digests=False),
        "loading": lambda: load_policy(folder, device="cpu"),
    }
    found: dict[str, float] = {}
    for what in list(loads)[:: -1 if turn % 2 else 1]:
        hashing._known.cache_clear()
        found |= with_processor(what, loads[what])
    hashing._known.cache_clear()
    return found | with_processor("digests alone", lambda: check_digests(folder))


def measure_engine(folder: Path, cache: Path) -> dict[str, float]:
    """The same for the cached graphs of an engine; the first call writes them."""
    from smolpilot.inference import prepare
    from smolpilot.inference.backends.backend import EngineSpec
    from smolpilot.inference.backends.onnx_network import GraphNetwork

    made = prepare(folder, engine="fast", backend="openvino", device="cpu", check=False, warm_up=False, cache_dir=cache)
    spec: EngineSpec = made.settings
    made.stop()
    graphs = spec.folder / "graphs"
    compared, _ = timed(lambda: folder_differences(graphs))  # known from `prepare`: measured by the other process
    opened, _ = timed(lambda: GraphNetwork(graphs, spec, "openvino"))
    return {"digests": compared, "loading": opened}


def measure_blocks(folder: Path) -> dict[str, float]:
    """Microseconds for a row of a random block: maps that stay, and a map made for every read."""
    written = BlockStore(folder, (ROW_BYTES,), torch.uint8)
    names = [f"{number:032x}" for number in range(BLOCKS)]
    for number, name in enumerate(names):
        written.write(name, torch.full((ROWS, ROW_BYTES), number, dtype=torch.uint8))
    rng = np.random.default_rng(0)
    places = rng.integers(0, (BLOCKS, ROWS), (READS, 2))
    found = {}
    for what, maps in (("kept", BLOCKS), ("opened anew", 1)):
        store = BlockStore(folder, (ROW_BYTES,), torch.uint8, maps=maps)
        for name in names:
            store.read(name, ROWS)

        def read(store: BlockStore = store) -> None:
            for block, row in places:
                values = store.read(names[block], ROWS)
                assert values is not None
                values[row].clone()

        found[what] = min(timed(read)[0] for _ in range(3)) / READS * 1e6
    return found


def process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--narrow", action="store_true", help="25 million weights")
    parser.add_argument("--engine", action="store_true", help="the cache of the OpenVINO engine, too")
    parser.add_argument("--folder", type=Path, help="where the bundle is kept while it is measured")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, *paths = options.one
        if kind == "bundle":
            print(json.dumps(measure_bundle(Path(paths[0]), int(paths[1]))))
        else:
            print(json.dumps(measure_engine(*map(Path, paths))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="smolpilot-digests-") as name:
        folder = Path(name)
        size = make_bundle(folder / "bundle", NARROW if options.narrow else VLMConfig())
        results: dict[str, Any] = {"machine": machine(), "weights_mb": round(size / 1e6)}
        turns = [process("--one", "bundle", str(folder / "bundle"), str(turn)) for turn in range(options.turns)]
        results["bundle_seconds"] = medians(turns)
        found = results["bundle_seconds"]
        results["added_by_the_clock"] = found["loading"] / found["loading without"] - 1
        results["added_processor"] = found["digests alone, processor"] / found["loading without, processor"]
        if options.engine:
            process("--one", "engine", str(folder / "bundle"), str(folder / "cache"))
            (graphs,) = (folder / "cache").glob("*/graphs")
            compared = [timed(lambda: folder_differences(graphs))[0]]
            opened = [process("--one", "engine", str(folder / "bundle"), str(folder / "cache"))]
            results["engine_seconds"] = {"digests": compared[0], "loading": opened[0]["loading"]}
            results["engine_ratio"] = compared[0] / opened[0]["loading"]
        results["block_microseconds"] = measure_blocks(folder / "blocks")
        kept, anew = results["block_microseconds"].values()
        results["block_ratio"] = anew / kept
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
