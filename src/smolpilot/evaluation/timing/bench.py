"""`smolpilot bench`: milliseconds per chunk of policies side by side, with the difference to the plain network.

All that is measured takes turns, each time with an observation not seen before, so that neither a busy machine nor a
kept image favors one. Only real predictions count; warm-up is left out; the device is waited for. See `Row`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from smolpilot.common.atomic import scratch_folder
from smolpilot.common.errors import NotFiniteError, UsageError, errors_of
from smolpilot.common.keys import ACTION, PADDING_MASK, image_key
from smolpilot.common.machine import machine_facts
from smolpilot.common.progress import working
from smolpilot.contracts import (
    POLICIES,
    TIMED,
    Embodiment,
    Observation,
    Policy,
    PolicyOptions,
    PolicySpec,
    TimedPolicy,
    example_observation,
)
from smolpilot.datasets import open_dataset
from smolpilot.evaluation.checked_policy import checked_chunks
from smolpilot.evaluation.offline.dataset_adapter import embodiment_of
from smolpilot.evaluation.offline.policy_frames import CALIBRATION_FRAMES, recorded_frames
from smolpilot.evaluation.predictions import F32
from smolpilot.policies import open_policy
from smolpilot.smolvla.transforms.camera_slots import typed_camera_map

from .bench_options import LEROBOT, BenchOptions
from .latency import percentiles

if TYPE_CHECKING:
    from smolpilot.datasets import Dataset
    from smolpilot.policies.contenders import Contender

FORMAT = "smolpilot-bench/1"
WARM_UP = 2
SMOLVLA = "smolvla"
Progress = Callable[[str, int, int], None]


@dataclass
class Row:
    """One line of the table. total: observation in, actions in robot units out; network: without the transforms, None
    for a policy that does not time them apart."""

    name: str
    precision: str
    total_p50_ms: float
    total_p95_ms: float
    network_p50_ms: float | None
    network_p95_ms: float | None
    memory_mb: float | None
    load_s: float
    difference: float | None = None  # largest to the plain network, robot units
    joint: str = ""
    sigma: float | None = None  # the same in standard deviations of the joint's actions
    ratio: float | None = None  # how many times faster than the reference (LeRobot, else plain, else the first)
    verdict: str = ""  # against the robot's rate
    stages: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    finite: bool = True  # whether all of its actions are numbers
    source: str = ""  # what was opened


def bench(options: BenchOptions, progress: Progress | None = None) -> dict[str, Any]:
    """Measure and return the document that `smolpilot bench` prints. Raises what `open_policy` raises."""
    dataset = open_dataset(options.dataset) if options.dataset is not None else None
    embodiment = embodiment_of(dataset.meta) if dataset is not None else None
    with (
        closing(open_policy(options.policy, _opened(options), embodiment)) as policy,
        scratch_folder("bench") as temporary,
        closing(_Lineup(options, policy, dataset, temporary)) as lineup,
    ):
        with working("preparing what is measured"):
            lineup.line_up()
        rows = _measure(lineup.takes, progress)
        return _document(options, lineup, rows)


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


class _Lineup:
    """What is measured, and on which observations: each policy gets them as its own robot would give them."""

    def __init__(self, options: BenchOptions, policy: Policy, dataset: Dataset | None, temporary: Path) -> None:
        self._options, self._dataset, self._temporary = options, dataset, temporary
        self.policy = policy
        self.of_smolvla = policy.spec.facts.kind == SMOLVLA
        self.cameras = _cameras(policy.spec, options.cameras)
        self.takes: list[_Take] = []
        self.count = options.repeats + WARM_UP

    def line_up(self) -> None:
        """Open all of it, in the order of the table."""
        options = self._options
        own = self._masked(self._observations(self.policy))
        for contender in self._modes(own[0]) if self.of_smolvla else self._alone():
            self.takes.append(_Take(contender, own))
        for source in options.against:
            if source == LEROBOT:
                self._with_lerobot(own)
            else:
                self._other(source)

    def close(self) -> None:
        """Close all but the policy itself."""
        for take in self.takes:
            if take.contender.policy is not self.policy:
                take.contender.policy.close()

    def _alone(self) -> list[Contender]:
        from smolpilot.policies.contenders import Contender

        options, spec = self._options, self.policy.spec
        asked = {"--engine": options.engine, "--cameras": options.cameras}
        asked |= {"--precision": options.precision != "auto", "--backend": options.backend != "auto"}
        for flag, given in asked.items():
            if given:
                raise UsageError(
                    f"{flag} is given, but {options.policy} is a {spec.facts.kind} policy.",
                    expected=f"{flag} with a SmolVLA policy, which has an engine",
                    fix=f"leave {flag} out",
                )
        return [Contender(spec.name, self.policy, spec.facts.load_seconds)]

    def _modes(self, frame: Observation) -> list[Contender]:
        from smolpilot.policies.contenders import Contender, ModeSettings, engine_mode

        options, facts = self._options, self.policy.spec.facts
        modes = options.engine or ("plain", "exact", "fast")
        load: dict[str, Any] = {"stats_from": options.policy_stats_from, "tokenizer_dir": options.tokenizer}
        if self._dataset is not None or options.camera_map:
            load["camera_map"] = dict(facts.camera_map)
        settings = ModeSettings(
            options.policy,
            options.device,
            self.cameras,
            load,
            options.num_steps,
            options.precision,
            options.backend,
            # A verdict on made-up observations is for this table alone.
            None if self._dataset is not None else self._temporary,
        )
        found = []
        if "plain" in modes or options.against:
            found.append(Contender("plain", self.policy, facts.load_seconds, same=True))
        for mode in modes:
            if mode != "plain":
                found.append(engine_mode(mode, settings, frame, self._calibration() if mode == "int8" else ()))
        return found

    def _with_lerobot(self, own: list[Observation]) -> None:
        from smolpilot.policies.contenders import with_lerobot

        if not self.of_smolvla:
            raise UsageError(
                f"--against {LEROBOT} runs a SmolVLA policy by LeRobot, but {self._options.policy} is a "
                f"{self.policy.spec.facts.kind} policy.",
                fix="leave it out; other policies are named by their folder or name",
            )
        for contender in with_lerobot(self.policy, self._temporary, self._options.device, self._options.num_steps):
            self.takes.append(_Take(contender, own))

    def _other(self, source: str) -> None:
        """Another policy, on observations of its own: its cameras may have other names."""
        from smolpilot.policies.contenders import Contender

        with errors_of(f"--against {source}"):
            other = open_policy(source, PolicyOptions(device=self._options.device), self._embodiment(source))
        spec = other.spec
        taken = {take.contender.name for take in self.takes}
        name = spec.name if spec.name not in taken else source
        if name in taken:
            other.close()
            raise UsageError(f"{source} is named twice.", expected="each policy once")
        self.takes.append(_Take(Contender(name, other, spec.facts.load_seconds), self._observations(other)))

    def _embodiment(self, source: str) -> Embodiment | None:
        if self._dataset is not None:
            return embodiment_of(self._dataset.meta)
        if source.partition(":")[0] not in POLICIES.names():
            return None  # a folder brings its own cameras
        spec = self.policy.spec
        names = tuple(one.name for one in spec.profile.state_joints) if spec.profile is not None else spec.action_names
        return Embodiment(
            owner=self._options.policy,
            cameras=spec.cameras,
            state_names=names,
            action_names=spec.action_names,
            profile=spec.profile,
            rate=spec.rate,
            statistics=spec.statistics,
            instructions=spec.instructions,
        )

    def _observations(self, policy: Policy) -> list[Observation]:
        """As many as chunks, spread over the dataset or made up."""
        if self._dataset is None:
            return [example_observation(policy.spec, seed) for seed in range(self.count)]
        recorded = recorded_frames(policy, self._dataset, self.count)
        # A dataset may have fewer frames than chunks are asked for.
        return [recorded[i % len(recorded)] for i in range(self.count)]

    def _calibration(self) -> list[Observation]:
        """Beside the measured ones: calibrated on those, int8 would look better than it is."""
        if self._dataset is None:
            return self._masked([example_observation(self.policy.spec, self.count + i) for i in range(self.count)])
        return self._masked(recorded_frames(self.policy, self._dataset, CALIBRATION_FRAMES, beside=self.count))

    def _masked(self, frames: Sequence[Observation]) -> list[Observation]:
        """Mark the cameras that deliver nothing."""
        idle = [camera for camera in self.policy.spec.cameras if camera not in self.cameras]
        masks = {f"{image_key(camera)}{PADDING_MASK}": False for camera in idle}
        return [{**frame, **masks} for frame in frames]


def _opened(options: BenchOptions) -> PolicyOptions:
    return PolicyOptions(
        device=options.device,
        camera_map=typed_camera_map(options.camera_map),
        stats_from=options.policy_stats_from,
        tokenizer=options.tokenizer,
        num_steps=options.num_steps,
    )


def _cameras(spec: PolicySpec, count: int | None) -> list[str]:
    """The robot cameras that deliver images."""
    known = list(spec.cameras)
    if count is not None and count > len(known):
        raise UsageError(f"--cameras is {count}.", expected=f"at most {len(known)}: the policy has {', '.join(known)}")
    return known[:count]


def _measure(takes: Sequence[_Take], progress: Progress | None) -> list[Row]:
    """All in turns, each on its own observations; the chunk of turn i is drawn by the seed i."""
    turns = len(takes[0].frames)
    for turn in range(turns):
        for take in takes:
            take.run(turn, counted=turn >= WARM_UP)
        if progress is not None:
            progress("chunks", turn + 1, turns)
    plain = next((take for take in takes if take.contender.same and take.contender.name == "plain"), None)
    return [take.row(plain) for take in takes]


class _Take:
    """One policy's chunks for its own observations, and their times."""

    def __init__(self, contender: Contender, frames: Sequence[Observation]) -> None:
        self.contender, self.frames = contender, frames
        self.timed = TIMED in contender.policy.spec.capabilities
        self.totals: list[float] = []
        self.networks: list[float] = []
        self.stages: dict[str, list[float]] = {}
        self.chunks: list[F32] = []

    def run(self, turn: int, *, counted: bool) -> None:
        policy = self.contender.policy
        begin = time.perf_counter()
        try:
            (chunk,) = checked_chunks(policy, [self.frames[turn]], [turn])
        except NotFiniteError:  # the table says that the policy fails
            chunk = np.full((policy.spec.chunk_size, policy.spec.action_dim), np.nan, dtype=np.float32)
        total = (time.perf_counter() - begin) * 1e3
        self.chunks.append(chunk)
        if not counted:
            return
        self.totals.append(total)
        if self.timed:
            took = cast(TimedPolicy, policy).last_ms
            self.networks.append(max(0.0, total - took.get("transforms", 0.0)))
            for stage, value in took.items():
                self.stages.setdefault(stage, []).append(value)

    def row(self, plain: _Take | None) -> Row:
        contender, policy = self.contender, self.contender.policy
        spec = policy.spec
        total, network = percentiles(self.totals), percentiles(self.networks) if self.timed else {}
        row = Row(
            contender.name,
            spec.facts.precision,
            total["p50_ms"],
            total["p95_ms"],
            network.get("p50_ms"),
            network.get("p95_ms"),
            spec.facts.memory_bytes / 1e6 if spec.facts.memory_bytes else None,
            contender.load_seconds,
            stages={stage: percentiles(values) for stage, values in self.stages.items()},
            source=spec.facts.source,
        )
        if contender.same and plain is not None and plain is not self:
            row.difference, row.joint, row.sigma = _difference(plain.contender.policy.spec, self.chunks, plain.chunks)
        if contender.tell is not None:
            told = contender.tell(self.frames[0])
            row.precision, row.stages, row.note = told.precision, dict(told.stages), told.note
            if plain is None and told.checked is not None:
                row.joint, row.difference, row.sigma = told.checked
        if not all(np.isfinite(chunk).all() for chunk in self.chunks):
            row.finite = False
            row.note = "; ".join(filter(None, [row.note, "its actions hold NaN or infinite values: the policy fails"]))
        return row


