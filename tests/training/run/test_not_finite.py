"""Numbers that are not finite: refused as options, never the best, shown in words."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path

import pytest

from smolpilot.cli.main import main
from smolpilot.cli.parsing.arguments import fields_of
from smolpilot.cli.status import WatchOptions
from smolpilot.common.errors import UsageError
from smolpilot.environments.demonstrations.record_options import RecordOptions
from smolpilot.evaluation.eval_options import EvalOptions, RolloutOptions
from smolpilot.evaluation.timing.bench_options import BenchOptions
from smolpilot.smolvla.checkpoint.locate import locate
from smolpilot.training import TrainOptions, train
from smolpilot.training.options.train_options import resolve
from smolpilot.training.run.run_folder import create
from smolpilot.training.run.validation import Validator

TINY = ["--preset", "tiny", "--from-scratch", "--batch-size", "4", "--chunk-size", "4", "--eval-frames", "4",
        "--device", "cpu"]  # fmt: skip


def floats_of(options: type) -> list[str]:
    hints = typing.get_type_hints(options)
    return [f.name for f in dataclasses.fields(options) if re.search(r"\bfloat\b|Source", str(hints[f.name]))]


VERBS = {
    "train": (TrainOptions, []),
    "eval": (EvalOptions, ["b", "--dataset", "d", "--out", "o"]),
    "rollout": (RolloutOptions, ["b", "--out", "o"]),
    "record": (RecordOptions, ["--out", "o"]),
    "watch": (WatchOptions, ["run"]),
    "bench": (BenchOptions, ["b"]),
}
CASES = [(verb, name) for verb, (options, _) in VERBS.items() for name in floats_of(options)]


@pytest.mark.parametrize(
    ("verb", "name", "value"),
    [*((verb, name, "nan") for verb, name in CASES), *((verb, name, "inf") for verb, name in CASES[::3]),
     ("train", "lr", "inf"), ("train", "lr", "-inf")],
)  # fmt: skip
def test_every_decimal_option_of_every_verb_refuses_nan_and_infinity(
    capsys: pytest.CaptureFixture[str], verb: str, name: str, value: str
) -> None:
    options, needed = VERBS[verb]
    flag = fields_of(options)[name].option
    text = {"augment": f"crop={value}", "mixture": f"a={value}"}.get(name, value)
    assert main([verb, *needed, flag, text]) == 2
    said = capsys.readouterr().err
    assert flag in said
    assert "Expected: " in said


def test_there_are_such_options() -> None:
    assert {"lr", "clip", "ema", "weight_decay", "held_out", "augment", "frames_gb"} <= set(floats_of(TrainOptions))
    assert ("watch", "every") in CASES
    assert ("record", "noise") in CASES


@pytest.mark.parametrize("line", ["lr: .inf", "clip: .nan", "augment: {crop: .nan}", "ema: -.inf", "held_out: .nan"])
def test_yaml_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"steps: 1\n{line}\n")
    assert main(["train", "--config", str(config), "--out", str(tmp_path / "run")]) == 2
    assert "finite" in capsys.readouterr().err


def test_python_refuses_it_too(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--lr is inf"):
        train(TrainOptions(dataset=tiny_dataset, out=tmp_path / "r", preset="tiny", from_scratch=True, steps=1,
                           lr=float("inf")))  # fmt: skip


def test_a_validation_that_is_not_finite_is_never_the_best(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([float("inf"), 0.5, float("inf"), float("inf")])
    ordinary = Validator.run

    def scored(self: Validator, *args: object) -> object:
        found = ordinary(self, *args)  # type: ignore[arg-type]
        return found and dataclasses.replace(found, score=next(scores))

    monkeypatch.setattr(Validator, "run", scored)
    run = tmp_path / "run"
    args = ["train", "--dataset", str(tiny_dataset), *TINY, "--steps", "3", "--keep", "1", "--out", str(run)]
    assert main([*args, "--eval-every", "1", "--save-every", "1"]) == 0
    said = capsys.readouterr().err
    assert "step 1: held-out error not finite" in said
    assert said.count("best so far") == 1
    assert (run / "checkpoints" / "best").readlink() == Path("step_000002")
    # No finite one at all: there is a last checkpoint and no best one, and every verb says so in words.
    none = tmp_path / "none"
    assert main([*args[:-1], str(none), "--eval-every", "3", "--save-every", "3"]) == 0
    assert f"smolpilot eval {none}/checkpoints/last" in capsys.readouterr().out
    assert not (none / "checkpoints" / "best").exists()
    assert main(["status", str(none)]) == 1
    shown = capsys.readouterr().out
    assert "not finite at step 3" in shown
    assert "none: no validation gave a finite error" in " ".join(shown.split())
    assert main(["bundle", str(none), "--json"]) == 0
    assert locate(none).folder == none / "checkpoints" / "step_000003"


LINES = {
    "nothing yet": "",
    "numbers that were not finite": json.dumps(
        {"step": 3, "kind": "train", "loss": None, "lr": None, "epoch": None, "samples_per_s": None, "data_wait": None,
         "memory_gb": None}
    ),
    "missing numbers": '{"step": 3, "kind": "train"}\n{"step": 3, "kind": "validation"}',
    "of another version": '{"step": 3, "kind": "train", "loss": "high"}\n{"step": "x"}\n[]\n7\n{"kind": "new"}',
    "torn in the middle": '{"step": 3, "kind": "tr\n{"step": 4, "kind": "train", "loss": 1.0}\n{"st',
    "not text": "\udcff\udcfe{",
    "a validation without a number": '{"step": 3, "kind": "validation", "score": null, "unit": "rad"}',
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_status_of_any_metrics_is_words(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    create(
        out, resolve(TrainOptions(dataset=tmp_path, out=out, preset="tiny", from_scratch=True, steps=9, patience=2)), {}
    )
    (out / "environment.json").write_text("[]")
    (out / "metrics.jsonl").write_bytes(LINES[name].encode("utf-8", "surrogateescape"))
    for args in (["status", str(out)], ["watch", str(out)]):
        assert main(args) in (0, 1)
        shown = capsys.readouterr().out
        assert "nan" not in shown.lower().replace("predicted nan", "")
        assert "None" not in shown
    if name == "numbers that were not finite":
        assert main(["status", str(out)]) == 1
        assert "not finite" in capsys.readouterr().out
