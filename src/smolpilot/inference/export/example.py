"""Runs the exported policy with onnxruntime, numpy and tokenizers alone:  python example.py [FOLDER]"""

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read on import: ONNX Runtime would report to Microsoft

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class ExportedPolicy:
    """Camera images, joint state and instruction in; the next actions, in the robot's units, out."""

    def __init__(self, folder, providers=("CPUExecutionProvider",)):
        folder = Path(folder)
        self.facts = verified(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        files = [str(folder / f"{name}.onnx") for name in ("vision", "prefix", "denoise")]
        self.vision, self.prefix, self.denoise = (onnxruntime.InferenceSession(f, providers=providers) for f in files)

    def predict_chunk(self, images, state, instruction, noise=None, steps=None):
        """images: {camera: uint8 [h, w, 3]}, state [S] in robot units -> float32 [H, A] in robot units."""
        facts, steps = self.facts, steps or self.facts["num_steps"]
        cameras = [camera for camera in facts["slots"] if camera is not None]
        pixels = np.concatenate([letterbox(images[camera], facts["image_size"]) for camera in cameras])
        slots = facts["slots"] if facts["image_special_tokens"] else cameras  # an empty slot changes nothing otherwise
        seen = np.array([[camera is not None for camera in slots]])
        (tokens,) = self.vision.run(None, {"images": pixels})
        spread = np.zeros((1, len(slots), *tokens.shape[1:]), np.float32)
        spread[seen] = tokens
        ids = self.tokenizer.encode(instruction if instruction.endswith("\n") else instruction + "\n").ids
        if not instruction.strip() or len(ids) > facts["max_tokens"]:
            raise ValueError(f"{instruction!r} has {len(ids)} tokens, at most {facts['max_tokens']} fit")
        normal = np.zeros((1, facts["max_state_dim"]), np.float32)
        normal[0, : len(state)] = np.asarray(state, np.float32) * facts["state"]["scale"] + facts["state"]["offset"]
        feed = {"image_tokens": spread, "image_masks": seen, "tokens": np.array([ids]), "state": normal}
        values = self.prefix.run(None, {**feed, "token_mask": np.ones((1, len(ids)), bool)})
        read = dict(zip([output.name for output in self.prefix.get_outputs()], values, strict=True))
        drawn = np.random.default_rng().standard_normal((facts["chunk"], facts["max_action_dim"]))
        x = np.asarray(drawn if noise is None else noise, np.float32)[None]
        for step in range(steps):  # Euler from t = 1 (noise) to t = 0 (actions)
            angles = np.array(facts["frequencies"]) * np.float32(1 - step / steps)
            clock = np.concatenate([np.sin(angles), np.cos(angles)])[None].astype(np.float32)
            x = x - self.denoise.run(None, {**read, "noisy": x, "clock": clock})[0] / np.float32(steps)
        action = facts["action"]
        chunk = (x[0, :, : len(action["scale"])] * action["scale"] + action["offset"]).astype(np.float32)
        for at, joint in np.argwhere(~np.isfinite(chunk)):  # never to a robot
            raise ValueError(f"{chunk[at, joint]} for {action['joints'][joint]} at step {at} of the chunk: no action")
        return chunk


def verified(folder):
    """policy.json; ValueError where it, or a file that it lists, is not as it was exported (compare `b2sum -l 256`)."""
    facts = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    for name, digest in {"policy.json": facts.pop("digest", None), **facts.get("digests", {})}.items():
        rest = json.dumps(facts, sort_keys=True).encode()
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing, or no file: copy or export the folder again")
        content = rest if name == "policy.json" else np.memmap(folder / name, mode="r")
        if hashlib.blake2b(content, digest_size=32).hexdigest() != digest:
            raise ValueError(f"{folder / name} is damaged, or was changed: copy or export the folder again")
    return facts


def letterbox(image, size):
    """uint8 [h, w, 3] -> float32 [1, 3, size, size] in [-1, 1]: bilinear, black on the top and left, as in training."""
    image, shape = np.asarray(image, np.float32) / 255, np.shape(image)[:2]
    if size and shape != (size, size):
        fitted = [max(int(length / (max(shape) / size)), 1) for length in shape]
        for axis, (old, new) in enumerate(zip(shape, fitted, strict=True)):
            at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, None)
            low = np.minimum(at.astype(int), old - 1)
            share = np.expand_dims((at - low).astype(np.float32), (1 - axis, 2))
            image = image.take(low, axis) * (1 - share) + image.take(np.minimum(low + 1, old - 1), axis) * share
        image = np.pad(image, [(size - length, 0) for length in fitted] + [(0, 0)])
    return (image * 2 - 1).transpose(2, 0, 1)[None].astype(np.float32)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    try:
        policy, frame = ExportedPolicy(folder), np.load(folder / "example_frame.npz")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    images = {name.removeprefix("image."): frame[name] for name in frame.files if name.startswith("image.")}
    chunk = policy.predict_chunk(images, frame["state"], str(frame["instruction"]), frame["noise"])
    print("next action:", ", ".join(map("{} {:.3f}".format, policy.facts["action"]["joints"], chunk[0])))
    print(f"largest difference from the plain network: {np.abs(chunk - frame['chunk']).max():.2e}")
