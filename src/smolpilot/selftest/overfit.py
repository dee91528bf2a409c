"""The self-test `train --overfit`: can the policy overfit a few frames of one episode?

A policy that cannot will not learn hundreds of episodes either. When it fails, the same network is given made-up motion
over the same images: if it learns that, the dataset is at fault, else the network or its settings are.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from smolpilot.common.option_types import AUTO
from smolpilot.common.progress import track
from smolpilot.evaluation.metrics import chunk_errors
from smolpilot.smolvla import PolicyInputs
from smolpilot.training.data.batches import Batches
from smolpilot.training.optimization.optimizer import build_optimizer, set_rate
from smolpilot.training.optimization.precision import Precision
from smolpilot.training.options.train_options import TrainOptions, check, resolve
from smolpilot.training.run.setup import Prepared, prepare
from smolpilot.training.run.validation import spread

FRAMES = 8
STEPS = 400
PASSED = 0.25  # of the error of a policy that answers every frame with the mean action
LEARNED = 0.5  # the same for made-up motion: enough to tell a network that learns from one that does not
_LOOK_EVERY = 25
_WARM_UP = 20
_STILL = 1e-3  # standard deviations of the action: a joint that moves less cannot show that anything is learned
_SAME, _OTHER = 0.02, 0.3  # inputs this near (of their range), actions this far (in standard deviations)
_BLANK = 2 / 255
_HUGE = 30.0  # standard deviations

_NONE_MOVES = "no joint moves"

Cause = Literal["none", "data", "model"]
Floats = npt.NDArray[np.float64]


@dataclass
class OverfitResult:
    """What the self-test found. `mae` and `blind`: error per joint of the policy and of the mean action, [A]."""

    cause: Cause
    steps: int
    frames: int
    episode: int
    joints: list[str]
    units: list[str]
    mae: Floats
    blind: Floats
    ratio: float
    control: float | None = None
    findings: list[str] = field(default_factory=list)
    advice: str = ""

    @property
    def passed(self) -> bool:
        return self.cause == "none"

    def lines(self) -> list[str]:
        """As a person reads it."""
        text = [
            f"{joint}: error {mae:.4g} {unit}, always the mean action {blind:.4g}"
            for joint, unit, mae, blind in zip(self.joints, self.units, self.mae, self.blind, strict=True)
        ]
        what = f"{self.frames} frames of episode {self.episode}"
        share = f"{self.ratio:.0%} of that of always answering with the mean action, {PASSED:.0%} would do"
        if self.passed:
            return [*text, f"passed: the policy overfits {what} in {self.steps} steps. Its error is {share}."]
        trouble = {"data": "The data is the likely trouble", "model": "The model or its settings are the trouble"}
        why = f"failed: after {self.steps} steps on {what} the error is {share}."
        if self.control is not None:
            learns = "learns" if self.control <= LEARNED else "does not learn"
            why += f" The same network {learns} made-up motion over the same images ({self.control:.0%})."
        return [*text, why, f"{trouble[self.cause]}: {self.advice}", *(f"found: {line}" for line in self.findings)]


def overfit(options: TrainOptions) -> OverfitResult:
    """Train on a few frames of the first episode and look whether the policy repeats their actions; writes nothing.

    Raises the errors of `train` for options and input that do not fit at all.
    """
    steps = STEPS if options.steps is None else options.steps
    options = dataclasses.replace(
        options, out=options.out or Path("overfit"), steps=steps, held_out=0.0, patience=None, ema=None,
        warmup_steps=0, augment={},
    )  # fmt: skip
    options = resolve(check(options))
    torch.manual_seed(options.seed)
    prepared = prepare(options)
    test = _Test(prepared, options, steps)
    findings = [f"{line.topic}: {line.found}" for line in prepared.preflight() if line.verdict == "error"]
    return test.run(findings)


class _Test:
    def __init__(self, prepared: Prepared, options: TrainOptions, steps: int) -> None:
        self.options, self.policy, self.steps = options, prepared.policy, steps
        self.device = torch.device(self.policy.device)
        self.dataset = prepared.datasets[0].train
        self.episode = self.dataset.episodes[0]
        rows = np.flatnonzero(self.dataset.episode_index == self.episode)
        self.rows = rows[spread(len(rows), FRAMES)]
        batches = Batches(
            self.dataset, self.policy.transforms.for_source(prepared.datasets[0].layout), self.device,
            chunk_size=self.policy.config.chunk_size, rows=self.rows,
        )  # fmt: skip
        self.inputs, self.states = batches.batch(self.rows), batches.states(self.rows)
        self.precision = Precision(options.dtype or "float32", self.device)
        assert self.policy.profile is not None
        self.joints, self.width = self.policy.profile.action_joints, self.policy.config.action_dim

    def run(self, findings: list[str]) -> OverfitResult:
        findings = [*findings, *look_at(self.inputs, self.width, [joint.name for joint in self.joints])]
        start = copy.deepcopy(self.policy.model.state_dict())
        steps, predicted = self._train(self.inputs, "overfitting one episode")
        result = self._result(steps, predicted)
        if result.passed:
            return result
        if not math.isfinite(result.ratio) and not any(one.startswith(_NONE_MOVES) for one in findings):
            result.cause, result.advice = "model", "the loss is no finite number; lower --lr (or --clip)"
            return result
        self.policy.model.load_state_dict(start)
        made_up = _made_up(self.inputs, self.width)
        _, predicted = self._train(made_up, "the same with made-up motion", enough=LEARNED / 2)
        result.control = _share(predicted, made_up, self.width)
        result.cause = "data" if result.control <= LEARNED else "model"
        result.findings, result.advice = findings, _advice(result.cause, self.options, findings)
        return result

    def _train(self, inputs: PolicyInputs, what: str, enough: float = PASSED / 2) -> tuple[int, Tensor]:
        """Steps taken and normalized chunks [B, H, A] at the end; stops early once they are near enough."""
        model, options = self.policy.model, self.options
        model.train()
        with torch.no_grad():
            # Frozen vision and language make the same of the same frames: once is enough.
            fixed = None if model.context_is_trained else model.encode_context(inputs)
        if fixed is not None:
            inputs = dataclasses.replace(inputs, context=fixed.pack(), context_mask=fixed.mask)
        rate = options.lr or 0.0
        optimizer = build_optimizer(model, lr=rate, weight_decay=options.weight_decay)
        parameters = [p for p in model.parameters() if p.requires_grad]
        draws = max(1, _at_once(options) // len(inputs))
        places = torch.arange(len(inputs), device=self.device).repeat(draws)
        batch = inputs[places]
        generator = torch.Generator().manual_seed(options.seed)
        predicted = self._sample(inputs)
        for step in track(range(self.steps), self.steps, what):
            # Down to nothing over the second half: the last steps' noise should not count as error.
            set_rate(optimizer, rate * min(1.0, (step + 1) / _WARM_UP, 2 * (1 - step / self.steps)))
            optimizer.zero_grad(set_to_none=True)
            noise = torch.randn(batch.actions.shape, generator=generator).to(self.device)  # type: ignore[union-attr]
            # Evenly spread times: few samples should not miss the hard ones.
            when = (torch.arange(len(places)) + torch.rand(len(places), generator=generator)) / len(places)
            when = when[torch.randperm(len(places), generator=generator)].clamp(1e-3, 1.0).to(self.device)
            with self.precision.autocast():
                loss = model.loss(batch, noise, when)
            self.precision.backward(loss)
            self.precision.clip(optimizer, parameters, options.clip)
            self.precision.step(optimizer)
            if (step + 1) % _LOOK_EVERY == 0 or step + 1 == self.steps:
                predicted = self._sample(inputs)
                share = _share(predicted, inputs, self.width)
                if share <= enough or not math.isfinite(share):
                    return step + 1, predicted
        return self.steps, predicted

    def _sample(self, inputs: PolicyInputs) -> Tensor:
        model = self.policy.model
        model.eval()
        assert inputs.actions is not None
        noise = torch.randn(inputs.actions.shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        chunks = model.sample(inputs, noise=noise)
        model.train()
        return chunks

    def _result(self, steps: int, predicted: Tensor) -> OverfitResult:
        back, actions = self.policy.transforms.actions, self.inputs.actions
        assert actions is not None
        recorded = back(actions.float().cpu(), self.states).numpy()
        _, padded = _actions(self.inputs, self.width)
        blind = np.broadcast_to(recorded[~padded].mean(axis=0), recorded.shape)
        mae = chunk_errors(back(predicted.float().cpu(), self.states).numpy(), recorded, padded).mae
        share = _share(predicted, self.inputs, self.width)
        return OverfitResult(
            cause="none" if share <= PASSED else "data",
            steps=steps,
            frames=len(self.rows),
            episode=self.episode,
            joints=[joint.name for joint in self.joints],
            units=["dataset units" if joint.unit == "unknown" else joint.unit for joint in self.joints],
            mae=mae,
            blind=chunk_errors(blind, recorded, padded).mae,
            ratio=share,
        )


def look_at(inputs: PolicyInputs, width: int, joints: list[str]) -> list[str]:
    """What can be seen in the frames themselves: nothing moves, a broken scale, blank images, contradictions."""
    actions, padded = _actions(inputs, width)
    valid = actions[~padded]
    found = []
    if valid.std(axis=0).max() < _STILL:
        found.append(f"{_NONE_MOVES} in these frames: choose another episode with --episodes")
    if (worst := np.abs(valid).max(axis=0)).max() > _HUGE:
        name = joints[int(worst.argmax())]
        found.append(f"{name} lies {worst.max():.0f} standard deviations from its mean: statistics or units are wrong")
    blank = _blank_cameras(inputs)
    if blank:
        found.append(f"camera slot {', '.join(map(str, blank))} shows one color only")
    if pairs := _contradictions(inputs, actions, padded):
        found.append(
            f"{len(pairs)} pairs of these frames have the same images and state but other actions (such as number "
            f"{pairs[0][0]} and {pairs[0][1]}): nothing in the input says which is right"
        )
    return found


def _blank_cameras(inputs: PolicyInputs) -> list[int]:
    images = inputs.images.float()
    if images.dim() < 5:
        return []
    seen = inputs.image_masks.any(dim=0)
    return [c for c in range(images.shape[1]) if seen[c] and _is_blank(images[:, c])]


def _is_blank(images: Tensor) -> bool:
    """Whether images [N, 3, h, w] show one color inside the letterbox's border (-1 in all of them)."""
    inside = ~(images == -1).flatten(0, 1).all(dim=0)
    return not inside.any() or float(images[:, :, inside].std(dim=(0, 2)).max()) < _BLANK


