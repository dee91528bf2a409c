"""Policy: the network with its transforms; frames in, actions in robot units out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from smolpilot.common.errors import CheckpointError, TransformError, UsageError
from smolpilot.common.keys import ACTION, ACTION_IS_PAD
from smolpilot.common.statistics import Statistics
from smolpilot.contracts import (
    RANDOM,
    TIMED,
    TOKENS,
    ActionQueue,
    Leftover,
    Observation,
    PolicyFacts,
    PolicySpec,
    check_horizon,
)
from smolpilot.contracts import Policy as PolicyContract
from smolpilot.contracts.observation import Floats
from smolpilot.contracts.trained_on import trained_rate
from smolpilot.robots.layout import FrameLayout

from .checkpoint.load_report import LoadReport
from .checkpoint.weights import UnusedWeights
from .config import PolicyConfig, check_steps
from .network.model import SmolVLA
from .network.noise import Noise, finite_chunk, starting_noise
from .transforms.camera_slots import Pairing, check_camera_map
from .transforms.tokenizer import PolicyTokenizer
from .transforms.transform_list import Transforms, TransformsConfig

if TYPE_CHECKING:
    from smolpilot.robots import RobotProfile
    from smolpilot.robots.demonstrated import Demonstrated

NAME = "smolvla"


class ChunkedPolicy(PolicyContract):
    """What the plain policy and its engine share: settings of the steps, and one action at a time out of chunks."""

    def __init__(self, n_action_steps: int, num_steps: int) -> None:
        self._horizon, self._num_steps = n_action_steps, num_steps
        self._queue: ActionQueue | None = None

    @property
    def transforms_config(self) -> TransformsConfig:
        """What the transforms are built from."""
        raise NotImplementedError

    @property
    def n_action_steps(self) -> int:
        """How many actions of a chunk `select_action` hands out before it plans again."""
        return self._horizon

    @n_action_steps.setter
    def n_action_steps(self, steps: int) -> None:
        self._horizon = check_horizon(steps, self.transforms_config.policy.chunk_size)
        self.reset()

    @property
    def num_steps(self) -> int:
        """Denoising steps of a chunk; default the checkpoint's, or what an engine was prepared for."""
        return self._num_steps

    @num_steps.setter
    def num_steps(self, steps: int) -> None:
        self._num_steps = check_steps(steps)
        self.reset()

    def token_room(self, instruction: str) -> tuple[int, int]:
        """Tokens of an instruction, and how many there is room for."""
        config = self.transforms_config
        return config.tokenizer.length(instruction), config.policy.tokenizer_max_length

    def select_action(self, frame: Mapping[str, Any]) -> Tensor:
        """The next action [A]: from the current chunk, or of a new one when `n_action_steps` are used up."""
        if self._queue is None:
            self._queue = ActionQueue(self)
        return torch.from_numpy(self._queue.select_action(frame))

    def reset(self) -> None:
        """Forget the rest of the current chunk: call it at the start of an episode."""
        self._queue = None


