"""`smolpilot bench`: milliseconds per chunk by mode, side by side, with the difference to the plain network.

All that is measured takes turns, each time with a frame not seen before, so that neither a busy machine nor a kept
picture favours one. Only real predictions count; warm-up is left out; the device is waited for. See `Row`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from smolpilot.atomic import scratch_folder
from smolpilot.datasets import read_meta
from smolpilot.errors import UsageError
from smolpilot.inference import Engine, prepare
from smolpilot.inference.frames import made_up_frame
from smolpilot.keys import image_key
from smolpilot.policy import Policy, load_policy
from smolpilot.policy.cameras import TYPED, pair_cameras, typed_camera_map
from smolpilot.waiting import working

from .bench_options import BenchOptions
from .machine import machine
from .policy_frames import CALIBRATION_FRAMES, recorded_frames

FORMAT = "smolpilot-bench/1"
WARM_UP = 2
Frame = dict[str, Any]


class Runner(Protocol):
    """Something that makes chunks of frames, one by one."""

    name: str
    load_seconds: float

    @property
    def precision(self) -> str: ...

    @property
    def memory_bytes(self) -> int: ...

    def chunk(self, frame: Frame, noise: Tensor) -> tuple[Tensor, float, float]:
        """The chunk [H, A] in robot units; seconds of all, and of the network alone."""
        ...

    def close(self) -> None: ...


@dataclass
class Row:
    """One line of the table. total: frame in, actions in robot units out; network: without the transforms."""

    name: str
    precision: str
    total_p50_ms: float
    total_p95_ms: float
    network_p50_ms: float
    network_p95_ms: float
    memory_mb: float
    load_s: float
    difference: float | None = None  # largest to the plain network, robot units
    joint: str = ""
    sigma: float | None = None  # the same in standard deviations of the joint's actions
    ratio: float | None = None  # how many times faster than the reference (LeRobot, else plain)
    verdict: str = ""  # against the robot's rate
    stages: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    finite: bool = True  # whether all of its actions are numbers


def bench(options: BenchOptions, progress: Callable[[str, int, int], None] | None = None) -> dict[str, Any]:
    """Measure and return the document that `smolpilot bench` prints."""
    load: dict[str, Any] = {"stats_from": options.stats_from, "tokenizer_dir": options.tokenizer}
    policy = load_policy(options.bundle, device=options.device, **load)
    given = typed_camera_map(options.camera_map)
    if options.dataset is not None or given:
        found = read_meta(options.dataset).camera_names if options.dataset is not None else list(given)
        pair_cameras(policy, found, given, owner="the dataset" if options.dataset is not None else TYPED)
        load["camera_map"] = policy.recipe.camera_map  # engines load the policy again
    chosen = _cameras(policy, options.cameras)
    frames = _frames(policy, options, chosen)
    noise = [_noise(policy, i) for i in range(len(frames))]
    with scratch_folder("bench") as temporary:
        with working("preparing the modes of the engine"):
            runners = _runners(policy, options, chosen, frames, load, temporary)
        try:
            rows = _measure(policy, runners, frames, noise, progress)
        finally:
            for runner in runners:
                runner.close()
    peers = [row for row in rows if row.name.startswith("LeRobot")]
    plain = [row for row in rows if row.name == "plain"]
    reference = min(peers or plain, key=lambda row: row.total_p50_ms, default=None)
    for row in rows:
        row.ratio = reference.total_p50_ms / row.total_p50_ms if reference is not None else None
        row.verdict = verdict(row.total_p95_ms, policy.profile.rate if policy.profile else None, policy.n_action_steps)
    inputs = policy.transforms.inputs([frames[0]])
    return {
        "format": FORMAT,
        "machine": machine(policy.device),
        "bundle": str(options.bundle),
        "parameters": policy.report.parameters,
        "cameras": {"used": chosen, "slots": policy.config.cameras},
        "camera_map": policy.recipe.camera_map,
        "tokens": _tokens(policy, inputs),
        "denoising_steps": options.steps or policy.config.num_steps,
        "chunk_size": policy.config.chunk_size,
        "execution_horizon": policy.n_action_steps,
        "rate": policy.profile.rate if policy.profile else None,
        "repeats": options.repeats,
        "warm_up": WARM_UP,
        "frames": "recorded" if options.dataset else "made up",
        "reference": reference.name if reference is not None else None,
        "rows": [asdict(row) for row in rows],
    }


def verdict(p95_ms: float, rate: float | None, horizon: int) -> str:
    """What a chunk's time means for a robot that is commanded `rate` times a second."""
    if not rate:
        return ""
    period = 1000 / rate
    if p95_ms <= period:
        return f"within one step at {rate:g} Hz"
    steps = int(np.ceil(p95_ms / period))
    if steps < horizon:
        return f"keeps up at {rate:g} Hz beside the control loop: {steps} of {horizon} steps"
    return f"too slow at {rate:g} Hz: {steps} steps for a horizon of {horizon}"


