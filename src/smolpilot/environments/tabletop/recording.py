"""Record the scripted expert's demonstrations as a LeRobot v3.0 dataset."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from smolpilot.common.errors import DatasetError, UsageError, did_you_mean
from smolpilot.common.keys import ACTION
from smolpilot.environments.demonstrations.summary import RecordSummary
from smolpilot.environments.demonstrations.takes import Progress, Take, write_takes

from . import arm
from .colors import DEFAULT_COLORS
from .env import BLOCKS_PER_SCENE, CAMERAS, IMAGE_SIZE, RATE, Frame, TabletopEnv
from .scripted_expert import ScriptedExpert

ROBOT_TYPE = "tabletop"
_NOISE_MEMORY = 0.8  # share of a push that is left one frame later
_PATIENCE = 20  # demonstrations in a row that may fail before recording gives up


def record(
    path: str | Path,
    episodes: int,
    seed: int = 0,
    *,
    noise: float = 0.03,
    colors: Sequence[str] = DEFAULT_COLORS,
    target: str | None = None,
    keep_failures: bool = False,
    codec: Literal["h264", "hevc", "av1"] = "h264",
    progress: Progress | None = None,
) -> RecordSummary:
    """Write `episodes` successful demonstrations (with `keep_failures` whatever they are) to the new folder `path`.

    Consecutive demonstrations share a scene, once for each of its blocks: images alone then never tell the goal, and
    a policy that learned scenes by heart would fail half of them. `noise` (rad) pushes the executed joint targets while
    the clean ones are recorded, after DART (Laskey et al. 2017): the data then shows how to come back from small
    errors. With a `target` color only the demonstrations that go there are kept: one task of several, recorded in the
    same scenes as the others of the same seed. `progress(what, done, total)` is called per episode.
    Raises UsageError for an existing folder or unknown colors.
    """
    from smolpilot.datasets import DatasetWriter

    env, expert = TabletopEnv(colors=colors), ScriptedExpert()
    if target is not None and target not in colors:
        raise UsageError(f"The target '{target}' is not among the colors.", fix=did_you_mean(target, colors))

    def takes() -> Iterator[Take]:
        for scene, block in _demonstrations(env, seed, target):
            frames, success = demonstrate(env, expert, np.random.SeedSequence([seed, scene]), noise, block=block)
            yield Take(frames if success or keep_failures else [], success)

    def give_up() -> DatasetError:
        return DatasetError(f"{_PATIENCE} demonstrations in a row missed their block.", fix="record with less noise")

    with DatasetWriter(
        path,
        fps=RATE,
        state_names=arm.JOINT_NAMES,
        action_names=arm.JOINT_NAMES,
        cameras=dict.fromkeys(CAMERAS, (IMAGE_SIZE, IMAGE_SIZE)),
        robot_type=ROBOT_TYPE,
        codec=codec,
    ) as writer:
        tally = write_takes(writer, takes(), episodes, patience=_PATIENCE, give_up=give_up, progress=progress)
    return tally.summary(path, "tabletop", ROBOT_TYPE, RATE)


def _demonstrations(env: TabletopEnv, seed: int, target: str | None) -> Iterator[tuple[int, int]]:
    """(scene, block) of one demonstration after the other: each scene's blocks, or only that of the color `target`."""
    for scene in itertools.count():
        word = int(np.random.SeedSequence([seed, scene]).generate_state(1)[0])
        for block, color in enumerate(scene_colors(env, word)):
            if target in (None, color):
                yield scene, block


def scene_colors(env: TabletopEnv, seed: int) -> list[str]:
    """The colors of the scene that a seed draws, whichever of them is named."""
    _, info = env.reset(seed=seed)
    return list(info["colors"])


def demonstrate(
    env: TabletopEnv, expert: ScriptedExpert, seed: np.random.SeedSequence, noise: float, *, block: int = 0
) -> tuple[list[Frame], bool]:
    """One episode towards the scene's block number `block`: frames with the expert's clean `action`, and whether it
    touched that block."""
    scene, *pushes = (int(word) for word in seed.generate_state(1 + BLOCKS_PER_SCENE))
    rng = np.random.default_rng(pushes[block])
    colors = scene_colors(env, scene)
    # Naming the colors changes what is drawn next, so every block's episode names them: one scene for all.
    frame, _ = env.reset(seed=scene, options={"colors": colors, "target": colors[block]})
    push: npt.NDArray[np.float64] = np.zeros(len(arm.JOINT_NAMES))
    frames: list[Frame] = []
    while True:
        action = expert.action(env)
        frames.append({**frame, ACTION: action})
        push = _NOISE_MEMORY * push + noise * rng.normal(size=push.shape)
        frame, _, terminated, truncated, info = env.step(action + push)
        if terminated or truncated:
            return frames, bool(info["success"])