class Policy(ChunkedPolicy):
    """The plain network as a `contracts.Policy`. Make one with `load_policy`, `new_policy` or `adapt_policy`.

    A frame is a dict: `observation.state` [S], `observation.images.<camera>` ([3, h, w] float in [0, 1], or
    [h, w, 3] uint8) and `task` text; joints in the order and units of the robot profile.
    """

    def __init__(
        self,
        model: SmolVLA,
        transforms: Transforms | TransformsConfig,
        *,
        lineage: Mapping[str, Any] | None = None,
        report: LoadReport | None = None,
        unused_weights: UnusedWeights | None = None,
        demonstrated: Demonstrated | None = None,
    ) -> None:
        super().__init__(model.config.n_action_steps, model.config.num_steps)
        self._model: SmolVLA | None = model
        self._transforms: Transforms | None = transforms if isinstance(transforms, Transforms) else None
        self._transforms_config: TransformsConfig = (
            transforms.config if isinstance(transforms, Transforms) else transforms
        )
        self.lineage: dict[str, Any] = dict(lineage or {})
        self.report = report or LoadReport(source="", kind="policy")
        self.unused_weights = unused_weights
        self.demonstrated = demonstrated  # limits and start poses of all that it was trained on, where known
        self.load_seconds = 0.0
        self.pairing = Pairing(dict(self._transforms_config.camera_map))  # how the cameras came into the slots
        self._last_ms: dict[str, float] = {}

    @property
    def spec(self) -> PolicySpec:
        """What the policy is, as it stands now."""
        return policy_spec(
            self._transforms_config,
            n_action_steps=self._horizon,
            lineage=self.lineage,
            demonstrated=self.demonstrated,
            facts=PolicyFacts(
                source=self.report.source,
                kind=NAME,
                device=str(self.device),
                **vars(network_sizes(self.model)),
                load_seconds=self.load_seconds,
                num_steps=self.num_steps,
                notes=tuple(self.pairing.notes),
                warnings=tuple(self.pairing.warnings),
            ),
        )

    @property
    def model(self) -> SmolVLA:
        """The network. UsageError when the policy is closed."""
        if self._model is None:
            raise UsageError("The policy is closed.", fix="open it again")
        return self._model

    @model.setter
    def model(self, model: SmolVLA) -> None:
        self._model = model

    @property
    def config(self) -> PolicyConfig:
        return self.model.config

    @property
    def transforms(self) -> Transforms:
        """The transform list. CheckpointError for a parent that was loaded without statistics."""
        if self._transforms is None:
            if self.report.statistics_problem:
                raise CheckpointError(
                    self.report.statistics_problem, fix="give those of the dataset: --policy-stats-from DATASET"
                )
            self._transforms = Transforms(self._transforms_config)
        return self._transforms

    @transforms.setter
    def transforms(self, transforms: Transforms) -> None:
        self._transforms, self._transforms_config = transforms, transforms.config

    def use_cameras(self, camera_map: Mapping[str, str | None] | Pairing) -> None:
        """Take other cameras into the slots (robot camera -> slot; None: not used). TransformError for a wrong map.

        What a pairing decided is kept in `spec.facts`.
        """
        pairing = camera_map if isinstance(camera_map, Pairing) else Pairing(dict(camera_map))
        config = dataclasses.replace(self._transforms_config, camera_map=dict(pairing.map))
        if self._transforms is not None:
            self.transforms = Transforms(config)
        else:
            check_camera_map(pairing.map, config.policy.real_cameras)
            self._transforms_config = config
        self.pairing = pairing

    @property
    def profile(self) -> RobotProfile | None:
        """The robot that the policy drives; None for a checkpoint that does not say."""
        return self._transforms_config.profile

    @property
    def statistics(self) -> Statistics:
        """Of `observation.state` and `action`, in the policy's joint order and units."""
        return self._transforms_config.statistics

    @property
    def tokenizer(self) -> PolicyTokenizer:
        return self._transforms_config.tokenizer

    @property
    def transforms_config(self) -> TransformsConfig:
        """What the transforms are built from."""
        return self._transforms_config

    @property
    def instructions(self) -> list[str]:
        """The texts that the policy was trained with."""
        return list(self._transforms_config.instructions)

    @property
    def device(self) -> torch.device:
        return self.model.state_proj.weight.device

    @property
    def last_ms(self) -> dict[str, float]:
        """Milliseconds of the newest prediction: `transforms` (both ways), `network`, `total`."""
        return dict(self._last_ms)

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """A chunk for each observation in robot units, float32 [B, H, A]; `contracts.Policy` says more.

        Without seeds torch's global generator is used. The plain network cannot be guided: UsageError for `previous`.
        """
        if previous is not None:
            raise UsageError(
                "previous is given, but the plain network cannot be pulled towards the last chunk.",
                expected="a policy whose spec.capabilities hold 'guided'",
                fix="open it with an engine: PolicyOptions(engine='fast'), or prepare(policy, engine='fast')",
            )
        chunks: Floats = self._chunks(observations, seeds=seeds).numpy()
        return chunks

    def predict_chunk(self, frame: Mapping[str, Any], noise: Noise | None = None) -> Tensor:
        """The next actions in robot units, float32 [H, A] on the CPU.

        noise [H, max_action_dim] (torch or numpy) fixes the draw; without it torch's global generator is used. Raises
        TransformError for a frame that does not fit the policy, NotFiniteError instead of a chunk that is not finite.
        """
        if not isinstance(frame, Mapping):
            raise TransformError(
                f"predict_chunk was given a {type(frame).__name__}.",
                expected="one frame: a dict with LeRobot's keys",
                fix="for several frames: predict_chunks",
            )
        return self._chunks([frame], None if noise is None else torch.as_tensor(noise)[None])[0]

    def predict_chunks(self, frames: Sequence[Mapping[str, Any]], noise: Noise | None = None) -> Tensor:
        """One chunk for each frame, float32 [B, H, A] on the CPU; noise [B, H, max_action_dim]."""
        return self._chunks(frames, noise)

    @torch.no_grad()
    def _chunks(
        self, frames: Sequence[Mapping[str, Any]], noise: Noise | None = None, seeds: Sequence[int] | None = None
    ) -> Tensor:
        begin = time.perf_counter()
        # A recorded frame brings its actions along: they are no input, whatever their number.
        if not isinstance(frames, Mapping):
            frames = [{key: value for key, value in f.items() if key not in (ACTION, ACTION_IS_PAD)} for f in frames]
        inputs = self.transforms.inputs(frames).to(self.device)
        start = starting_noise(self.config, len(frames), noise, seeds)
        ready = time.perf_counter()
        # On the CPU the network has finished, whatever the device.
        normalized = self.model.sample(inputs, None if start is None else start.to(self.device), self.num_steps).cpu()
        computed = time.perf_counter()
        chunks = finite_chunk(
            self.transforms.actions(normalized, self.transforms.states(frames)), self.transforms.action_names
        )
        end = time.perf_counter()
        network, total = (computed - ready) * 1e3, (end - begin) * 1e3
        self._last_ms = {"transforms": total - network, "network": network, "total": total}
        return chunks

    def close(self) -> None:
        """Let go of the network; the policy is not used afterwards."""
        self.reset()
        self._model = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy starts with a plan of its own."""
        return {**self.__dict__, "_queue": None}

    def __repr__(self) -> str:
        robot = self.profile.name if self.profile is not None else "unknown robot"
        return (
            f"Policy({robot}: state {self.config.state_dim}, action {self.config.action_dim}, "
            f"cameras {', '.join(self._transforms_config.camera_map)}; chunk {self.config.chunk_size}, "
            f"horizon {self._horizon}; {self.device})"
        )


def policy_spec(
    made_from: TransformsConfig,
    *,
    n_action_steps: int,
    lineage: Mapping[str, Any],
    facts: PolicyFacts,
    name: str = NAME,
    slots: Sequence[str] | None = None,
    demonstrated: Demonstrated | None = None,
    capabilities: frozenset[str] = frozenset({RANDOM, TIMED, TOKENS}),
) -> PolicySpec:
    """The spec of a SmolVLA policy, plain or by an engine, from what its transforms are built from.

    slots: those that get an image, default all. facts: lineage and camera map are added here.
    """
    config, profile, source = made_from.policy, made_from.profile, made_from.source
    layout = source or (FrameLayout.of_profile(profile) if profile is not None else None)
    by_slot = {slot: camera for camera, slot in made_from.camera_map.items() if slot is not None}
    filled = {by_slot[slot]: slot for slot in slots or config.real_cameras if slot in by_slot}
    left_out = {camera: None for camera in made_from.camera_map if camera not in filled}
    return PolicySpec(
        name=name,
        state_dim=config.state_dim,
        action_dim=config.action_dim,
        chunk_size=config.chunk_size,
        n_action_steps=n_action_steps,
        cameras=tuple(filled),
        profile=profile,
        action_names=layout.action.names if layout is not None else (),
        action_units=(layout.action.units or ()) if layout is not None else (),
        instructions=tuple(made_from.instructions),
        rate=trained_rate(lineage, profile.rate if profile is not None else None),
        image_sizes={camera: config.image_shapes[slot][1:] for camera, slot in filled.items()},
        statistics=made_from.statistics,
        demonstrated=demonstrated,
        capabilities=capabilities,
        facts=dataclasses.replace(facts, camera_map={**filled, **left_out}, lineage=dict(lineage)),
    )


@dataclass(frozen=True)
class NetworkSizes:
    """What a network's parameters say of it, as `PolicyFacts` names it."""

    precision: str
    parameters: int
    memory_bytes: int


def network_sizes(network: torch.nn.Module) -> NetworkSizes:
    """Dtypes, count and bytes of the parameters, which are walked once: a spec is read before every chunk."""
    dtypes, count, size = set(), 0, 0
    for parameter in network.parameters():
        dtypes.add(parameter.dtype)
        count += parameter.numel()
        size += parameter.numel() * parameter.element_size()
    return NetworkSizes("+".join(sorted(str(one).removeprefix("torch.") for one in dtypes)), count, size)


def fill_sizes(report: LoadReport, model: SmolVLA) -> LoadReport:
    """Write the network's sizes, dtype and place into a report."""
    sizes = network_sizes(model)
    report.parameters, report.memory_bytes, report.dtype = sizes.parameters, sizes.memory_bytes, sizes.precision
    report.trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    report.device = str(next(model.parameters()).device)
    return report
