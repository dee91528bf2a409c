"""Any gymnasium environment with a continuous action: where its state, images and success are is told.

Imports the standard library, numpy and gymnasium only: it runs in any interpreter that has them and the environment.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

NEEDS = "gymnasium, numpy and the environment's own package"
RENDER = "render"  # in place of an observation's key: the image that the environment renders
LABELS = {"failed": "ended without success", "timeout": "ran out of time"}


class GymnasiumSimulation:
    """A gymnasium environment, without smolpilot's types. Actions are never clipped.

    Raises ValueError(found, expected, fix) for what the user can put right: an environment that cannot be made, keys
    that are not there, shapes that do not fit.
    """

    def __init__(
        self,
        id: str,
        state_size: int,
        action_size: int,
        cameras: Mapping[str, Sequence[int]],
        state: Mapping[str, Any],
        images: Mapping[str, str],
        action: Mapping[str, Any],
        success: Mapping[str, Any],
        rate: float,
        goal: str,
        kwargs: Mapping[str, Any] = {},
        imports: Sequence[str] = (),
        max_steps: int | None = None,
    ) -> None:
        """state: `keys` of the parts of the state, joined by dots where mappings are nested, none for the observation
        itself. What is read is value * scale + offset, what is executed action * scale + offset. images: camera -> key
        of its image, or RENDER; cameras: their height and width. success: one of `info` (a key), `terminated`, `reward`
        (of a step, at least), `return` (their sum at the end, at least)."""
        self._id, self._images, self._success = id, dict(images), dict(success)
        self._keys, self._cameras = list(state["keys"]), {name: tuple(size) for name, size in cameras.items()}
        self._read = _line(state, state_size, "state")
        self._write = _line(action, action_size, "action")
        self._state_size = state_size
        self._seen: Any = None
        self._steps, self._outside, self._return, self._largest = 0, 0, 0.0, -np.inf
        self._env = _made(id, kwargs, imports, max_steps)
        limit = max_steps or getattr(self._env.spec, "max_episode_steps", None)
        try:
            if limit is None:
                raise ValueError(f"{id} has no limit of steps.", "", "give max_steps")
            self._check_action(action_size)
            self._begin(0)
        except BaseException:
            self._env.close()
            raise
        self._limit = int(limit)
        self.facts: dict[str, Any] = {
            "rate": rate,
            "max_steps": self._limit,
            "goal": goal,
            "labels": LABELS,
            "cameras": {name: list(size) for name, size in self._cameras.items()},
            "render": {},
            "physics": {"id": id, **{str(key): str(value) for key, value in kwargs.items()}},
            "packages": _versions([id, *imports]),
        }

    def reset(self, seed: int) -> dict[str, Any]:
        """Begin the episode of the seed, the environment's own."""
        self._begin(seed)
        return {}

    def act(self, action: Any) -> dict[str, Any] | None:
        """One step with the action [A]; how the episode ended. Facts: sum and largest of the rewards, and the steps
        whose action lay outside the action space."""
        space, (scale, offset) = self._env.action_space, self._write
        wanted = np.asarray(action, np.float64) * scale + offset
        self._outside += not (np.all(wanted >= space.low) and np.all(wanted <= space.high))
        self._seen, reward, terminated, truncated, info = self._env.step(wanted.astype(space.dtype))
        self._steps += 1
        self._return += float(reward)
        self._largest = max(self._largest, float(reward))
        late = bool(truncated) or self._steps >= self._limit
        success = self._succeeded(info, float(reward), bool(terminated), bool(terminated) or late)
        if not (success or terminated or late):
            return None
        facts = {
            "sum_of_rewards": self._return,
            "largest_reward": self._largest,
            "steps_outside_action_space": float(self._outside),
        }
        return {"success": success, "label": "success" if success else "failed" if terminated else "timeout",
                "facts": facts}  # fmt: skip

    def observe(self, *, images: bool = True) -> tuple[Any, dict[str, Any]]:
        """State [S] float32 and, where asked for, each camera's image, uint8 [h, w, 3]."""
        parts = [np.asarray(self._part(key), np.float64).reshape(-1) for key in self._keys or [""]]
        state = np.concatenate(parts)
        if state.shape != (self._state_size,):
            raise ValueError(
                f"The state of {self._id} has {state.size} numbers.",
                f"{self._state_size}: the joints of the profile",
                "choose the key of the state, or another profile",
            )
        scale, offset = self._read
        shown = {camera: self._image(camera, key) for camera, key in self._images.items()} if images else {}
        return (state * scale + offset).astype(np.float32), shown

    def render(self) -> Any:
        """The view for people, uint8 [h, w, 3] with even sides."""
        return even(self._rendered())

    def close(self) -> None:
        """Free what the environment holds."""
        self._env.close()

    def _begin(self, seed: int) -> None:
        self._seen, _ = self._env.reset(seed=seed)
        self._steps, self._outside, self._return, self._largest = 0, 0, 0.0, -np.inf
        self.observe()  # what does not fit is found before anything is played

    def _check_action(self, size: int) -> None:
        space = self._env.action_space
        if not hasattr(space, "low") or space.shape != (size,):
            raise ValueError(
                f"The action of {self._id} is {space}.", f"a Box of shape ({size},): the joints of the profile", ""
            )

    def _succeeded(self, info: Mapping[str, Any], reward: float, terminated: bool, last: bool) -> bool:
        (how, value), *_ = self._success.items()
        if how == "terminated":
            return terminated
        if how == "reward":
            return reward >= float(value)
        if how == "return":
            return last and self._return >= float(value)
        if not last and value not in info:
            return False  # some give it at the end only
        return bool(pick(info, str(value), f"info of {self._id}"))

    def _part(self, key: str) -> Any:
        found = pick(self._seen, key, f"observation of {self._id}")
        if isinstance(found, Mapping):
            keys = ", ".join(f"{key}.{inner}".strip(".") for inner in found)
            raise ValueError(f"The state of {self._id} is a mapping.", "", f"choose one or more of its keys: {keys}")
        return found

    def _image(self, camera: str, key: str) -> Any:
        image = self._rendered() if key == RENDER else np.asarray(self._part(key))
        wanted = (*self._cameras[camera], 3)
        if image.dtype != np.uint8 or image.shape != wanted:
            raise ValueError(
                f"Camera '{camera}' of {self._id} gives {image.dtype} {image.shape}.",
                f"uint8 {wanted}, as the profile says", "",
            )  # fmt: skip
        return image.copy()  # some environments draw into one buffer

    def _rendered(self) -> Any:
        from gymnasium.error import DependencyNotInstalled

        try:
            image = self._env.render()
        except (DependencyNotInstalled, ImportError) as error:
            raise ValueError(
                f"{self._id} cannot be rendered in {sys.executable}: {error}", "",
                "install that package there; without images and videos nothing is rendered (--video-episodes 0)",
            ) from error  # fmt: skip
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"{self._id} renders {type(image).__name__} {getattr(image, 'shape', '')}.",
                "an image [h, w, 3] uint8 with render_mode rgb_array", "",
            )  # fmt: skip
        return image


