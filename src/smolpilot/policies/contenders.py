"""SmolVLA in the modes of its engine, and LeRobot with the same weights: policies to be measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from smolpilot.contracts import Embodiment, Observation, Policy, PolicyOptions
from smolpilot.inference import Engine, prepare
from smolpilot.smolvla import Policy as SmolVLAPolicy
from smolpilot.smolvla import localize, save_bundle


@dataclass(frozen=True)
class Measured:
    """What a policy tells of itself after it was measured.

    `stages`: milliseconds by stage. `checked`: joint, largest difference to the plain network in its unit, and in
    standard deviations, as the engine's own check found them.
    """

    precision: str
    stages: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    checked: tuple[str, float, float] | None = None


@dataclass(frozen=True)
class Contender:
    """A policy that is measured: `same` weights as the first one's, or others; `tell` is called at the end."""

    name: str
    policy: Policy
    load_seconds: float
    same: bool = False
    peer: bool = False  # what is measured against
    tell: Callable[[Observation], Measured] | None = None


@dataclass(frozen=True)
class ModeSettings:
    """How the engine is prepared. source, load: as for `load_policy`; cameras: those that deliver images."""

    source: str
    device: str
    cameras: Sequence[str]
    load: Mapping[str, Any]
    steps: int | None = None
    precision: str = "auto"
    backend: str = "auto"
    cache: Path | None = None  # where verdicts and graphs are kept; None: the user's


def engine_mode(mode: Any, settings: ModeSettings, frame: Observation, calibration: Sequence[Observation]) -> Contender:
    """The engine in one mode, checked on `frame`; int8 is calibrated on other ones. Raises what `prepare` raises."""
    begin = time.perf_counter()
    engine = prepare(
        settings.source,
        engine=mode,
        device=settings.device,
        cameras=settings.cameras,
        num_steps=settings.steps,
        precision=settings.precision if mode == "fast" else "auto",
        backend=settings.backend if mode != "exact" else "auto",
        frame=frame,
        calibration=calibration,
        cache_dir=settings.cache,
        **settings.load,
    )
    return Contender(mode, engine, time.perf_counter() - begin, same=True, tell=lambda frame: _told(engine, frame))


def _told(engine: Engine, frame: Observation) -> Measured:
    report, verdict = engine.report, engine.verdict
    stages = report.latency if engine.device.type == "cpu" else engine.time_stages(frame)
    checked = (*verdict.largest, verdict.sigma) if verdict is not None else None
    return Measured(f"{report.backend} {report.precision}", stages, report.fallback, checked)


def with_lerobot(plain: Policy, folder: Path, device: str, steps: int | None) -> list[Contender]:
    """LeRobot with the weights of a SmolVLA policy: in float32, and as it builds the network (parts in bfloat16).

    folder: where a copy that LeRobot reads is written. Raises what `open_lerobot` raises.
    """
    from .lerobot import open_beside

    policy = cast(SmolVLAPolicy, plain)
    copy = folder / "for-lerobot"
    save_bundle(policy, copy)
    localize(copy)
    spec = policy.spec
    camera_map = dict(spec.facts.camera_map)
    options = PolicyOptions(device=device, camera_map=camera_map, num_steps=steps or spec.facts.num_steps)
    body = Embodiment("the policy", tuple(camera_map), profile=spec.profile, rate=spec.rate)
    return [
        Contender(name, made, made.spec.facts.load_seconds, same=True, peer=True)
        for name, made in open_beside(copy, options, body).items()
    ]


def network_facts(plain: Policy, observation: Observation) -> dict[str, Any]:
    """Of a SmolVLA policy: its camera slots, and how many tokens the network really reads of the observation."""
    policy = cast(SmolVLAPolicy, plain)
    config, inputs = policy.config, policy.transforms.inputs([observation])
    size = config.resize_imgs_with_padding or tuple(inputs.images.shape[-2:])
    side = size[0] // config.vlm.vision.patch_size // config.vlm.scale_factor
    images = int(inputs.image_masks.sum()) * side**2
    special = 3 * inputs.image_masks.shape[1] if config.add_image_special_tokens else 0
    tokens = {"images": images + special, "instruction": int(inputs.token_mask.sum()), "state": 1}
    return {"slots": config.cameras, "tokens": tokens}
