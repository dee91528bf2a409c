"""The engine: a policy on one device, in one mode, fast; frames in, chunks in robot units out. Made by `prepare`."""

from __future__ import annotations

import dataclasses
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from smolpilot.common.errors import TransformError, UsageError
from smolpilot.common.keys import ACTION, ACTION_IS_PAD, STATE, TASK, image_key, is_image_key
from smolpilot.contracts import (
    GUIDED,
    RANDOM,
    TIMED,
    TOKENS,
    TWO_STAGE,
    Leftover,
    Observation,
    PolicyFacts,
    PolicySpec,
)
from smolpilot.contracts.observation import Floats
from smolpilot.smolvla.config import check_steps
from smolpilot.smolvla.network.noise import Noise, finite_chunk, finite_input, starting_noise
from smolpilot.smolvla.policy import NAME, ChunkedPolicy, policy_spec
from smolpilot.smolvla.transforms.transform_list import Transforms, TransformsConfig

from .backends.backend import Backend, EngineSpec, Guidance
from .backends.cuda_graphs import Graphed, place, run_backend
from .backends.guidance import MAX_GAIN, Schedule, make_guidance
from .backends.parity_check import ParityReport, ParityStore, compare
from .backends.plain import PlainNetwork
from .engine_report import EngineReport, Stopwatch
from .image_token_cache import Begun, ImageTokenCache

if TYPE_CHECKING:
    from smolpilot.smolvla import Policy
    from smolpilot.smolvla.network.inputs import PolicyInputs
    from smolpilot.smolvla.network.model import SmolVLA

_CAPABILITIES = frozenset({RANDOM, TIMED, TOKENS, TWO_STAGE, GUIDED})


class PlainSource(Protocol):
    """Where the plain network comes from: `load` reads it or has it at hand, `release` lets go of it."""

    def load(self) -> SmolVLA: ...

    def release(self) -> None: ...