def _contradictions(inputs: PolicyInputs, actions: Floats, padded: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    states, images = inputs.state.float().cpu().numpy(), inputs.images.float().cpu()
    pairs = []
    for i in range(len(states)):
        for j in range(i + 1, len(states)):
            valid = ~(padded[i] | padded[j])
            if not valid.any() or np.abs(states[i] - states[j]).max() > _SAME:
                continue
            alike = float((images[i] - images[j]).abs().mean()) < _SAME
            if alike and np.abs(actions[i][valid] - actions[j][valid]).mean() > _OTHER:
                pairs.append((i, j))
    return pairs


def _made_up(inputs: PolicyInputs, width: int) -> PolicyInputs:
    """The same images and instructions with distinct states, and smooth actions that follow from them."""
    assert inputs.actions is not None
    generator = torch.Generator().manual_seed(2)
    count, horizon = inputs.actions.shape[:2]
    phase = torch.rand(count, 1, width, generator=generator) * 2 * math.pi
    clock = torch.linspace(0, 1, horizon)[None, :, None]
    actions, state = torch.zeros_like(inputs.actions), torch.zeros_like(inputs.state)
    actions[..., :width] = torch.sin(phase + 2 * clock).to(actions)
    # Sine and cosine: the actions are a linear function of this state, as easy as can be.
    place = torch.cat([torch.sin(phase[:, 0]), torch.cos(phase[:, 0])], dim=1)[:, : state.shape[1]]
    state[:, : place.shape[1]] = (2 * place).to(state)
    return dataclasses.replace(inputs, state=state, actions=actions, action_is_pad=None)


def _share(predicted: Tensor, inputs: PolicyInputs, width: int) -> float:
    """Error relative to that of always answering with the mean action, over the joints that move; inf without any."""
    recorded, padded = _actions(inputs, width)
    chunks = predicted[..., :width].double().cpu().numpy()
    blind = np.abs(recorded - recorded[~padded].mean(axis=0))[~padded].mean(axis=0)
    moves = blind > _STILL
    if not moves.any() or not np.isfinite(chunks).all():
        return math.inf
    own = np.abs(chunks - recorded)[~padded].mean(axis=0)
    return float((own[moves] / blind[moves]).mean())


def _actions(inputs: PolicyInputs, width: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The recorded actions [B, H, width], and which of their steps lie behind the end of the episode [B, H]."""
    assert inputs.actions is not None
    actions = inputs.actions[..., :width].double().cpu().numpy()
    if inputs.action_is_pad is None:
        return actions, np.zeros(actions.shape[:2], dtype=np.bool_)
    return actions, inputs.action_is_pad.cpu().numpy()


def _at_once(options: TrainOptions) -> int:
    micro = options.micro_batch
    return micro if micro is not None and micro != AUTO else options.batch_size or 1


def _advice(cause: Cause, options: TrainOptions, findings: list[str]) -> str:
    if cause == "data":
        return (
            ("see what was found below; " if findings else "")
            + "look at the dataset with `smolpilot dataset check` and `smolpilot dataset view`: images and actions "
            "that belong together, time stamps, units (--units), joints that repeat their commands"
        )
    frozen = "; --train-expert-only may freeze what has to learn" if options.train_expert_only else ""
    return (
        f"--lr {options.lr:g} may be too small or too large for it (2e-3 suits tiny, 1e-4 SmolVLA), --steps "
        f"{options.steps} too few{frozen}; the weights may be damaged: `smolpilot bundle` on the policy"
    )
