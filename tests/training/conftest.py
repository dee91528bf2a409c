"""Trainings that are stopped on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from smolpilot.training.run.loop import Trainer


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Within `interrupted_after(step)`, Ctrl-C is pressed right after optimizer step number `step`; or `by` is done."""

    @contextmanager
    def interrupted(step: int, by: Callable[[], object] = ctrl_c) -> Iterator[None]:
        ordinary = Trainer._step

        def with_interrupt(self: Trainer, inputs: Any) -> None:
            ordinary(self, inputs)
            if self.state.step == step:
                by()

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", with_interrupt)
            yield

    return interrupted