class Engine(ChunkedPolicy):
    """SmolVLA as a `contracts.Policy` that runs fast; see `prepare` for how it is chosen and checked.

    All calls may come from any thread: they wait for each other. `stop()` frees the memory, `start()` brings the engine
    back, `with prepare(...) as engine` stops it at the end. `settings`: what it was built for.
    """

    def __init__(
        self,
        shell: Policy,
        settings: EngineSpec,
        *,
        backend_name: str,
        make: Callable[[], Backend],
        plain: PlainSource,
        limit: float,
        check: bool = True,
    ) -> None:
        """shell: the policy with its transforms (its weights are not used); plain: its plain network."""
        super().__init__(shell.n_action_steps, settings.steps)
        self._shell, self.settings, self._backend_name = shell, settings, backend_name
        self._make, self._plain, self._limit = make, plain, limit
        self._check_first = check
        self._store = ParityStore(settings.folder)
        self._lock = threading.RLock()
        self._watch = Stopwatch()
        self._backend: Backend | None = None
        self._precision, self._bytes = settings.precision, 0
        self._verdict: ParityReport | None = None
        self._fallback = ""
        self._load_seconds = self._warm_up_seconds = 0.0
        self._memory = ImageTokenCache()
        self._apart = False  # launch the stages of a chunk one by one
        self._begun: Begun | None = None
        self._tickets = 0

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Engine:
        """Load the network, unless it is loaded already."""
        with self._lock:
            if self._backend is not None:
                return self
            begin = time.perf_counter()
            self._verdict = self._store.read(self._limit) if self._check_first else None
            if self._verdict is not None and not self._verdict.passed:
                self._fall_back(self._verdict)
            else:
                self._use(self._make())
                # Gone where the graphs were damaged and made anew.
                self._verdict = self._store.read(self._limit) if self._verdict is not None else None
            if self._verdict is not None or not self._check_first:
                self._plain.release()
            self._load_seconds = time.perf_counter() - begin
            return self

    def stop(self) -> None:
        """Wait for the chunk that is being computed, then free the network; `start` brings it back."""
        with self._lock:
            if self._backend is not None:
                self._backend.close()
            self._backend, self._begun, self._memory, self._queue = None, None, ImageTokenCache(), None

    def close(self) -> None:
        """As `stop`: what a policy is asked for at its end."""
        self.stop()

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._backend is not None

    def warm_up(self, frame: Mapping[str, Any], repeats: int = 2) -> None:
        """Run a frame that nobody waits for: libraries choose kernels, graphs are recorded. Not in the latency."""
        with self._lock:
            begin, checking = time.perf_counter(), self._check_first
            self._check_first = False  # this frame need not be a real one
            for _ in range(repeats):
                self._memory = ImageTokenCache()
                self.predict_chunk(frame, seed=0)
            self.begin(frame)
            self.finish(frame[STATE], seed=0)
            self._begun, self._check_first = None, checking
            self._warm_up_seconds += time.perf_counter() - begin
            self._memory = ImageTokenCache()
            self._watch.clear()

    def time_stages(self, frame: Mapping[str, Any], repeats: int = 20) -> dict[str, dict[str, float]]:
        """Milliseconds by stage, each waited for: on a GPU, where a chunk is one launch, nothing else tells them apart.

        The stages are then launched one by one, so that their sum is a little more than a chunk. Not in the latency.
        """
        with self._lock:
            usual, self._watch, self._apart = self._watch, Stopwatch(), True
            try:
                for i in range(repeats + 2):
                    if i == 2:
                        self._watch.clear()
                        if self.device.type == "cuda":
                            self._watch.wait = lambda: torch.cuda.synchronize(self.device)
                    self._memory = ImageTokenCache()
                    self.predict_chunk(frame, seed=i)
                return self._watch.summary()
            finally:
                self._watch, self._apart, self._memory = usual, False, ImageTokenCache()

    # -- chunks ------------------------------------------------------------------------------------------------------

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """A chunk for each observation in robot units, float32 [B, H, A]; `contracts.Policy` says more.

        Without seeds torch's global generator is used. previous: see `backends.guidance`; for one observation only.
        """
        if previous is not None and len(observations) != 1:
            raise UsageError(
                f"previous is given for {len(observations)} observations.",
                expected="one observation: what is left of a chunk belongs to one robot",
            )
        return cast(Floats, self._chunks(observations, None, seeds, previous).numpy())

    def predict_chunk(
        self,
        frame: Mapping[str, Any],
        noise: Noise | None = None,
        *,
        seed: int | None = None,
        leftover: Noise | None = None,
        delay: int = 0,
        horizon: int | None = None,
        schedule: Schedule = "linear",
        max_gain: float = MAX_GAIN,
        num_steps: int | None = None,
    ) -> Tensor:
        """The next actions in robot units, float32 [H, A] on the CPU.

        noise [H, max_action_dim] or `seed` fixes the draw. leftover [L, A], in robot units: what was not executed of
        the last chunk; the new one is pulled towards it (`backends.guidance`): fully over the first `delay` steps,
        which are executed while it is computed, falling to nothing at step `horizon` (default L). num_steps: denoising
        steps. Raises TransformError for a frame that does not fit, UsageError for options that make no sense,
        NotFiniteError instead of a chunk that is not finite.
        """
        if not isinstance(frame, Mapping):
            raise TransformError(f"predict_chunk was given a {type(frame).__name__}.", expected="one frame: a dict")
        previous = None if leftover is None else Leftover(cast(Floats, leftover), delay, horizon, schedule, max_gain)
        start = None if noise is None else torch.as_tensor(noise)[None]
        return self._chunks([frame], start, None if seed is None else [seed], previous, num_steps)[0]

    def predict_chunks(
        self,
        frames: Sequence[Mapping[str, Any]],
        noise: Noise | None = None,
        *,
        seeds: Sequence[int] | None = None,
        num_steps: int | None = None,
    ) -> Tensor:
        """One chunk for each frame, float32 [B, H, A] on the CPU; noise [B, H, max_action_dim], or a seed for each."""
        return self._chunks(frames, noise, seeds, num_steps=num_steps)

    def predict_normalized(
        self,
        inputs: PolicyInputs,
        noise: Noise | None = None,
        *,
        num_steps: int | None = None,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """The network alone, for callers with transforms of their own: float32 [B, H, max_action_dim], normalized."""
        steps = self._steps(num_steps)
        with self._lock:
            self._running()
            finite_input(inputs.state, "The state")
            drawn = self._noise(len(inputs), noise)
            self._check(inputs[:1], drawn[:1], steps)
            chunks = run_backend(self._running(), inputs, drawn, steps, guidance)
            finite_chunk(chunks[..., : self.settings.config.action_dim], self.transforms.action_names)
            return chunks

    def begin(self, images: Mapping[str, Any], instruction: str | None = None) -> int:
        """Start on a chunk before its joint state is known: images and instruction are worked on now.

        images: camera -> image, or a whole observation (its state is not used). Returns a ticket for `finish`; a new
        `begin` replaces the one before.
        """
        whole_frame = any(str(key).startswith("observation.image") for key in images)
        frame = {key if whole_frame else image_key(key): value for key, value in images.items() if key != TASK}
        text = instruction if instruction is not None else images.get(TASK)
        if text is not None:
            frame[TASK] = text
        with self._lock:
            backend = self._running()
            self._watch.last.clear()
            with self._watch.stage("total", counted=False):
                with self._watch.stage("transforms"):
                    inputs = self._inputs([{**frame, STATE: torch.zeros(self.settings.config.state_dim)}])
                self._begun = None
                context = self._context(backend, inputs)
            self._tickets += 1
            self._begun = Begun(self._tickets, inputs, context, dict(self._watch.last))
            return self._tickets

    def finish(
        self,
        state: Noise,
        *,
        ticket: int | None = None,
        noise: Noise | None = None,
        seed: int | None = None,
        previous: Leftover | None = None,
        num_steps: int | None = None,
    ) -> Tensor:
        """The chunk [H, A] of what was begun, from the newest joint state [S]; may be called again for a newer one.

        The other arguments are those of `predict_chunk` and `predict`. UsageError when nothing was begun, or for an
        older ticket.
        """
        start = None if noise is None else torch.as_tensor(noise)[None]
        steps = self._steps(num_steps)
        with self._lock:
            backend, begun = self._running(), self._begun
            if begun is None or (ticket is not None and ticket != begun.ticket):
                raise UsageError(
                    "finish was called without a begin." if begun is None else "A later begin replaced this one.",
                    fix="call engine.begin(images, instruction) first, and finish before the next begin",
                )
            self._watch.last = dict(begun.took)
            with self._watch.stage("total", counted=False):
                moved, states = self.transforms.state(state), self.transforms.states([{STATE: state}])
                drawn = self._noise(1, start, None if seed is None else [seed])
                guidance = self._guidance(previous, states[0], steps)
                begun.inputs.state = moved
                if self._check(begun.inputs, drawn, steps, states):
                    begun.context = self._context(backend := self._running(), begun.inputs)
                with self._watch.stage("denoising"):
                    chunk = backend.denoise(begun.context, moved, drawn, steps, guidance)
                chunk = self._units(chunk, states)[0]
            self._watch.last["total"] += begun.took["total"]
            return chunk

    def select_action(self, frame: Mapping[str, Any]) -> Tensor:
        """The next action [A]: from the current chunk, or of a new one when `n_action_steps` are used up."""
        with self._lock:
            return super().select_action(frame)

    def reset(self) -> None:
        """Forget the current chunk, what was begun, and the kept images: call it at the start of an episode."""
        with self._lock:
            self._begun, self._memory, self._queue = None, ImageTokenCache(), None

    # -- what it tells -----------------------------------------------------------------------------------------------

    @property
    def spec(self) -> PolicySpec:
        """What the policy is, and what computes it, as it stands now; waits for no chunk."""
        shell, settings = self._shell, self.settings
        return policy_spec(
            self.transforms_config,
            name=settings.mode,
            slots=[settings.config.cameras[i] for i in settings.cameras],
            n_action_steps=self._horizon,
            lineage=shell.lineage,
            demonstrated=shell.demonstrated,
            capabilities=_CAPABILITIES,
            facts=PolicyFacts(
                source=shell.report.source,
                kind=NAME,
                device=str(self.device),
                precision=self._precision,
                parameters=shell.report.parameters,
                memory_bytes=self._bytes if self.running else 0,
                load_seconds=shell.load_seconds + self._load_seconds,
                engine="plain" if self._fallback else settings.mode,
                num_steps=self.num_steps,
                notes=tuple(shell.pairing.notes),
                warnings=(*shell.pairing.warnings, *filter(None, [self._fallback])),
            ),
        )

    @property
    def transforms_config(self) -> TransformsConfig:
        """What the transforms are built from."""
        return self._shell.transforms_config

    @property
    def transforms(self) -> Transforms:
        """The transform list, for callers that run `predict_normalized` on inputs of their own."""
        return self._shell.transforms

    @property
    def device(self) -> torch.device:
        return self.settings.device

    @property
    def verdict(self) -> ParityReport | None:
        """How far this engine is from the plain network; None before it was checked."""
        return self._verdict

    @property
    def last_ms(self) -> dict[str, float]:
        """Milliseconds of the newest prediction by stage; of a batch, and on a GPU, only `transforms` and `total`."""
        return dict(self._watch.last)

    @property
    def report(self) -> EngineReport:
        """How the engine stands now."""
        with self._lock:
            backend = self._backend
            slots = self.settings.config.cameras
            return EngineReport(
                source=self._shell.report.source,
                mode="plain" if self._fallback else self.settings.mode,
                asked_mode=self.settings.mode,
                backend="torch" if self._fallback else self._backend_name,
                precision=backend.precision if backend is not None else self.settings.precision,
                device=str(self.device),
                cameras=[slots[i] for i in self.settings.cameras],
                max_tokens=self.settings.max_tokens,
                denoising_steps=self.num_steps,
                parameters=self._shell.report.parameters,
                memory_bytes=backend.memory_bytes if backend is not None else 0,
                load_seconds=self._load_seconds,
                warm_up_seconds=self._warm_up_seconds,
                verdict=self._verdict,
                fallback=self._fallback,
                latency=self._watch.summary(),
            )

    def __repr__(self) -> str:
        return f"Engine({self._shell!r}, mode {self.settings.mode}, {'running' if self.running else 'stopped'})"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _chunks(
        self,
        frames: Sequence[Mapping[str, Any]],
        noise: Noise | None,
        seeds: Sequence[int] | None,
        previous: Leftover | None = None,
        num_steps: int | None = None,
    ) -> Tensor:
        """The chunks of a batch, [B, H, A] in robot units; what one frame takes is counted."""
        steps, alone = self._steps(num_steps), len(frames) == 1
        with self._lock:
            self._watch.last.clear()
            with self._watch.stage("total", counted=alone):
                self._running()
                with self._watch.stage("transforms", counted=alone):
                    inputs = self._inputs(frames)
                    drawn = self._noise(len(frames), noise, seeds)
                    states = self.transforms.states(frames)
                    guidance = self._guidance(previous, states[0], steps)
                self._check(inputs[:1], drawn[:1], steps, states[:1])
                backend = self._running()
                if not alone or (isinstance(backend, Graphed) and not self._apart):
                    chunks = run_backend(backend, inputs, drawn, steps, guidance)
                else:
                    context = self._context(backend, inputs)
                    with self._watch.stage("denoising"):
                        chunks = backend.denoise(context, inputs.state, drawn, steps, guidance)
                return self._units(chunks, states)

    def check(self, frames: Sequence[Mapping[str, Any]], seed: int = 0) -> ParityReport:
        """Compare with the plain network on real frames, one by one with the same noise, and act on the verdict."""
        with self._lock:
            self._running()
            noise = self._noise(len(frames), seeds=range(seed, seed + len(frames)))
            inputs = [self._inputs([frame]) for frame in frames]
            self._judge(inputs, noise, self.num_steps, self.transforms.states(frames))
            assert self._verdict is not None
            return self._verdict

    def _check(self, inputs: PolicyInputs, noise: Tensor, steps: int, states: Tensor | None = None) -> bool:
        """Judge on the first frame, where no verdict is at hand; True when that was done."""
        if not self._check_first or self._verdict is not None:
            return False
        self._judge([inputs], noise, steps, states)
        return True

    def _judge(self, inputs: Sequence[PolicyInputs], noise: Tensor, steps: int, states: Tensor | None) -> None:
        backend, plain = self._running(), PlainNetwork(self._plain.load())
        ours, theirs = [], []
        for i, one in enumerate(inputs):
            tokens, mask = one.tokens, one.token_mask
            if isinstance(backend, Graphed):
                tokens, mask = backend.fit(tokens, mask)
            ours.append(run_backend(backend, one, noise[i : i + 1], steps, None).cpu())
            padded = dataclasses.replace(one, tokens=tokens, token_mask=mask)
            theirs.append(run_backend(plain, padded, noise[i : i + 1], steps, None).cpu())
        a, b = torch.cat(ours), torch.cat(theirs)
        ours_units, plain_units = (self.transforms.actions(chunks, states) for chunks in (a, b))
        finite_chunk(plain_units, self.transforms.action_names)  # no verdict on a policy that computes nothing
        verdict = compare(a, b, (ours_units, plain_units), self._joints(), self._limit)
        self._store.write(verdict)
        self._verdict = verdict
        if not verdict.passed:
            backend.close()
            self._fall_back(verdict, plain)
        self._plain.release()

    def _fall_back(self, verdict: ParityReport, plain: PlainNetwork | None = None) -> None:
        """Run the plain network instead, and say so."""
        self._use(plain or PlainNetwork(self._plain.load()))
        self._memory = ImageTokenCache()
        self._fallback = (
            f"Mode '{self.settings.mode}' ({self._backend_name}, {self.settings.precision}) {verdict.text()}: "
            "the plain network runs instead. Try another mode or precision, or raise the limit if the difference is "
            "harmless."
        )
        warnings.warn(self._fallback, stacklevel=4)

    def _use(self, backend: Backend) -> None:
        """Run this one; its facts are noted, so that `spec` need not wait for a chunk."""
        self._backend, self._precision, self._bytes = backend, backend.precision, backend.memory_bytes

    def _running(self) -> Backend:
        if self._backend is None:
            raise UsageError("The engine is stopped.", fix="call engine.start()")
        return self._backend

    def _inputs(self, frames: Sequence[Mapping[str, Any]]) -> PolicyInputs:
        """Frames through the transforms; slots that the engine was not built for hold no image."""
        if isinstance(frames, Mapping):
            raise TransformError("predict_chunks takes a list of frames.", fix="for one frame: predict_chunk(frame)")
        slots, seen = self.settings.config.cameras, self.settings.cameras
        unseen = [slot for number, slot in enumerate(slots) if number not in seen]
        return self.transforms.inputs([self._frame(frame) for frame in frames], unseen=unseen)

    def _frame(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        # A recorded frame brings its actions along: they are no input, whatever their number.
        kept = {key: value for key, value in frame.items() if key not in (ACTION, ACTION_IS_PAD)}
        if self.device.type == "cuda" and self.settings.mode != "exact":
            # The raw image is a tenth of the letterboxed one; exact keeps to the plain policy's CPU arithmetic.
            for key, value in kept.items():
                if is_image_key(key):
                    kept[key] = torch.as_tensor(value).to(self.device)
        return kept

    def _context(self, backend: Backend, inputs: PolicyInputs) -> Any:
        """Vision and context of one frame; cameras that show what they showed before are not encoded again."""
        with self._watch.stage("vision"):
            used = inputs.image_masks[0].nonzero().flatten().tolist()
            tokens = self._memory.encode(backend, inputs.images[0], used, together=self.settings.mode == "exact")
            image_tokens = place(tokens, inputs.image_masks)
        with self._watch.stage("prefix"):
            return backend.context(image_tokens, inputs.image_masks, inputs.tokens, inputs.token_mask)

    def _noise(self, batch: int, noise: Noise | None = None, seeds: Sequence[int] | None = None) -> Tensor:
        """Starting noise float32 [B, H, max_action_dim]: given, from a seed each, or torch's global generator."""
        config = self.settings.config
        drawn = starting_noise(config, batch, noise, seeds)
        return torch.randn(batch, config.chunk_size, config.max_action_dim) if drawn is None else drawn

    def _guidance(self, previous: Leftover | None, state: Tensor, steps: int) -> Guidance | None:
        if previous is None:
            return None
        return make_guidance(
            self.transforms.normalize(previous.actions, state)[None],
            chunk_size=self.settings.config.chunk_size,
            action_dim=self.settings.config.max_action_dim,
            steps=steps,
            delay=previous.delay,
            horizon=previous.horizon,
            schedule=cast(Schedule, previous.schedule),
            max_gain=MAX_GAIN if previous.max_gain is None else previous.max_gain,
        )

    def _units(self, chunk: Tensor, states: Tensor) -> Tensor:
        return finite_chunk(self.transforms.actions(chunk, states), self.transforms.action_names)

    def _steps(self, num_steps: int | None) -> int:
        return self.num_steps if num_steps is None else check_steps(num_steps)

    def _joints(self) -> dict[str, str]:
        """Name -> unit of the action's joints; an unknown unit is empty."""
        profile = self.transforms.config.profile
        joints = profile.action_joints if profile is not None else []
        return {joint.name: "" if joint.unit == "unknown" else joint.unit for joint in joints}