def _difference(spec: PolicySpec, ours: list[F32], plain: list[F32]) -> tuple[float, str, float]:
    """Largest difference in robot units with its joint, and the largest in standard deviations."""
    apart = np.abs(np.stack(ours) - np.stack(plain)).max(axis=(0, 1))
    scale = np.maximum(spec.statistics.get(ACTION, {}).get("std", np.ones(len(apart))), 1e-6)
    worst = int((apart / scale).argmax())
    name = spec.action_names[worst] if worst < len(spec.action_names) else f"dimension {worst}"
    return float(apart[worst]), name, float(apart[worst] / scale[worst])


def _document(options: BenchOptions, measured: _Lineup, rows: list[Row]) -> dict[str, Any]:
    spec, contenders = measured.policy.spec, [take.contender for take in measured.takes]
    peers = [row for row, one in zip(rows, contenders, strict=True) if one.peer]
    plain = [row for row in rows if row.name == "plain"]
    # The engine's modes alone have nothing in the table that they could be compared with.
    others = rows[:1] if not measured.of_smolvla and len(rows) > 1 else []
    reference = min(peers or plain or others, key=lambda row: row.total_p50_ms, default=None)
    for row, contender in zip(rows, contenders, strict=True):
        own = contender.policy.spec
        row.ratio = reference.total_p50_ms / row.total_p50_ms if reference is not None else None
        row.verdict = verdict(row.total_p95_ms, own.rate or spec.rate, own.n_action_steps)
    slots = [slot for slot in spec.facts.camera_map.values() if slot is not None]
    network: dict[str, Any] = {"slots": slots, "tokens": None}
    if measured.of_smolvla:
        from smolpilot.policies.contenders import network_facts

        network = network_facts(measured.policy, measured.takes[0].frames[0])
    return {
        "format": FORMAT,
        "machine": machine_facts(spec.facts.device),
        "bundle": options.policy,
        "parameters": spec.facts.parameters,
        "cameras": {"used": measured.cameras, "slots": network["slots"]},
        "camera_map": dict(spec.facts.camera_map),
        "tokens": network["tokens"],
        "denoising_steps": spec.facts.num_steps,
        "chunk_size": spec.chunk_size,
        "execution_horizon": spec.n_action_steps,
        "rate": spec.rate,
        "repeats": options.repeats,
        "warm_up": WARM_UP,
        "frames": "recorded" if options.dataset else "made up",
        "reference": reference.name if reference is not None else None,
        "rows": [asdict(row) for row in rows],
    }
