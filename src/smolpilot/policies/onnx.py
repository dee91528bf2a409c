"""An export folder of `smolpilot export` as a Policy: onnxruntime, numpy and tokenizers compute, no torch.

The folder's own example.py is not run: it is code of whoever made the folder. The one that this version ships does the
same work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import CheckpointError, NotFiniteError, SmolpilotError, TransformError, UsageError
from smolpilot.common.json_input import read_json_file
from smolpilot.common.keys import TASK
from smolpilot.common.text import plain, shown
from smolpilot.contracts.observation import Floats, Observation
from smolpilot.contracts.policy import (
    RANDOM,
    TOKENS,
    Embodiment,
    Leftover,
    Policy,
    PolicyFacts,
    PolicyOptions,
    PolicySpec,
)
from smolpilot.robots import RobotProfile, list_profiles
from smolpilot.robots.demonstrated import read_demonstrated
from smolpilot.robots.layout import FrameLayout
from smolpilot.robots.units import SPELLINGS
from smolpilot.smolvla.transforms.camera_slots import pair_embodiment
from smolpilot.smolvla.transforms.frame_cameras import check_cameras, has_image

from .checked_observations import read_image, read_instruction, read_state, refuse_previous

FACTS = "policy.json"
_FORMAT = 1


class OnnxPolicy(Policy):
    """The exported graphs, one observation at a time."""

    spec: PolicySpec

    def __init__(self, exported: Any, spec: PolicySpec) -> None:
        """exported: the ExportedPolicy of `inference.export.example`."""
        self._exported, self.spec, self._steps = exported, spec, spec.facts.num_steps

    def predict(
        self,
        observations: Sequence[Observation],
        *,
        seeds: Sequence[int] | None = None,
        previous: Leftover | None = None,
    ) -> Floats:
        """As the contract says; a seed gives the noise that it gives SmolVLA, up to the last bits (`drawn_noise`)."""
        refuse_previous(previous, "an export")
        shape = (self.spec.chunk_size, self._exported.facts["max_action_dim"])
        fresh = np.random.default_rng()
        chunks = []
        for i, observation in enumerate(observations):
            noise = drawn_noise(seeds[i], shape) if seeds is not None else fresh.standard_normal(shape)
            chunks.append(self.predict_from(observation, noise))
        return np.stack(chunks) if chunks else np.zeros((0, self.spec.chunk_size, self.spec.action_dim), np.float32)

    def predict_from(self, observation: Observation, noise: npt.ArrayLike) -> Floats:
        """The chunk [H, A] from that noise [H, max_action_dim], for comparisons with other runtimes."""
        spec = self.spec
        state = read_state(observation, spec.state_dim)
        check_cameras(observation, spec.facts.camera_map)
        images = {}
        for camera, slot in spec.facts.camera_map.items():
            if slot is None:
                continue
            if not has_image(observation, camera):
                raise TransformError(
                    f"Camera '{camera}' delivers no image; an exported policy needs each of its cameras."
                )
            images[slot] = read_image(observation, camera)
        text = read_instruction(observation)
        count, room = self.token_room(text)
        if count > room:
            raise TransformError(
                f"The instruction {shown(text)} has {count} tokens.",
                expected=f"at most {room}, as the policy was trained",
                fix="say it in fewer words",
            )
        try:
            chunk: Floats = self._exported.predict_chunk(images, state, text, noise, self._steps)
        except ValueError as error:  # all else that it refuses was looked at before
            raise NotFiniteError(
                f"The exported policy computes {error}.",
                expected="finite numbers: nothing else may reach a robot",
                fix="stop the robot; export the policy again, as fp32",
            ) from None
        return chunk

    def token_room(self, instruction: str) -> tuple[int, int]:
        """How many tokens an instruction has, and how many there is room for. TransformError for an empty one."""
        text = read_instruction({TASK: instruction})
        whole = text if text.endswith("\n") else text + "\n"
        return len(self._exported.tokenizer.encode(whole).ids), int(self._exported.facts["max_tokens"])

    def close(self) -> None:
        """Let go of the graphs."""
        del self._exported


def open_onnx(folder: str | Path, options: PolicyOptions, embodiment: Embodiment | None) -> OnnxPolicy:
    """The policy in an export folder, its files compared with their digests; on the CPU.

    UsageError without onnxruntime, for options that an export does not have, and for cameras that do not pair;
    CheckpointError for a folder that is damaged or not an export of this format.
    """
    begin, folder = time.perf_counter(), Path(folder)
    options.only("an exported policy", "device", "camera_map", "num_steps")
    if options.device not in ("auto", "cpu"):
        raise UsageError(f"The device is '{options.device}'.", expected="auto or cpu, where an export runs")
    try:
        from smolpilot.inference.export import example
    except ImportError as error:
        raise UsageError(
            f"An exported policy needs the package onnxruntime ({error}).", fix="pip install 'smolpilot[export]'"
        ) from error
    _check_format(folder)
    try:
        exported: Any = example.ExportedPolicy(folder)  # type: ignore[no-untyped-call]
        return OnnxPolicy(exported, _spec(exported.facts, folder, options, embodiment, begin))
    except ValueError as error:
        raise CheckpointError(f"{plain(error)}.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / FACTS} is not as an export writes it ({type(error).__name__}: {shown(str(error))}).",
            fix="export the policy again",
        ) from error
    except SmolpilotError:
        raise
    except Exception as error:  # onnxruntime and tokenizers have exceptions of their own
        raise CheckpointError(
            f"The graphs or the tokenizer in {folder} cannot be loaded: {plain(error, 300)}",
            fix="copy or export the folder again",
        ) from error


def drawn_noise(seed: int, shape: tuple[int, int]) -> Floats:
    """`torch.randn(shape, generator=torch.Generator().manual_seed(seed))` without torch, up to the last bits.

    So an export and the policy that it came from start from the same noise for the same seed. torch seeds its Mersenne
    Twister by the lower 32 bits, makes uniform numbers of 24 bits, and pairs them by Box and Muller in blocks of 16
    (aten/src/ATen/native/cpu/DistributionTemplates.h, normal_fill); the last block ends with the last number.
    """
    count = shape[0] * shape[1]
    if count < 16:
        raise UsageError(f"The noise has {count} values.", expected="at least 16")
    bits = np.random.RandomState(seed & 0xFFFF_FFFF)
    noise = _uniform(bits, count)
    starts = list(range(0, count - 15, 16))
    for start in starts:
        noise[start : start + 16] = _box_muller(noise[start : start + 16])
    if count % 16:
        noise[-16:] = _box_muller(_uniform(bits, 16))
    return noise.reshape(shape)


def _uniform(bits: np.random.RandomState, count: int) -> Floats:
    """Numbers in [0, 1) of 24 bits."""
    drawn = np.frombuffer(bits.bytes(4 * count), dtype="<u4") & 0xFF_FFFF
    return (drawn / np.float32(2**24)).astype(np.float32)


def _box_muller(uniform: Floats) -> Floats:
    radius = np.sqrt(-2 * np.log(1 - uniform[:8]))
    angle = np.float32(2 * np.pi) * uniform[8:]
    normal: Floats = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32)
    return normal


def _check_format(folder: Path) -> None:
    """CheckpointError where policy.json is none, or of another format."""
    try:
        facts = read_json_file(folder / FACTS)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder / FACTS} cannot be read: {plain(error, 300)}", fix="copy or export the folder again"
        ) from error
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != _FORMAT:
        raise CheckpointError(
            f"{folder / FACTS} has the format {shown(found)}.",
            expected=f"{_FORMAT}, as `smolpilot export` writes it",
            fix="export the policy again with this version",
        )


def _spec(
    facts: Mapping[str, Any], folder: Path, options: PolicyOptions, embodiment: Embodiment | None, begin: float
) -> PolicySpec:
    state, action = facts["state"]["joints"], facts["action"]["joints"]
    slots = [camera for camera in facts["slots"] if camera is not None]
    pairing = pair_embodiment(slots, embodiment, options.camera_map)
    notes, profile = list(pairing.notes), None
    if facts["robot"] in list_profiles():
        shipped = RobotProfile.load(facts["robot"])
        own = FrameLayout.of_profile(shipped)
        if (list(own.state.names), list(own.action.names)) == (state, action):
            profile = shipped
    elif facts["robot"] is not None:
        notes.append(
            f"limits of the robot '{plain(facts['robot'], 80)}' are unknown: no profile of that name is shipped"
        )
    steps = facts["num_steps"] if options.num_steps is None else options.num_steps
    return PolicySpec(
        name="onnx",
        state_dim=len(state),
        action_dim=len(action),
        chunk_size=facts["chunk"],
        n_action_steps=facts["n_action_steps"] if "n_action_steps" in facts else facts["execution_horizon"],
        cameras=tuple(camera for camera, slot in pairing.map.items() if slot is not None),
        profile=profile,
        action_names=tuple(action),
        action_units=tuple(SPELLINGS.get(unit, unit) for unit in facts["action"]["units"]),
        instructions=tuple(facts["instructions"]),
        rate=facts["rate"],
        capabilities=frozenset({RANDOM, TOKENS}),
        demonstrated=read_demonstrated(folder),
        facts=PolicyFacts(
            source=str(folder),
            kind="onnx",
            precision=facts["precision"],
            memory_bytes=sum(path.stat().st_size for path in folder.glob("*.onnx*")),
            load_seconds=time.perf_counter() - begin,
            num_steps=steps,
            camera_map=pairing.map,
            notes=tuple(notes),
            warnings=tuple(pairing.warnings),
        ),
    )
