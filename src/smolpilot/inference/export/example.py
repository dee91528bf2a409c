"""Runs the exported policy with onnxruntime, numpy and tokenizers alone:  python example.py [FOLDER]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class ExportedPolicy:
    """Camera pictures, joint state and instruction in; the next actions, in the robot's units, out."""

    def __init__(self, folder, providers=("CPUExecutionProvider",)):
        folder = Path(folder)
        self.facts = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vision, self.prefix, self.denoise = (
            onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=list(providers))
            for name in ("vision", "prefix", "denoise")
        )

    def predict_chunk(self, images, state, instruction, noise=None, steps=None):
        """images: {camera: uint8 [h, w, 3]}, state [S] in robot units -> float32 [H, A] in robot units."""
        facts = self.facts
        steps = steps or facts["num_steps"]
        cameras = [camera for camera in facts["slots"] if camera is not None]
        pictures = np.concatenate([letterbox(images[camera], facts["image_size"]) for camera in cameras])
        (tokens,) = self.vision.run(None, {"images": pictures})
        slots = facts["slots"] if facts["image_special_tokens"] else cameras  # an empty slot changes nothing otherwise
        spread = np.zeros((1, len(slots), *tokens.shape[1:]), np.float32)
        seen = np.array([[camera is not None for camera in slots]])
        spread[seen] = tokens
        ids = self.tokenizer.encode(instruction if instruction.endswith("\n") else instruction + "\n").ids
        if not instruction.strip() or len(ids) > facts["max_tokens"]:
            raise ValueError(
                f"{instruction!r} has {len(ids)} tokens with its newline, at most {facts['max_tokens']} fit"
            )
        normal = np.zeros((1, facts["max_state_dim"]), np.float32)
        normal[0, : len(state)] = np.asarray(state, np.float32) * facts["state"]["scale"] + facts["state"]["offset"]
        names = [output.name for output in self.prefix.get_outputs()]
        feed = {"image_tokens": spread, "image_masks": seen, "tokens": np.array([ids]), "state": normal}
        values = self.prefix.run(None, {**feed, "token_mask": np.ones((1, len(ids)), bool)})
        read = dict(zip(names, values, strict=True))
        if noise is None:
            noise = np.random.default_rng().standard_normal((facts["chunk"], facts["max_action_dim"]))
        x = np.asarray(noise, np.float32)[None]
        time, share = facts["time"], np.linspace(0, 1, facts["time"]["width"] // 2)
        periods = time["min_period"] * (time["max_period"] / time["min_period"]) ** share
        for step in range(steps):  # Euler from t = 1 (noise) to t = 0 (actions)
            angles = 2 * np.pi / periods * np.float32(1 - step / steps)
            clock = np.concatenate([np.sin(angles), np.cos(angles)])[None].astype(np.float32)
            x = x - self.denoise.run(None, {**read, "noisy": x, "clock": clock})[0] / np.float32(steps)
        action = facts["action"]
        return (x[0, :, : len(action["scale"])] * action["scale"] + action["offset"]).astype(np.float32)


def letterbox(picture, size):
    """uint8 [h, w, 3] -> float32 [1, 3, size, size] in [-1, 1]: bilinear, black on the top and left, as in training."""
    image = np.asarray(picture, np.float32) / 255
    (height, width), ratio = image.shape[:2], max(image.shape[:2]) / size if size else 1
    if size and (height, width) != (size, size):
        rows, columns = (max(int(length / ratio), 1) for length in (height, width))
        for axis, (old, new) in enumerate(((height, rows), (width, columns))):
            at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, None)
            low = np.minimum(at.astype(int), old - 1)
            share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            image = image.take(low, axis) * (1 - share) + image.take(np.minimum(low + 1, old - 1), axis) * share
        image = np.pad(image, ((size - rows, 0), (size - columns, 0), (0, 0)))
    return (image * 2 - 1).transpose(2, 0, 1)[None].astype(np.float32)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    policy, frame = ExportedPolicy(folder), np.load(folder / "example_frame.npz")
    images = {name.removeprefix("image."): frame[name] for name in frame.files if name.startswith("image.")}
    chunk = policy.predict_chunk(images, frame["state"], str(frame["instruction"]), frame["noise"])
    joints = policy.facts["action"]["joints"]
    print(f"next action: {', '.join(f'{name} {value:.3f}' for name, value in zip(joints, chunk[0], strict=True))}")
    print(f"largest difference from the plain network: {np.abs(chunk - frame['chunk']).max():.2e}")
