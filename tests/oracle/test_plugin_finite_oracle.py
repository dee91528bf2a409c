"""The LeRobot plugin gives no action that is not finite: not when it is loaded, and not later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from smolpilot.common.errors import NotFiniteError, TransformError
from smolpilot.datasets import open_dataset
from smolpilot.smolvla import localize, new_policy, save_bundle

from .test_plugin_oracle import installed as installed
from .test_plugin_oracle import raw_frame

pytestmark = pytest.mark.oracle


def plugin(bundle: Path) -> tuple[Any, Any]:
    """Policy and pre-processor, in mode exact, as lerobot-rollout loads them."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = PreTrainedConfig.get_choice_class("smolpilot")(device="cpu", pretrained_path=bundle, mode="exact")
    policy = get_policy_class(config.type).from_pretrained(bundle, config=config, revision=None)
    before, _ = make_pre_post_processors(
        policy_cfg=config, pretrained_path=bundle, preprocessor_overrides={"device_processor": {"device": "cpu"}}
    )
    return policy, before


@pytest.mark.usefixtures("installed")
def test_no_action_that_is_not_finite(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    ours = new_policy("tiny", meta=dataset.meta, device="cpu")
    localize(save_bundle(ours, tmp_path / "sound"))
    policy, before = plugin(tmp_path / "sound")
    batch = before(raw_frame(dataset, 3))
    assert torch.isfinite(policy.select_action(batch)).all()

    policy.reset()
    with pytest.raises(TransformError, match="The state is not finite"):
        policy.select_action({**batch, "observation.state": batch["observation.state"] * float("nan")})
    assert not policy._queue

    with torch.no_grad():
        policy.engine._backend.model.action_out_proj.weight.fill_(3e38)  # what a fault of the memory may do
    for ask in (policy.select_action, policy.predict_action_chunk):
        with pytest.raises(NotFiniteError, match="for joint 'pan' at step 0 of the chunk"):
            ask(batch)
    assert not policy._queue

    with torch.no_grad():
        ours.model.action_out_proj.weight.fill_(9e19)
        ours.model.expert.norm.weight.fill_(9e19)  # what that is multiplied with
    localize(save_bundle(ours, tmp_path / "overflowing"))
    with pytest.raises(NotFiniteError, match="for joint 'pan'"):
        plugin(tmp_path / "overflowing")
