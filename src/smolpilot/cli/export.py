"""`smolpilot export BUNDLE --to onnx --out DIR`: a policy as files that run without torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import AtLeastOne, Batch, Flag, Pairs
from smolpilot.common.progress import progress_bar
from smolpilot.common.text import json_text

from .parsing.tables import table
from .parsing.verbs import Verb


@dataclass(kw_only=True)
class ExportOptions:
    """Write a policy as ONNX graphs with its transforms, its tokenizer, an example and a parity report.

    The folder needs onnxruntime, numpy and tokenizers to run, nothing else: `python DIR/example.py`.
    """

    bundle: tyro.conf.Positional[str]
    """Bundle, checkpoint or run folder, or hub id."""
    out: Path
    """New folder; it must not exist."""
    to: Literal["onnx"] = "onnx"
    """Format. TensorRT and OpenVINO read it, too (docs/export.md)."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Precision of the matrix products. fp16 is for GPUs; int8 for CPUs with 8-bit dot products, and needs
    --dataset."""
    dataset: Path | None = None
    """Dataset whose frames parity is measured on and int8 is calibrated with. Default: made-up frames."""
    camera_map: Pairs = field(default_factory=dict)
    """Which camera of the robot (and of the dataset) fills which camera slot, as `top=camera1`; `side=none` leaves one
    out. Default: the policy's own map and equal names."""
    frames: Batch = 8
    """Frames for the parity report."""
    calibration_frames: Batch = 32
    """Frames for the calibration of int8."""
    num_steps: AtLeastOne | None = None
    """Denoising steps. Default: the policy's own."""
    policy_stats_from: Path | None = None
    """Dataset whose statistics replace the policy's own."""
    tokenizer: Path | None = None
    """Folder with the tokenizer, where the checkpoint has none."""
    json: Flag = False
    """Print one JSON document."""


def run(options: ExportOptions) -> None:
    """Write the folder."""
    if options.precision == "int8" and options.dataset is None:
        raise UsageError(
            "--precision int8 is calibrated on recorded frames.", fix="name a dataset of this robot: --dataset DIR"
        )
    from smolpilot.common.atomic import refuse_existing
    from smolpilot.contracts import Embodiment
    from smolpilot.datasets import read_meta
    from smolpilot.evaluation.offline.policy_frames import recorded_frames
    from smolpilot.inference.example_frame import example_frame
    from smolpilot.inference.export.exporting import export_policy
    from smolpilot.smolvla import load_policy
    from smolpilot.smolvla.transforms.camera_slots import camera_text, pair_embodiment, typed_camera_map

    refuse_existing(options.out)
    policy = load_policy(
        options.bundle,
        device="cpu",
        dtype="float32",
        stats_from=options.policy_stats_from,
        tokenizer_dir=options.tokenizer,
    )
    if options.num_steps is not None:
        policy.num_steps = options.num_steps
    given = typed_camera_map(options.camera_map)
    if options.dataset is not None or given:
        dataset = None
        if options.dataset is not None:
            dataset = Embodiment("the dataset", tuple(read_meta(options.dataset).camera_names))
        paired = pair_embodiment(policy.config.real_cameras, dataset, given, policy.transforms_config.camera_map)
        policy.use_cameras(paired)
        for said in (*paired.notes, *paired.warnings):
            print(f"cameras: {said}", file=sys.stderr)
    if options.dataset is None:
        frames, calibration = [example_frame(policy.transforms_config, seed) for seed in range(options.frames)], []
    else:
        frames = recorded_frames(policy, options.dataset, options.frames)
        count = options.calibration_frames if options.precision == "int8" else 0
        calibration = recorded_frames(policy, options.dataset, count, beside=options.frames) if count else []
    with progress_bar() as progress:
        document = export_policy(
            policy,
            options.out,
            frames,
            precision=options.precision,
            calibration=calibration,
            frames_are="made up" if options.dataset is None else "recorded",
            progress=progress,
        )
    if options.json:
        print(json_text(document))
    else:
        print(f"cameras: {camera_text(policy.transforms_config.camera_map)}")
        _print(document)


def _print(document: dict[str, Any]) -> None:
    from smolpilot.common.terminal import Terminal

    console = Terminal()
    size = sum(document["bytes"].values()) / 1e6
    console.print(f"{document['out']}: {document['precision']}, {size:,.0f} MB", soft_wrap=True)
    title = f"Difference from the plain network, {document['frames']} {document['frames_are']} frames"
    rows = table("joint", "max", "mean", numbers=("max", "mean"), title=title)
    for joint in document["joints"]:
        name = f"{joint['name']} ({joint['unit']})"
        rows.add_row(name, f"{joint['max']:.2g}", f"{joint['mean']:.2g}")
    console.print(rows)
    console.print(
        f"cosine {document['cosine']:.8f}; largest difference {document['sigma']:.2g} standard deviations of the "
        "recorded actions"
    )
    if document["frames_are"] == "made up":
        console.print("warning: measured on made-up frames; --dataset DIR measures on recorded ones", style="yellow")
    console.print(f"run it: python {Path(document['out']) / 'example.py'}", soft_wrap=True)


VERB = Verb(ExportOptions, run)
