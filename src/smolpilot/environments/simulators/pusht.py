"""PushT (gym-pusht): a round pusher moves a T-shaped block onto its target; with people's demonstrations.

Imports the standard library, numpy and gym-pusht's packages only: it runs in any interpreter that has them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from pathlib import Path
from typing import Any

import numpy as np

NEEDS = "gym-pusht"
PINS = ("gym-pusht==0.1.8", "pymunk==6.11.1", "numpy==2.2.6", "setuptools==81.0.0")
RATE, MAX_STEPS = 10.0, 300
RECORDED = 206  # episodes that people have played: see pusht_human/README.md
_FARTHEST = 121.0  # px from the block's origin to the corner of the T that is farthest from it


class PushtSimulation:
    """PushT, without smolpilot's types. Images are drawn only when asked for.

    Raises ValueError(found, expected, fix) for settings that cannot be.
    """

    def __init__(
        self, width: int = 96, height: int = 96, keypoints: bool = False, max_steps: int = MAX_STEPS,
        end_on_success: bool = True,
    ) -> None:  # fmt: skip
        """width, height: of the image, px. keypoints: the state holds the T's corners [16] after the pusher [2]."""
        for name, value in (("width", width), ("height", height), ("max_steps", max_steps)):
            if not 1 <= value <= 10_000:
                raise ValueError(f"Setting '{name}' of the environment 'pusht' is {value}.", "1 to 10,000", "")
        # pygame draws into memory here; without a display it must not look for one, and need not greet.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import gym_pusht.envs.pusht as gym_pusht

        self._env: Any = gym_pusht.PushTEnv(
            obs_type="environment_state_agent_pos", observation_width=width, observation_height=height
        )
        self._keypoints, self._max_steps, self._end_on_success = keypoints, max_steps, end_on_success
        self._steps, self._coverage, self._best, self._state = 0, 0.0, 0.0, np.zeros(2)
        self.facts: dict[str, Any] = {
            "rate": RATE,
            "max_steps": max_steps,
            "goal": "the T covers more than 95 % of its target",
            "labels": {"timeout": "ran out of time"},
            "joints": 2,
            "cameras": {"image": [height, width]},
            "render": {"width": width, "height": height},
            "physics": {},
            "packages": {name: importlib.metadata.version(name) for name in ("gym-pusht", "pymunk", "numpy")},
        }

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin the episode of the seed, gym-pusht's own."""
        seen, _ = self._env.reset(seed=seed)
        return self._begun(seen)

    def reset_to(self, state: Any) -> dict[str, Any]:
        """Begin where a recording does: [5], pusher x, y, block x, y (px) and angle (rad), all at rest.

        The angle is set before the position: the block turns about its center of mass, which is not its origin, so the
        other order, which gym-pusht's own `reset_to_state` keeps, leaves it up to 114 px away.
        """
        self._env.reset(seed=0)
        env = self._env
        env.agent.velocity, env.block.velocity, env.block.angular_velocity = (0, 0), (0, 0), 0
        env.agent.position = tuple(map(float, state[:2]))
        env.block.angle = float(state[4])
        env.block.position = tuple(map(float, state[2:4]))
        for body in (env.agent, env.block):
            env.space.reindex_shapes_for_body(body)  # else they are drawn, and met, where they were
        return self._begun(env.get_obs())

    def begin_recorded(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the episode that a person played: its info, and its actions [T, 2] and states [T, 5].

        Where its recording began, not at its first state: the recorder had made a physics step, whose contacts decide
        where the block goes in the 22 episodes in which it overlaps the pusher or a wall.
        """
        if not 0 <= number < RECORDED:
            raise ValueError(f"There is no recorded episode {number} of PushT.", f"0 to {RECORDED - 1}", "")
        drawn = np.random.RandomState(number)  # the recorder's generator
        start = [*drawn.randint(50, 450, 2), *drawn.randint(100, 400, 2), drawn.randn() * 2 * np.pi - np.pi]
        seen, _ = self._env.reset(seed=0, options={"reset_to_state": start})
        recording = _recording()
        rows = slice(*recording["bounds"][number : number + 2])
        return self._begun(seen), {name: recording[name][rows] for name in ("actions", "states")}

    def replay(self, number: int, actions: Any = None) -> dict[str, Any]:
        """Play a recorded episode again, by default with its own actions, and compare.

        block_px: the farthest that any point of the block is from where the recording has it, at any step.
        max_coverage, recorded_coverage: the largest at the recorded instants, here and there. A recording does not say
        what its last action led to; best_coverage counts that, too.
        """
        _, recorded = self.begin_recorded(number)
        farthest, best = 0.0, 0.0
        for step, action in enumerate(recorded["actions"] if actions is None else actions, 1):
            self.act(action)
            if step < len(recorded["states"]):
                off = self.where() - recorded["states"][step]
                turned = abs((off[4] + np.pi) % (2 * np.pi) - np.pi)
                farthest, best = max(farthest, float(np.hypot(*off[2:4]) + _FARTHEST * turned)), self._best
        return {
            "block_px": farthest,
            "max_coverage": best,
            "recorded_coverage": float(_recording()["max_coverage"][number]),
            "best_coverage": self._best,
            "success": self._best > self._env.success_threshold,
        }

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step of 0.1 s towards the pusher's target [2] in px; how the episode ended."""
        seen, _, _, _, info = self._env.step(np.asarray(action, np.float64))
        self._take(seen)
        self._steps += 1
        self._coverage = float(info["coverage"])
        self._best = max(self._best, self._coverage)
        reached = self._best > self._env.success_threshold
        if self._steps < self._max_steps and not (reached and self._end_on_success):
            return None
        facts = {"coverage": self._coverage, "max_coverage": self._best}
        held = None if self._end_on_success else self._coverage > self._env.success_threshold
        return {
            "success": reached, "label": "success" if reached else "timeout", "facts": facts, "success_at_end": held
        }  # fmt: skip

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [2] or [18] in px and, where it is asked for, the image, uint8 [h, w, 3]."""
        return np.asarray(self._state, np.float32), {"image": self._env._render()} if images else {}

    def render(self) -> Any:
        """The view for people with the action as a cross, uint8 [680, 680, 3]."""
        return self._env.render()

    @property
    def best_coverage(self) -> float:
        """The largest share of the target that the T has covered in this episode."""
        return self._best

    def where(self) -> Any:
        """Pusher x, y, block x, y (px) and angle (rad), [5]: what a recording is compared with."""
        env = self._env
        return np.array([*env.agent.position, *env.block.position, env.block.angle])

    def close(self) -> None:
        """Free pygame."""
        self._env.close()

    def _begun(self, seen: Any) -> dict[str, Any]:
        self._take(seen)
        self._steps, self._coverage, self._best = 0, 0.0, 0.0
        x, y = self._env.block.position
        return {"groups": {"start": f"{'upper' if y < 256 else 'lower'} {'left' if x < 256 else 'right'}"}}

    def _take(self, seen: Any) -> None:
        parts = [seen["agent_pos"], seen["environment_state"]] if self._keypoints else [seen["agent_pos"]]
        self._state = np.concatenate(parts)


@functools.cache
def _recording() -> dict[str, Any]:
    """All episodes one after the other: actions [N, 2], states [N, 5], bounds [207] and max_coverage [206]."""
    with np.load(Path(__file__).parent / "pusht_human" / "states_actions.npz") as stored:
        bounds = np.array([0, *stored["episode_ends"]])
        return {
            "actions": stored["action"], "states": stored["state"], "bounds": bounds,
            "max_coverage": stored["max_coverage"],
        }  # fmt: skip


SIMULATION = PushtSimulation
