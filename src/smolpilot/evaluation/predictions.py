"""What an offline evaluation measured: predicted and recorded chunks side by side, in robot units."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .metrics import Bools, Errors, Floats, chunk_errors

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Predictions at N scored frames with what was recorded; A joints in the robot's order, H steps a chunk.

    `hold` [N, A] is the state at each scored frame, nan for joints without a state of the same name. `recorded`,
    `recorded_episode` and `recorded_frame` hold every action of the scored episodes, for drawing.
    """

    predicted: F32  # [N, H, A]
    target: F32  # [N, H, A]
    is_pad: Bools  # [N, H]
    hold: F32  # [N, A]
    mean_action: Floats  # [A]
    episode_index: Ints  # [N]
    frame_index: Ints  # [N]
    recorded: F32  # [F, A]
    recorded_episode: Ints  # [F]
    recorded_frame: Ints  # [F]
    joints: list[str]
    units: list[str]
    limits: list[tuple[float, float] | None]
    fps: float
    execution_horizon: int
    instructions: dict[int, str] = field(default_factory=dict)  # by episode
    trained_span: Floats | None = None  # [A] range of the training actions, by which "hardly moves" is judged

    @property
    def horizon(self) -> int:
        return int(self.predicted.shape[1])

    @property
    def unit(self) -> str:
        """The unit of an average over joints; says so when they differ."""
        kinds = list(dict.fromkeys(self.units))
        return kinds[0] if len(kinds) == 1 else f"mixed: {', '.join(kinds)}"

    def errors(self) -> Errors:
        """Errors of the predictions."""
        return chunk_errors(self.predicted, self.target, self.is_pad)

    def errors_by_episode(self) -> dict[int, Errors]:
        """The same for each scored episode by itself."""
        rows_of = {int(episode): self.episode_index == episode for episode in np.unique(self.episode_index)}
        return {
            episode: chunk_errors(self.predicted[rows], self.target[rows], self.is_pad[rows])
            for episode, rows in rows_of.items()
        }

    def hold_errors(self) -> Errors | None:
        """Errors of the baseline that commands the state read at each scored frame.

        None when no joint has a state of the same name, nan for single ones without.
        """
        if np.isnan(self.hold).all():
            return None
        return chunk_errors(np.repeat(self.hold[:, None], self.horizon, axis=1), self.target, self.is_pad)

    def mean_action_errors(self) -> Errors | None:
        """Errors of the baseline that always commands the training's mean action; None where that is unknown."""
        if np.isnan(self.mean_action).any():
            return None
        chunks = np.broadcast_to(self.mean_action.astype(np.float32), self.predicted.shape)
        return chunk_errors(chunks, self.target, self.is_pad)


@dataclass(frozen=True)
class Trajectory:
    """One episode as drawn: times in seconds; gaps are nan."""

    episode: int
    times: Floats  # [L]
    truth: F32  # [L, A]
    executed: F32  # [L, A] chunks stitched as a robot would run them: planned anew every execution horizon
    plans: list[tuple[Floats, F32]]  # (times [h], chunk [h, A]) of the scored frames, in-episode steps only


def trajectory(scored: Predictions, episode: int) -> Trajectory:
    """Stitch the chunks of one episode: each runs for the execution horizon, then that of the next scored frame."""
    rows = scored.recorded_episode == episode
    truth, first = scored.recorded[rows], int(scored.recorded_frame[rows][0])
    length = len(truth)
    executed = np.full_like(truth, np.nan)
    plans: list[tuple[Floats, F32]] = []
    due = 0
    for n in np.flatnonzero(scored.episode_index == episode):
        start = int(scored.frame_index[n]) - first
        stop = min(start + scored.horizon, length)
        chunk = scored.predicted[n, : stop - start]
        plans.append((np.arange(start, stop) / scored.fps, chunk))
        if start >= due:
            # Until the next plan takes over; with a wide --every that is later than the execution horizon.
            executed[start:stop] = chunk
            due = start + scored.execution_horizon
    return Trajectory(episode, np.arange(length) / scored.fps, truth, executed, plans)


def typical_episode(scored: Predictions) -> int:
    """The scored episode whose error is the median: a fair one to draw, neither the best nor the worst."""
    errors = {episode: own.mean_mae for episode, own in scored.errors_by_episode().items()}
    order = np.argsort(np.nan_to_num(list(errors.values()), nan=np.inf), kind="stable")
    return list(errors)[int(order[(len(order) - 1) // 2])]
