"""The plain network beside LeRobot's: a training step and a chunk of the 450 M model, same weights, same batch.

    uv run --group test python benchmarks/plain_model.py [--device cpu] [--batch 2] [--cameras 2] [--repeats 3] [--json]

Both sides get images already letterboxed, normalized states and tokens, in float32 (on a CPU also LeRobot's faster
precision). Weights are random: time does not depend on their values. The two take turns; the device is synchronized
around every measurement, and one warm-up each is left out. Prints medians, the ratio, and how far the results differ.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from startup import machine

from smolpilot.smolvla.checkpoint import weight_names as names
from smolpilot.smolvla.config import PolicyConfig, VLMConfig
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder


def lerobot_policy(folder: Path, cameras: int, *, empty: int = 0, built: bool = False) -> Any:
    """LeRobot's policy of the public architecture with random weights, in float32 or in the dtypes it is built with.

    Those come from the vision-language model's config, where the public one says bfloat16; `empty` adds camera slots
    without a camera.
    """
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
    from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

    features = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(6,))}
    for i in range(cameras):
        features[f"observation.images.camera{i + 1}"] = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 512, 512))
    config = SmolVLAConfig(
        input_features=features,
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(6,))},
        vlm_model_name=str(folder),
        device="cpu",
        push_to_hub=False,
        empty_cameras=empty,
    )
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["text_config"]["dtype"] = "bfloat16" if built else "float32"
    path.write_text(json.dumps(values), encoding="utf-8")
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        policy = SmolVLAPolicy(config)
    return policy if built else policy.float()


def our_model(theirs: Any, vlm: VLMConfig, folder: Path) -> SmolVLA:
    """Our network with the same config and weights."""
    theirs.config._save_pretrained(folder)
    config = PolicyConfig.from_lerobot(json.loads((folder / "config.json").read_text()), vlm)
    with torch.device("meta"):
        model = SmolVLA(config)
    weights = {names.from_lerobot(name): value.clone() for name, value in theirs.state_dict().items()}
    model.load_state_dict({name: value for name, value in weights.items() if name is not None}, assign=True)
    model.set_trainable()
    return model


def make_batch(batch: int, cameras: int, device: str) -> dict[str, torch.Tensor]:
    """A normalized batch as LeRobot's pre-processor leaves it."""
    g = torch.Generator().manual_seed(0)
    data = {
        "observation.state": torch.randn(batch, 6, generator=g),
        "observation.language.tokens": torch.randint(0, 250, (batch, 12), generator=g),
        "observation.language.attention_mask": torch.ones(batch, 12, dtype=torch.bool),
        "action": torch.randn(batch, 50, 6, generator=g),
        "action_is_pad": torch.zeros(batch, 50, dtype=torch.bool),
    }
    for i in range(cameras):
        data[f"observation.images.camera{i + 1}"] = torch.rand(batch, 3, 512, 512, generator=g)
    return {key: value.to(device) for key, value in data.items()}


def inputs_of(theirs: Any, data: dict[str, Any]) -> PolicyInputs:
    """LeRobot's batch, with actions or without, as our network takes it."""
    images, masks = theirs.prepare_images(data)
    return PolicyInputs(
        images=torch.stack(images, dim=1),
        image_masks=torch.stack([torch.as_tensor(mask) for mask in masks], dim=1),
        tokens=data["observation.language.tokens"],
        token_mask=data["observation.language.attention_mask"],
        state=theirs.prepare_state(data),
        actions=theirs.prepare_action(data) if "action" in data else None,
        action_is_pad=data.get("action_is_pad"),
    )


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int, device: str) -> tuple[float, float]:
    """Median seconds of both, taking turns."""

    def seconds(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(ours)
    seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def measure(device: str, batch: int, cameras: int, repeats: int) -> dict[str, Any]:
    """Times, ratios and differences of a training step and a chunk."""
    vlm = VLMConfig()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "vlm"
        byte_level_folder(vlm).write(folder)
        theirs = lerobot_policy(folder, cameras)
        ours = our_model(theirs, vlm, Path(temporary))
    theirs, ours = theirs.to(device), ours.to(device)
    data = make_batch(batch, cameras, device)
    inputs = inputs_of(theirs, data)
    noise = torch.randn(batch, 50, 32, generator=torch.Generator().manual_seed(1)).to(device)
    moment = torch.linspace(0.1, 0.9, batch).to(device)
    losses = {}

    def our_step() -> None:
        ours.zero_grad(set_to_none=True)
        loss = ours.loss(inputs, noise, moment)
        loss.backward()  # type: ignore[no-untyped-call]
        losses["ours"] = loss.item()

    def their_step() -> None:
        theirs.zero_grad(set_to_none=True)
        loss, _ = theirs.forward(dict(data), noise, moment)
        loss.backward()
        losses["theirs"] = loss.item()

    step = alternate(our_step, their_step, repeats, device)
    one = inputs[:1]
    first = {key: value[:1] for key, value in data.items()}
    chunk = alternate(
        lambda: ours.sample(one, noise[:1]),
        lambda: theirs.predict_action_chunk(dict(first), noise[:1]),
        repeats,
        device,
    )
    difference = (ours.sample(one, noise[:1])[..., :6] - theirs.predict_action_chunk(dict(first), noise[:1])).abs()
    return {
        "step_seconds": {"smolpilot": step[0], "lerobot": step[1], "ratio": step[1] / step[0]},
        "chunk_seconds": {"smolpilot": chunk[0], "lerobot": chunk[1], "ratio": chunk[1] / chunk[0]},
        "loss_difference": abs(losses["ours"] - losses["theirs"]),
        "chunk_difference": difference.max().item(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments.device, arguments.batch, arguments.cameras, arguments.repeats)
    name = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else machine()
    result = {"machine": name, "batch": arguments.batch, "cameras": arguments.cameras, **result}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print(f"{name}; 450 M model, float32, {arguments.cameras} cameras, median of {arguments.repeats}\n")
    print(f"{'':<34}{'smolpilot':>11}{'LeRobot':>11}{'ratio':>8}")
    for title, key in ((f"training step, batch {arguments.batch} (s)", "step_seconds"), ("chunk (s)", "chunk_seconds")):
        row = result[key]
        print(f"{title:<34}{row['smolpilot']:>11.2f}{row['lerobot']:>11.2f}{row['ratio']:>8.2f}")
    print(f"\nloss differs by {result['loss_difference']:.1e}, the chunk by at most {result['chunk_difference']:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
