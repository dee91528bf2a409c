"""The policy beside an arm, in a process of its own: `python -m smolpilot.policies.policy_process`.

Started by the control process (`runtime/robot_run/policy_link.py`), which says on standard input what to open, and then
asks for chunks. It may take as long as it likes, crash or be killed: the arm is in other hands.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydantic

from smolpilot.common.errors import CheckpointError, DeviceError, NotFiniteError, SmolpilotError
from smolpilot.common.keys import STATE, image_key
from smolpilot.common.text import LIMIT, plain
from smolpilot.contracts import GUIDED, TOKENS, TWO_STAGE, Embodiment, Leftover, Policy, PolicyOptions, make_observation
from smolpilot.robots import RobotProfile
from smolpilot.runtime.cameras.shared_frames import SharedFrame, SharedFrameReader, frames_file
from smolpilot.runtime.robot_run.protocol import (
    Answered,
    AskLine,
    AskNumbers,
    Blocks,
    ChunkNumbers,
    OpenPolicy,
    PolicyAbout,
    Refused,
    StateNumbers,
    end_with_input,
)

_IMAGE_S = 5.0  # that a camera's first image is waited for


def main() -> int:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints, prints into the log
    end_with_input()
    first = sys.stdin.buffer.readline()
    if not first:
        return 0
    request = OpenPolicy.model_validate_json(first)
    with contextlib.suppress(OSError):  # a system that has no such thing
        os.nice(request.nice)
    try:
        policy = open_for(request)
        say(answers, about(policy, request))
    except SmolpilotError as error:
        say(answers, Refused.of(error))
        return 0
    Served(policy, Path(request.folder), answers).serve(sys.stdin.buffer)
    policy.close()
    return 0


def open_for(request: OpenPolicy) -> Policy:
    """Open what is asked for, for this robot. SmolpilotError for what cannot run on one."""
    from .opening import open_policy

    profile = RobotProfile.from_yaml(request.profile)
    body = Embodiment(
        owner=request.owner,
        cameras=request.cameras,
        state_names=tuple(joint.name for joint in profile.state_joints),
        action_names=tuple(joint.name for joint in profile.action_joints),
        profile=profile,
        rate=profile.rate,
    )
    options = PolicyOptions(
        device=request.device,
        engine=request.engine,
        camera_map=request.camera_map,
        num_steps=request.num_steps,
        tokenizer=None if request.tokenizer is None else Path(request.tokenizer),
        stats_from=None if request.stats_from is None else Path(request.stats_from),
    )
    return open_policy(request.source, options, body)


def about(policy: Policy, request: OpenPolicy) -> PolicyAbout:
    """What the control process has to know of it."""
    spec = policy.spec
    profile, facts = spec.profile, spec.facts
    state = [] if profile is None else profile.state_joints
    action = [] if profile is None else profile.action_joints
    tokens = None
    if TOKENS in spec.capabilities and request.instruction:
        tokens = policy.token_room(request.instruction)  # type: ignore[attr-defined]
    return PolicyAbout(
        name=spec.name,
        policy_kind=facts.kind,
        chunk_size=spec.chunk_size,
        n_action_steps=spec.n_action_steps,
        n_obs_steps=spec.n_obs_steps,
        state_dim=spec.state_dim,
        action_dim=spec.action_dim,
        state_names=tuple(joint.name for joint in state),
        state_units=tuple(str(joint.unit) for joint in state),
        action_names=tuple(joint.name for joint in action) or spec.action_names,
        action_units=tuple(str(joint.unit) for joint in action) or spec.action_units,
        cameras=spec.cameras,
        image_sizes={name: (int(size[0]), int(size[1])) for name, size in spec.image_sizes.items()},
        instructions=spec.instructions,
        rate=spec.rate,
        capabilities=tuple(sorted(spec.capabilities)),
        demonstrated=spec.demonstrated,
        digest=_digest(facts.source),
        engine=facts.engine,
        precision=facts.precision,
        device=str(facts.device),
        memory_bytes=facts.memory_bytes,
        notes=tuple(facts.notes),
        warnings=tuple(facts.warnings),
        instruction_tokens=tokens,
    )


def _digest(source: str) -> str | None:
    """One digest of a bundle's own, for the log; None for what has none."""
    from smolpilot.common.hashing import content_digest
    from smolpilot.smolvla.checkpoint.locate import existing, locate
    from smolpilot.smolvla.checkpoint.sealing import FACTS

    if existing(source) is None:
        return None
    try:
        return content_digest((locate(source).folder / FACTS).read_bytes())
    except (OSError, SmolpilotError):
        return None


