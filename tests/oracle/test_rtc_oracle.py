"""Real-time chunking against LeRobot's RTCProcessor: the gradient is the error, and whole guided chunks agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smolpilot.inference.backends.cuda_graphs import run_backend
from smolpilot.inference.backends.fast import FastNetwork
from smolpilot.inference.backends.guidance import gains, make_guidance, prefix_weights
from smolpilot.inference.backends.plain import PlainNetwork

from .conftest import lerobot_policy
from .test_parity import make_batch, our_inputs, our_model

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-5
SCHEDULES = ["linear", "exp", "ones", "zeros"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_and_gains_are_lerobots(schedule: str) -> None:
    from lerobot.configs import RTCAttentionSchedule
    from lerobot.policies.rtc.configuration_rtc import RTCConfig
    from lerobot.policies.rtc.modeling_rtc import RTCProcessor

    config = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule(schedule.upper()), max_guidance_weight=7.0)
    theirs = RTCProcessor(config)
    for delay, horizon, total in ((0, 1, 5), (0, 5, 5), (2, 5, 9), (4, 4, 9), (6, 3, 9), (3, 50, 50), (0, 10, 50)):
        found = prefix_weights(delay, horizon, total, schedule)  # type: ignore[arg-type]
        assert torch.equal(found, theirs.get_prefix_weights(delay, horizon, total)), (delay, horizon, total)
    # Their gain, seen through a step whose velocity is 0 and whose error is 1.
    ones = torch.ones(1, 4, 3)
    for steps in (1, 4, 10):
        for i, gain in enumerate(gains(steps, 7.0)):
            time = 1.0 + i * (-1.0 / steps)
            guided = theirs.denoise_step(torch.zeros(1, 4, 3), ones, 4, time, torch.zeros_like, execution_horizon=4)
            assert torch.equal(guided, -gain * ones)


def test_their_gradient_is_the_error_itself() -> None:
    """LeRobot differentiates x1 = x - t v(x) by x after v was computed: whatever v is, the gradient is the identity."""
    from lerobot.policies.rtc.configuration_rtc import RTCConfig
    from lerobot.policies.rtc.modeling_rtc import RTCProcessor

    processor = RTCProcessor(RTCConfig(debug=True))
    g = torch.Generator().manual_seed(0)
    x, leftover = torch.randn(2, 9, 5, generator=g), torch.randn(2, 6, 4, generator=g)
    weight = torch.randn(5, 5, generator=g, requires_grad=True)
    processor.denoise_step(x, leftover, 2, 0.7, lambda x: torch.tanh(x @ weight) ** 2, execution_horizon=5)
    (step,) = processor.get_all_debug_steps()
    assert step.correction.abs().max() > 0.1
    assert torch.equal(step.correction, step.err)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("delay", "horizon", "length"), [(1, 4, 5), (0, 9, 3), (3, 3, 7)])
def test_guided_chunks_are_lerobots(
    vlm_folder: Path, tmp_path: Path, schedule: str, delay: int, horizon: int, length: int
) -> None:
    from lerobot.configs import RTCAttentionSchedule
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    rtc = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule(schedule.upper()), max_guidance_weight=8.0)
    theirs = lerobot_policy(vlm_folder, rtc_config=rtc).float()
    theirs.requires_grad_(False)
    data = make_batch(theirs, batch=2, mask_cameras=False)
    inputs = our_inputs(theirs, data)
    assert inputs.actions is not None
    noise = torch.randn(inputs.actions.shape, generator=torch.Generator().manual_seed(2))
    leftover = torch.randn(2, length, 6, generator=torch.Generator().manual_seed(3))
    expected = theirs.predict_action_chunk(
        {k: v.clone() for k, v in data.items()},
        noise,
        prev_chunk_left_over=leftover,
        inference_delay=delay,
        execution_horizon=horizon,
    )
    theirs.config.rtc_config = None  # their config writes it in a form that only they read
    model = our_model(theirs, vlm_folder, tmp_path)
    guidance = make_guidance(
        leftover,
        chunk_size=noise.shape[1],
        action_dim=noise.shape[2],
        steps=10,
        delay=delay,
        horizon=horizon,
        schedule=schedule,  # type: ignore[arg-type]
        max_gain=8.0,
    )
    free = run_backend(PlainNetwork(model), inputs, noise, 10)[..., :6]
    if delay or schedule != "zeros":
        assert (free - expected).abs().max() > 0.05, "guidance must show"
    for network in (PlainNetwork(model), FastNetwork(model, noise.device, torch.float32)):
        found = run_backend(network, inputs, noise, 10, guidance)[..., :6]
        assert (found - expected).abs().max() < TOLERANCE * max(1.0, float(expected.abs().max()))
