"""A border room: LeRobot's SmolVLA with the weights of a bundle, to be measured beside the engine.

Loaded only by `smolpilot bench --against lerobot`; the one file in which smolpilot imports lerobot.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smolpilot.errors import UsageError
from smolpilot.json_input import read_json_file
from smolpilot.keys import image_key
from smolpilot.policy import Policy, localize, save_bundle
from smolpilot.policy.locate import CONFIG
from smolpilot.policy.sealing import VLM


def lerobot_runners(bundle: str, policy: Policy, steps: int, folder: Path) -> list[LeRobotRunner]:
    """LeRobot in float32 and as it builds the network (text layers and expert in bfloat16)."""
    if importlib.util.find_spec("lerobot") is None:
        raise UsageError(
            "LeRobot is not installed beside smolpilot.",
            expected="lerobot 0.6 with its extra 'smolvla'",
            fix="install it (`uv sync --group test`), or leave --against out",
        )
    _stay_offline()
    copy = folder / "for-lerobot"
    save_bundle(policy, copy)
    localize(copy)
    runners = [LeRobotRunner(copy, policy, steps, "float32")]
    _set_text_dtype(copy, "bfloat16")
    return [*runners, LeRobotRunner(copy, policy, steps, "as built")]


def _stay_offline() -> None:
    """The bundle holds all that LeRobot needs. The hub's package reads the variable once: it may be loaded already."""
    import huggingface_hub.constants

    if "HF_HUB_OFFLINE" not in os.environ:
        os.environ["HF_HUB_OFFLINE"] = "1"
        huggingface_hub.constants.HF_HUB_OFFLINE = True


class LeRobotRunner:
    """A chunk as LeRobot's own tools make it: pre-processor, policy, post-processor."""

    def __init__(self, folder: Path, policy: Policy, steps: int, precision: str) -> None:
        from lerobot.policies.factory import make_pre_post_processors
        from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

        begin = time.perf_counter()
        self.name = f"LeRobot {precision}"
        self.precision = "float32" if precision == "float32" else "bfloat16, float32"
        values = read_json_file(folder / CONFIG)
        device = policy.device.type
        (folder / CONFIG).write_text(json.dumps({**values, "device": device, "num_steps": steps}))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.policy = SmolVLAPolicy.from_pretrained(folder)
            if precision == "float32":
                self.policy = self.policy.float()
            overrides = {"device_processor": {"device": device}}
            self.before, self.after = make_pre_post_processors(
                self.policy.config, str(folder), preprocessor_overrides=overrides
            )
        self.policy.to(policy.device).eval()
        self.device = policy.device
        self._slots = {image_key(camera): image_key(slot) for camera, slot in policy.transforms.camera_map.items()
                       if slot is not None}  # fmt: skip
        self.memory_bytes = sum(p.numel() * p.element_size() for p in self.policy.parameters())
        self.load_seconds = time.perf_counter() - begin

    def chunk(self, frame: dict[str, Any], noise: Tensor) -> tuple[Tensor, float, float]:
        """The chunk [H, A] in robot units; seconds of all, and of the network alone."""
        begin = time.perf_counter()
        ready = {key: _as_lerobot(key, value) for key, value in frame.items() if not key.endswith("_padding_mask")}
        batch = self.before(ready)
        for key, slot in self._slots.items():
            if f"{key}_padding_mask" in frame:
                batch[f"{slot}_padding_mask"] = torch.tensor([bool(frame[f"{key}_padding_mask"])], device=self.device)
        start = time.perf_counter()
        with torch.no_grad():
            chunk = self.policy.predict_action_chunk(batch, noise=noise[None].to(self.device)).cpu()
        done = time.perf_counter()
        return self.after(chunk)[0], time.perf_counter() - begin, done - start

    def close(self) -> None:
        del self.policy


def _as_lerobot(key: str, value: Any) -> Any:
    """A value of a frame in the form that LeRobot's pre-processor expects."""
    if key.startswith("observation.image"):
        picture = torch.as_tensor(np.asarray(value))
        return picture.permute(2, 0, 1).float() / 255 if picture.dtype == torch.uint8 else picture
    return torch.as_tensor(np.asarray(value)).float() if key.startswith("observation.") else value


def _set_text_dtype(folder: Path, dtype: str) -> None:
    """The public model's own setting, from which LeRobot takes the dtype of text layers and expert."""
    path = folder / VLM / CONFIG
    values = read_json_file(path)
    values["text_config"]["dtype"] = dtype
    path.write_text(json.dumps(values))
