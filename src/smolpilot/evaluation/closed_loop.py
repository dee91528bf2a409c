"""Closed loop: the policy acts in a simulation, many fresh episodes side by side; success is counted, not guessed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from smolpilot.errors import CheckpointError, UsageError
from smolpilot.keys import TASK
from smolpilot.policy.instruction import UntrainedInstructionWarning

from .intervals import wilson
from .machine import machine
from .origin import describe_policy, engine_warnings, instruction_warnings

if TYPE_CHECKING:
    import torch

    from smolpilot.inference import Engine
    from smolpilot.policy import Policy

FORMAT = "smolpilot-rollout/1"
PARALLEL = 50  # environments stepped together: one forward pass plans for all of them
_LONGEST = 100_000  # steps; an environment that never ends is a defect
Picture = npt.NDArray[np.uint8]


@dataclass
class Run:
    """One episode: which object was named, which was reached (None: none in time), in how many steps."""

    seed: int
    instruction: str
    named: str
    reached: str | None = None
    steps: int = 0
    pictures: list[Picture] = field(default_factory=list, repr=False)

    @property
    def success(self) -> bool:
        return self.reached == self.named

    @property
    def outcome(self) -> str:
        """`named`, `other` or `none`."""
        return "named" if self.success else "none" if self.reached is None else "other"


@dataclass(frozen=True)
class RolloutResult:
    """All episodes in order of their seeds, and the document of results.json made from them."""

    runs: list[Run]
    document: dict[str, Any]
    frames_per_second: float


def rollout(
    policy: Policy | Engine,
    env: str = "tabletop",
    *,
    episodes: int = 100,
    seed: int = 1_000_000,
    swap_instruction: bool = False,
    execution_horizon: int | None = None,
    untrained: bool = False,
    video_episodes: int = 0,
    instruction: str | None = None,
    env_settings: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> RolloutResult:
    """Run `episodes` of `env` from the seeds `seed`, `seed + 1`, ...; the same arguments give the same result.

    With `swap_instruction` each scene stays what it is, but the instruction names the other object, and success is
    reaching that one. `untrained` means fresh random weights: this overwrites those of `policy`. The first
    `video_episodes` keep their pictures. `instruction` is said in place of the environment's own.
    `env_settings` are passed to the environment. Raises UsageError for an unknown environment or a horizon beyond the
    chunk.
    """
    from smolpilot.simulation import make_env

    horizon = policy.n_action_steps if execution_horizon is None else execution_horizon
    if not 1 <= horizon <= policy.config.chunk_size:
        raise UsageError(
            f"The execution horizon is {horizon}.", expected=f"1 to {policy.config.chunk_size}, the policy's chunk"
        )
    if untrained:
        from smolpilot.inference.engine import Engine
        from smolpilot.policy.create import randomize_weights

        if isinstance(policy, Engine):
            raise UsageError("An engine keeps its weights.", fix="give the plain policy for the untrained baseline")
        randomize_weights(policy, seed)
    runs: list[Run] = []
    rate = 10.0
    for start in range(0, episodes, PARALLEL):
        seeds = range(seed + start, seed + min(start + PARALLEL, episodes))
        recorded = max(0, video_episodes - start)
        envs = [make_env(env, **(env_settings or {})) for _ in seeds]
        group = _Group(policy, envs, list(seeds), swap_instruction, recorded, instruction)
        rate = group.frames_per_second
        done_before = len(runs)
        while group.active:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UntrainedInstructionWarning)  # the document says it
                group.plan_and_act(horizon)
            if progress is not None:
                progress("episodes", done_before + len(seeds) - len(group.active), episodes)
        runs += group.runs
        group.close()
    settings = {
        "env": env,
        "env_settings": dict(env_settings or {}),
        "seed": seed,
        "swap_instruction": swap_instruction,
        "untrained": untrained,
        "execution_horizon": horizon,
        "chunk_size": policy.config.chunk_size,
        "denoising_steps": policy.config.num_steps,
        "video_episodes": min(video_episodes, episodes),
    }
    document = summarise_runs(runs, settings)
    document["warnings"] = engine_warnings(policy) + instruction_warnings(policy, [run.instruction for run in runs])
    document |= {"bundle": describe_policy(policy), "machine": machine(policy.device)}
    return RolloutResult(runs, document, rate)


def summarise_runs(runs: list[Run], settings: dict[str, Any]) -> dict[str, Any]:
    """Success rate with its 95 % Wilson interval, what was reached, and the same by named colour."""
    steps = [run.steps for run in runs if run.success]
    total = _count(runs)
    low, high = total["interval"]
    what = "the untrained policy" if settings["untrained"] else "the policy"
    named = "the block named by the swapped instruction" if settings["swap_instruction"] else "the named block"
    return {
        "format": FORMAT,
        **settings,
        **total,
        "text": f"{what[0].upper()}{what[1:]} reached {named} in {total['successes']} of {len(runs)} fresh episodes: "
        f"{100 * total['success_rate']:.3g} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %.",
        "mean_steps_to_success": float(np.mean(steps)) if steps else None,
        "by_colour": [
            {"colour": name, **_count([run for run in runs if run.named == name])}
            for name in sorted({run.named for run in runs})
        ],
        "runs": [
            {
                "seed": run.seed,
                "instruction": run.instruction,
                "named": run.named,
                "reached": run.reached,
                "success": run.success,
                "steps": run.steps,
            }
            for run in runs
        ],
    }


def _count(runs: list[Run]) -> dict[str, Any]:
    outcomes = Counter(run.outcome for run in runs)
    return {
        "episodes": len(runs),
        "successes": outcomes["named"],
        "success_rate": outcomes["named"] / len(runs) if runs else 0.0,
        "interval": list(wilson(outcomes["named"], len(runs))),
        "reached": {name: outcomes[name] for name in ("named", "other", "none")},
    }


class _Group:
    """Environments that run in step: every one plans at the same time, so that one batch serves all."""

    def __init__(
        self,
        policy: Policy | Engine,
        envs: list[Any],
        seeds: list[int],
        swap: bool,
        recorded: int,
        said: str | None = None,
    ) -> None:
        import torch

        self._policy, self._recorded = policy, recorded
        self._envs = envs
        self._noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._frames: list[dict[str, Any]] = []
        self.runs: list[Run] = []
        for i, seed in enumerate(seeds):
            frame, run = _begin(self._envs[i], seed, swap)
            if said is not None:
                frame, run.instruction = {**frame, TASK: said}, said
            self._frames.append(frame)
            self.runs.append(run)
            self._record(i)
        self.active = list(range(len(seeds)))

    @property
    def frames_per_second(self) -> float:
        return float(self._envs[0].metadata.get("render_fps", 10))

    def plan_and_act(self, horizon: int) -> None:
        """Plan for every episode that still runs, and execute `horizon` actions of each plan."""
        chunks = self._policy.predict_chunks([self._frames[i] for i in self.active], noise=self._draw())
        if not bool(chunks.isfinite().all()):
            raise CheckpointError(
                "The policy fails: its predictions hold NaN or infinite values.",
                expected="finite actions",
                fix="check the training loss and the statistics: smolpilot bundle BUNDLE shows what it holds",
            )
        plans = dict(zip(self.active, chunks.numpy(), strict=True))
        for step in range(horizon):
            for i in list(self.active):
                self._act(i, plans[i][step])

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _act(self, i: int, action: npt.NDArray[np.float32]) -> None:
        run = self.runs[i]
        frame, _, terminated, truncated, info = self._envs[i].step(action)
        self._frames[i] = {**frame, TASK: run.instruction}
        run.steps += 1
        self._record(i)
        if terminated or truncated:
            run.reached = info["reached"]
            self.active.remove(i)
        elif run.steps >= _LONGEST:
            raise UsageError(f"The environment did not end an episode after {_LONGEST} steps.")

    def _draw(self) -> torch.Tensor:
        """Noise [B, H, max_action_dim] for the running episodes, each from a generator of its own."""
        import torch

        shape = (self._policy.config.chunk_size, self._policy.config.max_action_dim)
        return torch.stack([torch.randn(shape, generator=self._noise[i]) for i in self.active])

    def _record(self, i: int) -> None:
        if i < self._recorded:
            self.runs[i].pictures.append(np.asarray(self._envs[i].render(), dtype=np.uint8))


def _begin(env: Any, seed: int, swap: bool) -> tuple[dict[str, Any], Run]:
    """Reset an environment; with `swap` the same scene, but another object is named."""
    from smolpilot.simulation import swap_instruction

    frame, info = env.reset(seed=seed)
    instruction = swap_instruction(frame[TASK], info) if swap else frame[TASK]
    named = info["colours"][info["instructions"].index(instruction)]
    return {**frame, TASK: instruction}, Run(seed, instruction, named)