def _measure(
    policy: Policy,
    runners: Sequence[Runner],
    frames: Sequence[Frame],
    noise: Sequence[Tensor],
    progress: Callable[[str, int, int], None] | None,
) -> list[Row]:
    totals: dict[str, list[float]] = {runner.name: [] for runner in runners}
    inner: dict[str, list[float]] = {runner.name: [] for runner in runners}
    chunks: dict[str, list[Tensor]] = {runner.name: [] for runner in runners}
    for turn, (frame, start) in enumerate(zip(frames, noise, strict=True)):
        for runner in runners:
            chunk, total, network = runner.chunk(frame, start)
            chunks[runner.name].append(chunk.float().cpu())
            if turn >= WARM_UP:
                totals[runner.name].append(total * 1e3)
                inner[runner.name].append(network * 1e3)
        if progress is not None:
            progress("chunks", turn + 1, len(frames))
    rows = []
    plain = chunks.get("plain")
    for runner in runners:
        t50, t95 = np.percentile(totals[runner.name], [50, 95])
        n50, n95 = np.percentile(inner[runner.name], [50, 95])
        row = Row(runner.name, runner.precision, float(t50), float(t95), float(n50), float(n95),
                  runner.memory_bytes / 1e6, runner.load_seconds)  # fmt: skip
        if plain is not None and runner.name != "plain":
            row.difference, row.joint, row.sigma = _difference(policy, chunks[runner.name], plain)
        if isinstance(runner, _EngineRunner):
            on_cpu = runner.engine.device.type == "cpu"
            row.stages = runner.engine.report.latency if on_cpu else runner.engine.time_stages(frames[0])
            row.note = runner.engine.report.fallback
            checked = runner.engine.verdict
            if plain is None and checked is not None:
                (row.joint, row.difference), row.sigma = checked.largest, checked.sigma
        if not all(bool(chunk.isfinite().all()) for chunk in chunks[runner.name]):
            row.finite = False
            row.note = "; ".join(filter(None, [row.note, "its actions hold NaN or infinite values: the policy fails"]))
        rows.append(row)
    return rows


def _difference(policy: Policy, ours: list[Tensor], plain: list[Tensor]) -> tuple[float, str, float]:
    """Largest difference in robot units with its joint, and the largest in standard deviations."""
    apart = (torch.stack(ours) - torch.stack(plain)).abs().amax(dim=(0, 1))
    scale = np.maximum(policy.statistics.get("action", {}).get("std", np.ones(len(apart))), 1e-6)
    worst = int((apart / torch.from_numpy(np.asarray(scale)).float()).argmax())
    names = [joint.name for joint in policy.profile.action_joints] if policy.profile else []
    name = names[worst] if worst < len(names) else f"dimension {worst}"
    return float(apart[worst]), name, float(apart[worst]) / float(scale[worst])


def _runners(
    policy: Policy,
    options: BenchOptions,
    cameras: list[str],
    frames: Sequence[Frame],
    load: dict[str, Any],
    temporary: Path,
) -> list[Runner]:
    runners: list[Runner] = []
    if "plain" in options.modes or options.against:
        runners.append(_PlainRunner(policy, options.steps or policy.config.num_steps))
    for mode in options.modes:
        if mode == "plain":
            continue
        begin = time.perf_counter()
        engine = prepare(
            options.bundle,
            mode=mode,
            device=options.device,
            cameras=cameras,
            num_steps=options.steps,
            precision=options.precision if mode == "fast" else "auto",
            backend=options.backend if mode != "exact" else "auto",
            frame=frames[0],
            calibration=_calibration(policy, options, cameras, len(frames)) if mode == "int8" else (),
            # A verdict on made-up frames is for this table alone.
            cache_dir=None if options.dataset else temporary,
            **load,
        )
        runners.append(_EngineRunner(engine, time.perf_counter() - begin))
    if options.against == "lerobot":
        from .lerobot_policy import lerobot_runners

        runners += lerobot_runners(options.bundle, policy, options.steps or policy.config.num_steps, temporary)
    return runners


