"""One process of benchmarks/training.py: export LeRobot's weights and batches, keep caches, or measure one side.

Our sides never load LeRobot, and a cached side never runs what its cache stands in for: so the peak memory of a process
is that of its own training.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from plain_model import inputs_of, lerobot_policy, make_batch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from smolpilot.smolvla.checkpoint import weight_names as names
from smolpilot.smolvla.config import PolicyConfig, TextConfig, VisionConfig, VLMConfig
from smolpilot.smolvla.network.inputs import PolicyInputs
from smolpilot.smolvla.network.model import SmolVLA
from smolpilot.smolvla.transforms.byte_tokenizer import byte_level_folder
from smolpilot.training.cache.offload import offload
from smolpilot.training.optimization.optimizer import build_optimizer
from smolpilot.training.optimization.precision import clip_gradients

BATCHES = 3  # different batches that take turns
CACHES = ("vision", "prefix")
SIZES = {
    "full": VLMConfig(),
    # Pictures, layers read, tokens and head width as in the full model; a thirtieth of its arithmetic.
    "narrow": VLMConfig(
        vision=VisionConfig(width=192, layers=6, heads=3, mlp_width=768),
        text=TextConfig(width=384, heads=6, kv_heads=2, mlp_width=1024),
    ),
}


def attention_flop(queries: torch.Size, keys: torch.Size, *_: Any, **__: Any) -> int:
    """Two products of [.., L, E] and [.., K, E] per head; torch counts its CPU kernel's not at all."""
    return 4 * queries.numel() * keys[-2]


def attention_backward_flop(_: torch.Size, queries: torch.Size, keys: torch.Size, *__: Any, **___: Any) -> int:
    """Five products."""
    return 10 * queries.numel() * keys[-2]


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flop,
}


