"""What control process and policy process say to each other: lines of JSON on pipes, numbers in shared blocks.

The control process asks by a line on the policy's standard input, after it has put what it asks for into the block
`ask`. The policy process takes images and the newest state where they lie, and answers by a line after its chunk is in
the block `chunk`. It ends when its standard input does (`end_with_input`), so that nobody's death leaves it behind.
"""

from __future__ import annotations

import os
import select
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pydantic

from smolpilot.common.errors import SmolpilotError
from smolpilot.contracts.policy import EngineMode
from smolpilot.robots.demonstrated import Demonstrated

from .shared_block import Numbers, SharedBlock

STATE_BLOCK, ASK_BLOCK, CHUNK_BLOCK = "state", "ask", "chunk"
_LONGEST = 1_000 * 128 + 16  # numbers of a chunk
_ENDING_S = 3.0


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid")


class OpenPolicy(_Strict):
    """The first line to the policy process. folder: of the shared blocks and frames; profile: of the setup, as YAML;
    cameras: of the setup; instruction: the one of the first episode, None: the policy's own."""

    folder: str
    source: str
    owner: str
    profile: str
    cameras: tuple[str, ...]
    device: str = "auto"
    engine: EngineMode = "plain"
    camera_map: dict[str, str | None] = pydantic.Field(default_factory=dict)
    num_steps: int | None = None
    tokenizer: str | None = None
    stats_from: str | None = None
    instruction: str | None = None
    nice: int = 10


class Refused(_Strict):
    """Why a policy cannot be opened, or a chunk not be computed: a SmolpilotError as it crosses the pipe."""

    kind: Literal["refused"] = "refused"
    id: int | None = None
    found: str
    expected: str = ""
    fix: str = ""
    misuse: bool = False

    @classmethod
    def of(cls, error: SmolpilotError, id: int | None = None) -> Self:
        return cls(id=id, found=error.found, expected=error.expected, fix=error.fix, misuse=error.exit_code == 2)

    def error(self) -> SmolpilotError:
        """It again."""
        from smolpilot.common.errors import CheckpointError, UsageError

        kind = UsageError if self.misuse else CheckpointError
        return kind(self.found, expected=self.expected, fix=self.fix)


class PolicyAbout(_Strict):
    """What the control process has to know of the policy that was opened; as PolicySpec and PolicyFacts have it.

    instruction_tokens, token_room: of the instruction asked for, None where the policy does not tell.
    """

    kind: Literal["opened"] = "opened"
    name: str
    policy_kind: str
    chunk_size: int
    n_action_steps: int
    n_obs_steps: int
    state_dim: int
    action_dim: int
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    cameras: tuple[str, ...]
    image_sizes: dict[str, tuple[int, int]]
    instructions: tuple[str, ...]
    rate: float | None
    capabilities: tuple[str, ...]
    demonstrated: Demonstrated | None
    digest: str | None
    engine: str | None
    precision: str
    device: str
    memory_bytes: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    instruction_tokens: tuple[int, int] | None


class Answered(_Strict):
    """A chunk is in its block, since `at`, seconds on the monotonic clock. ms: by stage, where the policy tells."""

    kind: Literal["chunk"] = "chunk"
    id: int
    at: float
    ms: dict[str, float] = pydantic.Field(default_factory=dict)


class AskLine(_Strict):
    """A chunk is wanted; the rest is in the block. reset: the first one of an episode."""

    id: int
    instruction: str | None
    reset: bool = False


@dataclass(frozen=True, eq=False)
class AskNumbers:
    """What is asked for, as numbers. leftover [L, A] with `delay`, as Ask has them."""

    id: int
    place: float
    delay: int
    seed: int
    leftover: np.ndarray[Any, Any] | None

    def pack(self) -> Numbers:
        left = np.zeros((0, 0)) if self.leftover is None else np.asarray(self.leftover, dtype=np.float64)
        head = np.array([self.id, self.place, self.delay, self.seed, *left.shape], dtype=np.float64)
        return np.concatenate([head, left.ravel()])

    @classmethod
    def unpack(cls, numbers: Numbers) -> Self:
        id_, place, delay, seed, rows, columns = numbers[:6]
        left = numbers[6:].reshape(int(rows), int(columns)) if rows else None
        return cls(int(id_), float(place), int(delay), int(seed), left)


@dataclass(frozen=True, eq=False)
class StateNumbers:
    """The newest reading: when, at which place of the playback, and the state [S] in the profile's order and units."""

    read_at: float
    place: float
    state: Numbers

    def pack(self) -> Numbers:
        return np.concatenate([[self.read_at, self.place], self.state])

    @classmethod
    def unpack(cls, numbers: Numbers) -> Self:
        return cls(float(numbers[0]), float(numbers[1]), numbers[2:])


@dataclass(frozen=True, eq=False)
class ChunkNumbers:
    """A chunk [H, A]; when its state was read; when the oldest part of the observation was captured."""

    id: int
    state_at: float
    captured_at: float
    actions: Numbers

    def pack(self) -> Numbers:
        head = np.array([self.id, self.state_at, self.captured_at, *self.actions.shape], dtype=np.float64)
        return np.concatenate([head, np.asarray(self.actions, dtype=np.float64).ravel()])

    @classmethod
    def unpack(cls, numbers: Numbers) -> Self:
        id_, state_at, captured_at, rows, columns = numbers[:5]
        return cls(int(id_), float(state_at), float(captured_at), numbers[5:].reshape(int(rows), int(columns)))


@dataclass
class Blocks:
    """The three blocks of a folder."""

    state: SharedBlock = field()
    ask: SharedBlock = field()
    chunk: SharedBlock = field()

    @classmethod
    def at(cls, folder: Path, *, create: bool = False) -> Self:
        """Open them, or make them."""
        return cls(*(SharedBlock(folder / name, _LONGEST, create=create)
                     for name in (STATE_BLOCK, ASK_BLOCK, CHUNK_BLOCK)))  # fmt: skip


def end_with_input() -> None:
    """Let this process end when its standard input does, also while it computes, opens something or hangs.

    A thread waits for it. Who reads the end itself has `_ENDING_S` to close what is open.
    """
    threading.Thread(target=_watch_input, name="end with input", daemon=True).start()


def _watch_input() -> None:
    poll = select.poll()
    poll.register(0, 0)  # whether the other end was closed is told unasked
    poll.poll()
    time.sleep(_ENDING_S)
    os._exit(1)
