"""AdamW settings, learning rates and one clipped step equal LeRobot's for SmolVLA."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

from smolpilot.training.optimization.optimizer import build_optimizer, set_rate
from smolpilot.training.optimization.schedule import Schedule
from smolpilot.training.options.train_options import TrainOptions, resolve

pytestmark = pytest.mark.oracle


def _options(steps: int) -> TrainOptions:
    return resolve(TrainOptions(dataset=Path("d"), out=Path("o"), policy="p", steps=steps))


def _rates(config: CosineDecayWithWarmupSchedulerConfig, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.peak_lr)
    scheduler = config.build(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("steps", [20, 100, 999, 3000])
def test_rates_equal_lerobots_for_runs_up_to_its_decay_steps(steps: int) -> None:
    options = _options(steps)
    assert options.lr is not None
    assert options.decay_lr is not None
    assert options.warmup_steps is not None
    schedule = Schedule(options.lr, options.decay_lr, options.warmup_steps, steps)
    theirs = _rates(SmolVLAConfig().get_scheduler_preset(), steps)
    assert [schedule.rate(step) for step in range(steps)] == pytest.approx(theirs, rel=1e-9)


def test_longer_runs_equal_lerobots_with_its_decay_set_to_the_runs_steps() -> None:
    steps, some = 60_000, range(0, 60_000, 97)
    options = _options(steps)
    assert (options.lr, options.warmup_steps) == (1e-4, 1000)
    schedule = Schedule(1e-4, 2.5e-6, 1000, steps)
    preset = SmolVLAConfig().get_scheduler_preset()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=preset.peak_lr)
    theirs = dataclasses.replace(preset, num_decay_steps=steps).build(optimizer, steps).lr_lambdas[0]
    assert [schedule.rate(step) for step in some] == pytest.approx([1e-4 * theirs(step) for step in some], rel=1e-9)
    # LeRobot as it comes stands still from step 30,000 on.
    stuck = preset.build(optimizer, steps).lr_lambdas[0]
    assert stuck(30_000) == stuck(59_999)
    assert schedule.rate(30_000) > 10 * schedule.rate(59_999)


def test_a_clipped_step_moves_the_weights_as_lerobots_optimizer_does() -> None:
    preset = SmolVLAConfig().get_optimizer_preset()
    defaults = TrainOptions()
    assert (defaults.clip, defaults.weight_decay) == (preset.grad_clip_norm, preset.weight_decay)
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(7, 5), torch.nn.Linear(7, 5)
    theirs.load_state_dict(ours.state_dict())
    options = _options(1000)
    assert options.lr == preset.lr
    first = build_optimizer(ours, lr=preset.lr, weight_decay=defaults.weight_decay)
    second = preset.build(theirs.parameters())
    for step in range(3):
        x = torch.randn(4, 7) * 100
        for model, optimizer in ((ours, first), (theirs, second)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), preset.grad_clip_norm)
            rate = preset.lr * (1 - 0.2 * step)
            set_rate(optimizer, rate)
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-8)