def pick(values: Any, key: str, what: str) -> Any:
    """What `key` stands for in nested mappings, its parts joined by dots; all of it for an empty one. ValueError."""
    parts = [key] if isinstance(values, Mapping) and key in values else [part for part in key.split(".") if part]
    for part in parts:
        there = list(map(str, values)) if isinstance(values, Mapping) else []
        if part not in there:
            raise ValueError(
                f"The {what} has no '{key}'.",
                f"one of {', '.join(there)}" if there else f"no key: the {what.partition(' ')[0]} is one array",
                near(part, there),
            )
        values = values[part]
    return values


def near(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'agent_pos'?`, or nothing."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"Did you mean '{found[0]}'?" if found else ""


def even(image: Any) -> Any:
    """The image with even sides, as video wants them: the last row and column twice where they are odd."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _made(id: str, kwargs: Mapping[str, Any], imports: Sequence[str], max_steps: int | None) -> Any:
    # pygame, where an environment draws with it, must not look for a display, and need not greet.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import gymnasium
    except ImportError as error:
        raise ValueError(
            f"gymnasium cannot be imported in {sys.executable}: {error}.", "an interpreter with gymnasium and numpy",
            f"{sys.executable} -m pip install gymnasium numpy",
        ) from error  # fmt: skip
    for name in imports:
        try:
            importlib.import_module(name)
        except Exception as error:  # modules raise what they like
            raise ValueError(
                f"The module {name} of `imports` cannot be imported in {sys.executable}: {error}.", "",
                "install what holds it there, or correct the name",
            ) from error  # fmt: skip
    limit = {} if max_steps is None else {"max_episode_steps": max_steps}
    try:
        return gymnasium.make(id, render_mode="rgb_array", disable_env_checker=True, **limit, **kwargs)
    except Exception as error:  # constructors raise what they like
        raise ValueError(
            f"gymnasium cannot make '{id}' in {sys.executable}: {type(error).__name__}: {error}", "",
            "check id, kwargs and imports (modules that register the id)",
        ) from error  # fmt: skip


def _line(form: Mapping[str, Any], size: int, what: str) -> tuple[Any, Any]:
    """Scale and offset, each one number for all or one for each."""
    found = []
    for name, alone in (("scale", 1.0), ("offset", 0.0)):
        values = np.asarray(form.get(name) or [alone], np.float64)
        if values.shape not in ((1,), (size,)):
            raise ValueError(f"{what}.{name} has {values.size} numbers.", f"one, or {size}: one for each joint", "")
        found.append(values)
    return found[0], found[1]


def _versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of gymnasium, numpy and what the environment comes from, as far as they can be told."""
    modules = [name.partition(":")[0].partition(".")[0] for name in names if ":" in name or "/" not in name]
    found = {}
    for name in ("gymnasium", "numpy", *dict.fromkeys(modules)):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


SIMULATION = GymnasiumSimulation
