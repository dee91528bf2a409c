"""Environments of smolpilot's own interpreter, in a worker: `python -m smolpilot.environments.host`.

They speak the protocol of `simulators.worker`; what they are made of stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

from smolpilot.common.errors import UsageError
from smolpilot.common.keys import STATE, image_key
from smolpilot.contracts import Environment, EpisodeInfo, ExpertEnvironment, Image, Observation

from .making import make_environment
from .simulators.worker import serve


class HostedEnvironment:
    """An Environment as a simulation: what `simulation.SimulatedEnvironment` makes of it on the other side is one."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._seen: Observation = {}
        self.facts: dict[str, Any] = {"expert": bool(getattr(environment, "has_expert", False))}
        if hasattr(environment, "run"):
            self.run = self._run  # what the worker asks for: an environment without it is stepped

    def reset(self, seed: int, instruction: str | None = None) -> dict[str, Any]:
        with _said():
            asked = {} if instruction is None else {"instruction": instruction}
            self._seen, info = self._environment.reset(seed, **asked)
        return _told(info)

    def demonstrate(self, seed: int, instruction: str | None = None) -> tuple[dict[str, Any], int, dict[str, Any]]:
        """An episode of the environment's own expert."""
        with _said():
            found = cast(ExpertEnvironment, self._environment).demonstrate(seed, instruction=instruction)
        return _told(found.info), found.steps, asdict(found.outcome)

    def act(self, action: Any) -> dict[str, Any] | None:
        with _said():
            self._seen, outcome = self._environment.step(action)
        return None if outcome is None else asdict(outcome)

    def _run(self, actions: Any, *, images: str, frames: bool) -> tuple[int, dict[str, Any] | None, list[Image]]:
        """Several actions, by an environment that draws no image between them."""
        with _said():
            found = cast(Any, self._environment).run(actions, images=images, frames=frames)
        self._seen = found.observation
        return found.steps, None if found.outcome is None else asdict(found.outcome), found.frames

    def observe(self, *, images: bool = True) -> tuple[Any, Mapping[str, Image]]:
        names = self._environment.spec.cameras if images else ()
        return self._seen[STATE], {name: self._seen[image_key(name)] for name in names}

    def render(self) -> Image:
        return self._environment.render()

    def close(self) -> None:
        self._environment.close()


def _told(info: EpisodeInfo) -> dict[str, Any]:
    return {"instruction": info.instruction, "groups": dict(info.groups), "alternatives": list(info.alternatives)}


@contextmanager
def _said() -> Iterator[None]:
    """What the user can put right, in the words of the protocol."""
    try:
        yield
    except UsageError as error:
        raise ValueError(error.found, error.expected or "", error.fix or "") from error


def _make(name: str, settings: Mapping[str, Any]) -> HostedEnvironment:
    with _said():
        return HostedEnvironment(make_environment(name, settings))


if __name__ == "__main__":
    serve(_make)