class Served:
    """A policy, the blocks and frames that it looks at, and the pipe for its answers."""

    def __init__(self, policy: Policy, folder: Path, answers: IO[bytes]) -> None:
        self._policy, self._folder, self._answers = policy, folder, answers
        self._blocks = Blocks.at(folder)
        self._readers: dict[str, SharedFrameReader] = {}
        self._images: dict[str, SharedFrame] = {}

    def serve(self, asked: IO[bytes]) -> None:
        """Answer each line until there are no more."""
        while line := asked.readline():
            request = AskLine.model_validate_json(line)
            try:
                if request.reset:
                    self._policy.reset()
                answer: pydantic.BaseModel = self._answer(request)
            except SmolpilotError as error:
                answer = Refused.of(error, request.id)
            except Exception as error:  # of a policy of somebody else's: the arm's process says it, and stops
                told = plain(error, LIMIT) or type(error).__name__
                answer = Refused(id=request.id, found=f"The policy failed: {told}")
            say(self._answers, answer)

    def _answer(self, request: AskLine) -> Answered:
        numbers = self._blocks.ask.read()
        asked = None if numbers is None else AskNumbers.unpack(numbers)
        if asked is None or asked.id != request.id:
            raise DeviceError("What was asked for could not be read.")
        capabilities = self._policy.spec.capabilities
        images = {name: self._newest(name) for name in self._policy.spec.cameras}
        shown = {name: one.image for name, one in images.items()}
        stamps = [one.captured_at for one in images.values()]
        if TWO_STAGE in capabilities:
            ticket = self._policy.begin(shown, request.instruction)  # type: ignore[attr-defined]
            state = self._state()
            more = self._previous(asked, state)
            chunk = self._policy.finish(  # type: ignore[attr-defined]
                state.state.astype(np.float32), ticket=ticket, seed=asked.seed, **more
            )
        else:
            state = self._state()
            times = {STATE: state.read_at} | {image_key(name): one.captured_at for name, one in images.items()}
            observation = make_observation(state.state, shown, request.instruction, captured_at=times)
            chunk = self._policy.predict([observation], seeds=[asked.seed], **self._previous(asked, state))[0]
        actions = self._checked(chunk)
        self._blocks.chunk.write(ChunkNumbers(request.id, state.read_at, min([state.read_at, *stamps]), actions).pack())
        ms = {str(name): float(value) for name, value in getattr(self._policy, "last_ms", {}).items()}
        return Answered(id=request.id, at=time.monotonic(), ms=ms)

    def _checked(self, chunk: Any) -> np.ndarray[Any, Any]:
        """The chunk [H, A]: what is none, or not finite, never gets to the arm's process."""
        actions = np.asarray(chunk, dtype=np.float64)
        spec = self._policy.spec
        if actions.ndim != 2 or not 1 <= len(actions) <= spec.chunk_size or actions.shape[1] != spec.action_dim:
            raise CheckpointError(
                f"The policy gave a chunk of shape {list(actions.shape)}.",
                expected=f"{[spec.chunk_size, spec.action_dim]}",
            )
        if not np.isfinite(actions).all():
            step, column = np.argwhere(~np.isfinite(actions))[0]
            raise NotFiniteError(f"The policy's chunk is not finite (step {step}, value {column}).")
        return actions

    def _previous(self, asked: AskNumbers, state: StateNumbers) -> dict[str, Any]:
        """What is left of the last chunk from this state on, which may be newer than the request."""
        if asked.leftover is None or GUIDED not in self._policy.spec.capabilities:
            return {}
        left = onward(asked.leftover, max(0.0, state.place - asked.place))
        if not len(left):
            return {}
        delay = max(0, asked.delay - int(np.floor(state.place - asked.place)))
        return {"previous": Leftover(left.astype(np.float32), min(delay, len(left)))}

    def _state(self) -> StateNumbers:
        numbers = self._blocks.state.read()
        if numbers is None:
            raise DeviceError("The joints' newest reading could not be had.")
        return StateNumbers.unpack(numbers)

    def _newest(self, camera: str) -> SharedFrame:
        """The newest image of a camera; the same as before where there is none newer."""
        deadline = time.monotonic() + _IMAGE_S
        while True:
            with contextlib.suppress(FileNotFoundError):
                if camera not in self._readers:
                    self._readers[camera] = SharedFrameReader(frames_file(self._folder, camera))
                before = self._images.get(camera)
                found = self._readers[camera].read(0 if before is None else before.number)
                if found is not None:
                    self._images[camera] = found
                if camera in self._images:
                    return self._images[camera]
            if time.monotonic() > deadline:
                raise DeviceError(f"No image of camera '{plain(camera)}' has come.")
            time.sleep(0.005)


def onward(leftover: np.ndarray[Any, Any], steps: float) -> np.ndarray[Any, Any]:
    """Rows [L, A] of a left-over as they are `steps` later: between two of them on the line that joins them."""
    whole, part = int(np.floor(steps)), steps - np.floor(steps)
    rest = leftover[whole:]
    if part < 1e-9 or len(rest) < 2:
        return rest
    moved: np.ndarray[Any, Any] = (1 - part) * rest[:-1] + part * rest[1:]
    return moved


def say(answers: IO[bytes], answer: pydantic.BaseModel) -> None:
    """One line; the reader may be gone, and then nobody wants it."""
    with contextlib.suppress(OSError):
        answers.write(answer.model_dump_json().encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
