"""The LeRobot plugin, loaded as lerobot-rollout loads it, beside LeRobot's own SmolVLA on the same bundle."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from smolpilot.common.errors import UsageError
from smolpilot.datasets import open_dataset
from smolpilot.inference import prepare
from smolpilot.smolvla import Policy, Transform, localize, new_policy, save_bundle

from ..smolvla.helpers_new_transforms import DeltaActions, Politely, UpsideDown, turned, with_extra
from .test_checkpoints_oracle import lerobot_loads

pytestmark = pytest.mark.oracle

PLUGIN = Path(__file__).parents[2] / "plugins" / "lerobot_policy_smolpilot"
NAME = "lerobot_policy_smolpilot"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The distribution as an installer leaves it: the package and its metadata in a folder of the path."""
    site = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shutil.copytree(PLUGIN / "src" / NAME, site / NAME)
    info = site / f"{NAME}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.3\nName: {project['name']}\nVersion: {project['version']}\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield site
    sys.path.remove(str(site))


@pytest.fixture(scope="module")
def policy(tiny_dataset: Path) -> Policy:
    policy = new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu")
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return policy


@pytest.fixture(scope="module")
def bundle(policy: Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "bundle"
    save_bundle(policy, path)
    localize(path)
    return path


@pytest.fixture(scope="module")
def loaded(installed: Path, bundle: Path) -> tuple[Any, Any, Any]:
    """Policy and processors by LeRobot's registry and factory, in the steps of lerobot/rollout/context.py."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = PreTrainedConfig.get_choice_class("smolpilot")(device="cpu", pretrained_path=bundle)
    policy = get_policy_class(config.type).from_pretrained(config.pretrained_path, config=config, revision=None)
    policy = policy.to("cpu").eval()
    processors = make_pre_post_processors(
        policy_cfg=config,
        pretrained_path=config.pretrained_path,
        preprocessor_overrides={
            "device_processor": {"device": "cpu"},
            "rename_observations_processor": {"rename_map": {}},
        },
    )
    return policy, *processors


def raw_frame(dataset: Any, row: int) -> dict[str, Any]:
    frame = {key: value for key, value in dataset[row].items() if key.startswith("observation.") or key == "task"}
    return {k: torch.as_tensor(v).permute(2, 0, 1).float() / 255 if torch.as_tensor(v).dtype == torch.uint8 else v
            for k, v in frame.items() if k != "task"} | {"task": frame["task"]}  # fmt: skip


def noise() -> Tensor:
    return torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(4))


def test_the_same_chunk_as_lerobots_own_policy(
    loaded: tuple[Any, Any, Any], bundle: Path, policy: Policy, tiny_dataset: Path
) -> None:
    ours, before, after = loaded
    theirs, their_before, their_after = lerobot_loads(bundle)
    dataset = open_dataset(tiny_dataset)
    for row in (2, 30):
        frame = raw_frame(dataset, row)
        chunk = after(ours.predict_action_chunk(before(dict(frame)), noise=noise()))
        expected = their_after(theirs.predict_action_chunk(their_before(dict(frame)), noise=noise()))
        assert chunk.shape == expected.shape == (1, 12, 3)
        assert (chunk - expected).abs().max() < TOLERANCE
        assert (chunk[0] - policy.predict_chunk(frame, noise()[0])).abs().max() < TOLERANCE
    assert ours.engine.report.mode == "fast"
    assert ours.engine.verdict is not None
    assert ours.config.chunk_size == 12
    assert ours.config.n_action_steps == 10
    assert set(ours.config.input_features) == set(theirs.config.input_features)


def test_batches_and_queue(loaded: tuple[Any, Any, Any], tiny_dataset: Path) -> None:
    ours, before, _ = loaded
    dataset = open_dataset(tiny_dataset)
    batch = before(raw_frame(dataset, 2))
    two = {key: torch.cat([value, value]) for key, value in batch.items() if isinstance(value, Tensor)}
    chunks = ours.predict_action_chunk(two, noise=noise().repeat(2, 1, 1))
    assert chunks.shape == (2, 12, 3)
    assert (chunks[0] - chunks[1]).abs().max() < TOLERANCE
    ours.reset()
    actions = torch.stack([ours.select_action(two, noise=noise().repeat(2, 1, 1)) for _ in range(10)])
    assert (actions[:, 0] - chunks[0, :10]).abs().max() < TOLERANCE
    assert len(ours._queue) == 0


def test_real_time_chunking_as_lerobot_calls_it(loaded: tuple[Any, Any, Any], bundle: Path, tiny_dataset: Path) -> None:
    from lerobot.policies.rtc.configuration_rtc import RTCConfig
    from lerobot.rollout.inference.rtc import supports_rtc_inference

    ours, before, _ = loaded
    theirs, their_before, _ = lerobot_loads(bundle)
    rtc = RTCConfig(execution_horizon=6)
    assert supports_rtc_inference(ours)
    frame = raw_frame(open_dataset(tiny_dataset), 5)
    leftover = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    free = ours.predict_action_chunk(before(dict(frame)), noise=noise(), prev_chunk_left_over=leftover)
    ours.config.rtc_config, theirs.config.rtc_config = rtc, rtc
    theirs.init_rtc_processor()
    options = {"noise": noise(), "inference_delay": 2, "prev_chunk_left_over": leftover}
    chunk = ours.predict_action_chunk(before(dict(frame)), **options)
    expected = theirs.predict_action_chunk(their_before(dict(frame)), **options)
    assert (chunk - expected).abs().max() < TOLERANCE
    assert (chunk - free).abs().max() > 0.05
    ours.config.rtc_config = None


def test_what_it_cannot_do_is_told(installed: Path, loaded: tuple[Any, Any, Any], tiny_dataset: Path) -> None:
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class

    config = PreTrainedConfig.get_choice_class("smolpilot")(device="cpu")
    with pytest.raises(ValueError, match=r"--policy\.pretrained_path=BUNDLE"):
        get_policy_class("smolpilot")(config)
    ours, before, _ = loaded
    batch = before(raw_frame(open_dataset(tiny_dataset), 2))
    batch.pop("observation.images.wrist")
    with pytest.raises(ValueError, match="lacks camera wrist"):
        ours.predict_action_chunk(batch)
    with pytest.raises(NotImplementedError, match="smolpilot train"):
        ours.forward({})


def test_a_new_transform_reaches_the_plugin_or_is_refused_by_name(
    installed: Path, bundle: Path, policy: Policy, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle cannot hold one; what the plugin would do with it is seen on a policy that has it."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import make_pre_post_processors

    modeling = importlib.import_module(f"{NAME}.modeling_smolpilot")

    def plugin(*extra: Transform) -> Any:
        changed = with_extra(policy, *extra)
        monkeypatch.setattr(modeling, "prepare", lambda path, **options: prepare(changed, engine="exact", device="cpu"))
        config = PreTrainedConfig.get_choice_class("smolpilot")(device="cpu", pretrained_path=bundle)
        return modeling.SmolpilotPolicy(config)

    before, after = make_pre_post_processors(
        policy_cfg=PreTrainedConfig.get_choice_class("smolpilot")(device="cpu"), pretrained_path=bundle,
        preprocessor_overrides={"device_processor": {"device": "cpu"}},
    )  # fmt: skip
    frame = raw_frame(open_dataset(tiny_dataset), 2)
    found = after(plugin(UpsideDown("front")).predict_action_chunk(before(dict(frame)), noise=noise()))
    expected = policy.predict_chunk(turned(frame), noise()[0])
    assert (found[0] - expected).abs().max() < TOLERANCE
    assert (found[0] - policy.predict_chunk(frame, noise()[0])).abs().max() > 1e-3
    with pytest.raises(UsageError, match=r"'delta_actions', which changes states or actions before they are norm"):
        plugin(DeltaActions())
    with pytest.raises(UsageError, match=r"'politely', which changes the instruction before it becomes tokens"):
        plugin(UpsideDown("front"), Politely())
