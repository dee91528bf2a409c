from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from smolpilot.common.errors import UsageError
from smolpilot.training.options.train_options import TrainOptions, check, check_resume, resolve

BASE = TrainOptions(dataset=Path("data"), out=Path("run"), preset="tiny", from_scratch=True, steps=3000)


def test_a_frozen_random_vision_language_model_is_refused() -> None:
    with pytest.raises(UsageError, match="random") as caught:
        check(dataclasses.replace(BASE, from_scratch=False))
    assert "--from-scratch" in caught.value.fix
    assert check(BASE) is BASE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"out": None}, "--out"),
        ({"dataset": None}, "--dataset"),
        ({"steps": None}, "--steps"),
        ({"steps": 0}, "--steps is 0"),
        ({"policy": "p"}, "exclude each other"),
        ({"preset": None, "from_scratch": False}, "nothing to train"),
        ({"preset": "smolvla"}, "tokenizer"),
        ({"norm_stats": "parent"}, "fine-tuning"),
        ({"held_out": 1.0}, "--held-out"),
        ({"batch_size": -1}, "--batch-size"),
        ({"lr": float("nan")}, "--lr"),
        ({"warmup_steps": 3000}, "--warmup-steps"),
    ],
)
def test_misuse_names_the_option(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(dataclasses.replace(BASE, **changes))


def test_open_settings_follow_preset_and_steps_and_given_ones_stay() -> None:
    tiny = resolve(BASE)
    assert (tiny.lr, tiny.batch_size, tiny.warmup_steps, tiny.decay_lr) == (2e-3, 32, 100, 2e-3 / 40)
    fine = resolve(dataclasses.replace(BASE, preset=None, from_scratch=False, policy="p", steps=60_000))
    assert (fine.lr, fine.batch_size, fine.warmup_steps, fine.decay_lr) == (1e-4, 8, 1000, 2.5e-6)
    given = resolve(dataclasses.replace(BASE, lr=1e-3, warmup_steps=0, decay_lr=0.0, workers=0))
    assert (given.lr, given.warmup_steps, given.decay_lr, given.workers) == (1e-3, 0, 0.0, 0)
    assert resolve(tiny) == tiny


def test_resume_refuses_changed_training_and_takes_changed_comfort() -> None:
    saved = resolve(BASE)
    with pytest.raises(UsageError, match="--steps 3000 -> 5000"):
        check_resume(dataclasses.replace(saved, steps=5000), saved)
    merged = check_resume(dataclasses.replace(saved, workers=7, resume=True), saved)
    assert (merged.workers, merged.resume, merged.steps) == (7, True, 3000)