def run_side(given: argparse.Namespace) -> dict[str, Any]:
    """What the process was started for; a dict for the JSON on its standard output."""
    if given.side == "export":
        return export(given)
    if given.side.startswith("keep-"):
        return keep_cache(given, given.side.removeprefix("keep-"))
    cached = given.side in CACHES
    if given.side in ("float32", "built"):
        with tempfile.TemporaryDirectory() as temporary:
            byte_level_folder(SIZES[given.size]).write(Path(temporary) / "vlm")
            theirs = (
                lerobot_policy(Path(temporary) / "vlm", given.cameras, built=given.side == "built")
                .to(given.device)
                .train()
            )

        frames = [batch_of(given, number, given.device)[0] for number in range(BATCHES)]

        def loss_of(number: int, noise: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = theirs.forward(dict(frames[number % BATCHES]), noise, moment)[0]
            return loss

        optimizer = theirs.config.get_optimizer_preset().build(theirs.get_optim_params())
        return take_steps(given, theirs, optimizer, loss_of, torch.nn.utils.clip_grad_norm_)
    ours = our_model(given).to(given.device).train()
    name = given.side if cached else "inputs"
    batches = [load_inputs(path).to(given.device) for path in batch_paths(given, name) if path.exists()]
    if cached:
        offload(ours, "vision" if given.side == "vision" else "prefix")
    if given.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    optimizer = build_optimizer(ours, lr=1e-4, weight_decay=1e-10)

    def our_loss(number: int, noise: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        return ours.loss(batches[number % len(batches)], noise, moment)

    return take_steps(given, ours, optimizer, our_loss, clip_gradients)


def export(given: argparse.Namespace) -> dict[str, Any]:
    """Write LeRobot's weights under our names, its config, and the batches as our network takes them."""
    with tempfile.TemporaryDirectory() as temporary:
        byte_level_folder(SIZES[given.size]).write(Path(temporary) / "vlm")
        theirs = lerobot_policy(Path(temporary) / "vlm", given.cameras)
    theirs.config._save_pretrained(given.keep)
    if not (given.keep / "weights.safetensors").exists():
        renamed = {names.from_lerobot(name): value for name, value in theirs.state_dict().items()}
        weights = {name: value.contiguous().clone() for name, value in renamed.items() if name is not None}
        save_file(weights, given.keep / "weights.safetensors")
    for number, path in enumerate(batch_paths(given, "inputs")):
        save_inputs(inputs_of(theirs, batch_of(given, number, "cpu")[0]), path)
    return {}


def keep_cache(given: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Write the batches as a cache of this kind gives them; seconds per frame."""
    ours = our_model(given).to(given.device).eval()
    seconds = 0.0
    # For time alone one batch of frames is enough.
    for number, path in enumerate(batch_paths(given, kind)[: None if given.curve else 1]):
        inputs = load_inputs(batch_paths(given, "inputs")[number]).to(given.device)
        begin = time.perf_counter()
        with torch.no_grad():
            if kind == "vision":
                tokens = ours.embed_images(inputs.images.flatten(0, 1))
                inputs.image_tokens = tokens.reshape(len(inputs), -1, *tokens.shape[1:])
            else:
                context = ours.encode_context(inputs)
                inputs.context, inputs.context_mask = context.pack(), context.mask
        synchronize(given.device)
        seconds = (time.perf_counter() - begin) / given.batch
        inputs.images = inputs.images[..., :0].clone()  # a cached frame has no pictures
        save_inputs(inputs.to("cpu"), path)
    return {"once_per_frame_s": seconds}


def our_model(given: argparse.Namespace) -> SmolVLA:
    """Our network with LeRobot's config and weights."""
    with torch.device("meta"):
        values = json.loads((given.keep / "config.json").read_text())
        model = SmolVLA(PolicyConfig.from_lerobot(values, SIZES[given.size]))
    model.load_state_dict(load_file(given.keep / "weights.safetensors"), assign=True)
    model.set_trainable()
    return model


def batch_of(given: argparse.Namespace, number: int, device: str) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """Batch `number` with its noise and times, the same in every process."""
    data = make_batch(given.batch, given.cameras, "cpu")
    g = torch.Generator().manual_seed(100 + number % BATCHES)
    for i in range(given.cameras):
        data[f"observation.images.camera{i + 1}"] = torch.rand(given.batch, 3, 512, 512, generator=g)
    data["observation.state"] = torch.randn(given.batch, 6, generator=g)
    data["action"] = torch.randn(given.batch, 50, 6, generator=g)
    draw = torch.Generator().manual_seed(1000 + number)
    noise = torch.randn(given.batch, 50, 32, generator=draw)
    moment = torch.rand(given.batch, generator=draw) * 0.999 + 0.001
    return {key: value.to(device) for key, value in data.items()}, noise.to(device), moment.to(device)


def batch_paths(given: argparse.Namespace, name: str) -> list[Path]:
    shape = f"{name}_batch{given.batch}_cameras{given.cameras}"
    return [given.keep / f"{shape}_{number}.safetensors" for number in range(BATCHES)]


def save_inputs(inputs: PolicyInputs, path: Path) -> None:
    save_file({key: value.contiguous().clone() for key, value in vars(inputs).items() if value is not None}, path)


def load_inputs(path: Path) -> PolicyInputs:
    return PolicyInputs(**load_file(path))


def take_steps(
    given: argparse.Namespace,
    model: Any,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[..., torch.Tensor],
    clip: Callable[..., torch.Tensor],
) -> dict[str, Any]:
    """Take as many steps as each line on the standard input says and answer with a line: the seconds of each step, the
    processor time of all threads, and the loss. Returns the peak memory and the arithmetic of a step when the input
    ends.

    Each side's optimizer and clipping are those that it trains with: the same settings, AdamW fused in ours.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    number = 0
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    for line in sys.stdin:
        answer: dict[str, list[float]] = {"seconds": [], "processor": [], "losses": []}
        for _ in range(int(line)):
            _, noise, moment = batch_of(given, number, given.device)
            synchronize(given.device)
            begin, work = time.perf_counter(), time.process_time()
            optimizer.zero_grad(set_to_none=True)
            with counter if number == 0 else nullcontext():  # the first step's time is not counted
                loss = loss_of(number, noise, moment)
                loss.backward()  # type: ignore[no-untyped-call]
            clip(parameters, 10.0)
            optimizer.step()
            answer["losses"].append(loss.item())
            synchronize(given.device)
            answer["seconds"].append(time.perf_counter() - begin)
            answer["processor"].append(time.process_time() - work)
            number += 1
        print(json.dumps(answer), flush=True)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if given.device.startswith("cuda"):
        memory = torch.cuda.max_memory_allocated() / 1e9
    return {"peak_gb": memory, "gflop": counter.get_total_flops() / 1e9}


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