class _PlainRunner:
    """The plain network through the policy's transforms."""

    name = "plain"

    def __init__(self, policy: Policy, steps: int) -> None:
        self.policy, self.steps = policy, steps
        self.precision, self.memory_bytes, self.load_seconds = policy.report.dtype, policy.report.memory_bytes, 0.0

    def chunk(self, frame: Frame, noise: Tensor) -> tuple[Tensor, float, float]:
        policy = self.policy
        begin = time.perf_counter()
        inputs = policy.transforms.inputs([frame]).to(policy.device)
        start = time.perf_counter()
        chunk = policy.model.sample(inputs, noise[None].to(policy.device), self.steps).cpu()
        done = time.perf_counter()
        actions = policy.transforms.actions(chunk)[0]
        return actions, time.perf_counter() - begin, done - start

    def close(self) -> None:
        pass


class _EngineRunner:
    """An engine in one mode."""

    def __init__(self, engine: Engine, load_seconds: float) -> None:
        self.engine, self.load_seconds = engine, load_seconds
        self.name: str = engine.settings.mode

    @property
    def precision(self) -> str:
        return f"{self.engine.report.backend} {self.engine.report.precision}"

    @property
    def memory_bytes(self) -> int:
        return self.engine.report.memory_bytes

    def chunk(self, frame: Frame, noise: Tensor) -> tuple[Tensor, float, float]:
        begin = time.perf_counter()
        actions = self.engine.predict_chunk(frame, noise)
        total = time.perf_counter() - begin
        return actions, total, total - self.engine.last_ms["transforms"] / 1e3

    def close(self) -> None:
        self.engine.stop()


def _cameras(policy: Policy, count: int | None) -> list[str]:
    """The robot cameras that deliver pictures."""
    by_slot = {slot: camera for camera, slot in policy.transforms.camera_map.items() if slot is not None}
    known = [by_slot[slot] for slot in policy.config.real_cameras]
    if count is not None and count > len(known):
        raise UsageError(f"--cameras is {count}.", expected=f"at most {len(known)}: the policy has {', '.join(known)}")
    return known[:count]


def _frames(policy: Policy, options: BenchOptions, cameras: list[str]) -> list[Frame]:
    """As many frames as chunks, spread over the recording or made up; cameras that deliver nothing are masked."""
    count = options.repeats + WARM_UP
    if options.dataset is None:
        return _masked(policy, cameras, [made_up_frame(policy.recipe, seed) for seed in range(count)])
    return _masked(policy, cameras, recorded_frames(policy, options.dataset, count))


def _calibration(policy: Policy, options: BenchOptions, cameras: list[str], measured: int) -> list[Frame]:
    """Frames beside the measured ones: calibrated on those, int8 would look better than it is."""
    if options.dataset is None:
        return _masked(policy, cameras, [made_up_frame(policy.recipe, measured + seed) for seed in range(measured)])
    frames = recorded_frames(policy, options.dataset, CALIBRATION_FRAMES, beside=measured)
    return _masked(policy, cameras, frames)


def _masked(policy: Policy, cameras: list[str], frames: list[Frame]) -> list[Frame]:
    for frame in frames:
        for camera, slot in policy.transforms.camera_map.items():
            if slot is not None and camera not in cameras:
                frame[f"{image_key(camera)}_padding_mask"] = False
    return frames


def _noise(policy: Policy, seed: int) -> Tensor:
    shape = (policy.config.chunk_size, policy.config.max_action_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _tokens(policy: Policy, inputs: Any) -> dict[str, int]:
    """How many tokens the network really reads."""
    config = policy.config
    size = config.resize_imgs_with_padding or tuple(inputs.images.shape[-2:])
    side = size[0] // config.vlm.vision.patch_size // config.vlm.scale_factor
    images = int(inputs.image_masks.sum()) * side**2
    special = 3 * inputs.image_masks.shape[1] if config.add_image_special_tokens else 0
    return {"images": images + special, "instruction": int(inputs.token_mask.sum()), "state": 1}
