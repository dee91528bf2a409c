"""`smolpilot bench POLICY`: milliseconds per chunk, by engine and beside other policies, and what they mean."""

from __future__ import annotations

from typing import Any

from smolpilot.common.progress import progress_bar
from smolpilot.common.streams import results_apart
from smolpilot.common.text import json_text, pluralize
from smolpilot.evaluation.timing.bench_options import BenchOptions

from .parsing.tables import table
from .parsing.verbs import Verb

_UNKNOWN = "-"


def run(options: BenchOptions) -> int:
    """Measure; 0 when everything was measured, however slow, 1 for a policy that predicts NaN."""
    from smolpilot.evaluation.timing.bench import bench
    from smolpilot.smolvla.transforms.camera_slots import camera_text

    with results_apart(options.json), progress_bar() as progress:
        document = bench(options, progress=progress)
    if options.json:
        print(json_text(document))
    else:
        if document["camera_map"]:
            print(f"cameras: {camera_text(document['camera_map'])}")
        print_table(document)
    return 0 if all(row["finite"] for row in document["rows"]) else 1


def print_table(document: dict[str, Any]) -> None:
    """The document of `evaluation.bench` for a person."""
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    console.print(_head(document), soft_wrap=True)
    numbers = ("p50 ms", "p95 ms", "net p50", "net p95", "MB", "faster")
    table_of_rows = table("engine", "computes in", *numbers, numbers=numbers)
    words = [word for row in document["rows"] for word in row["name"].split()]
    table_of_rows.columns[0].min_width = min(20, max(map(len, words), default=1))
    for row in document["rows"]:
        times = (row[key] for key in ("total_p50_ms", "total_p95_ms", "network_p50_ms", "network_p95_ms"))
        faster = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        memory = _UNKNOWN if row["memory_mb"] is None else f"{row['memory_mb']:,.0f}"
        table_of_rows.add_row(row["name"], row["precision"], *map(_milliseconds, times), memory, faster)
    console.print(table_of_rows)
    console.print("net: without the transforms between robot units and the network.")
    if document["reference"]:
        console.print(f"faster: times faster than {document['reference']}, in the same run.")
    for row in document["rows"]:
        said = [part for part in (_difference(row), row["verdict"]) if part]
        if said:
            console.print(f"{row['name']}: {'; '.join(said)}", soft_wrap=True)
        if row["note"]:
            console.print(f"warning: {row['note']}", style="yellow", soft_wrap=True)


def _head(document: dict[str, Any]) -> str:
    """The machine, the policy and how it was measured, in one line."""
    facts, tokens, cameras = document["machine"], document["tokens"], document["cameras"]
    used = pluralize(len(cameras["used"]), "camera")
    repeats = f"{pluralize(document['repeats'], 'chunk')} each after {document['warm_up']} to warm up"
    parts = [
        f"{facts['device']} ({facts['processor']}), torch {facts['torch']}",
        f"{document['parameters'] / 1e6:.1f} M parameters" if document["parameters"] else "",
        f"{used} in {len(cameras['slots'])} slots" if tokens else used,
        f"{tokens['images']} image, {tokens['instruction']} word and 1 state token" if tokens else "",
        f"{document['denoising_steps']} denoising steps" if document["denoising_steps"] else "",
        f"{repeats}, {document['frames']} frames",
    ]
    return "; ".join(filter(None, parts))


def _milliseconds(time: float | None) -> str:
    if time is None:
        return _UNKNOWN
    return f"{time:,.1f}" if time < 1000 else f"{time:,.0f}"


def _difference(row: dict[str, Any]) -> str:
    if row["sigma"] is None:
        return ""
    if row["sigma"] == 0:
        return "equal to the plain network in every bit"
    return f"differs from plain by at most {row['difference']:.2g} ({row['joint']}), {row['sigma']:.1g} sigma"


VERB = Verb(BenchOptions, run)
