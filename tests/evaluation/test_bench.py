"""`smolpilot bench`: what is measured, said and refused; and evaluation by the engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smolpilot.cli.bench import print_table
from smolpilot.cli.main import main
from smolpilot.common.errors import NotFiniteError
from smolpilot.common.keys import STATE
from smolpilot.contracts import example_observation
from smolpilot.datasets import open_dataset
from smolpilot.environments import environment_factory
from smolpilot.evaluation import evaluate, rollout
from smolpilot.evaluation.offline.policy_frames import recorded_frames
from smolpilot.evaluation.timing.bench import bench, verdict
from smolpilot.evaluation.timing.bench_options import BenchOptions
from smolpilot.inference import prepare
from smolpilot.inference.export.exporting import export_policy
from smolpilot.policies.baselines import Baseline
from smolpilot.smolvla import Policy, load_policy, new_policy, save_bundle

from ..inference.helpers_engine import has_dot_products

# By what the system says of the processor: the backend's own answer is what is tested.
needs_int8 = pytest.mark.skipif(not has_dot_products(), reason="this processor has no 8-bit dot products")


@pytest.fixture(scope="module")
def bundle(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "bundle"
    save_bundle(new_policy("tiny", meta=open_dataset(tiny_dataset).meta, device="cpu"), path)
    return path


@pytest.fixture(scope="module")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "exported"
    policy = load_policy(bundle, device="cpu")
    export_policy(policy, path, [example_observation(policy.spec)])
    return path


def rows_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in document["rows"]}


def test_modes_side_by_side(bundle: Path, tiny_dataset: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    document = bench(
        BenchOptions(str(bundle), dataset=tiny_dataset, repeats=3, device="cpu"), lambda *at: seen.append(at)
    )
    rows = rows_of(document)
    assert list(rows) == ["plain", "exact", "fast"]
    for row in rows.values():
        assert 0 < row["network_p50_ms"] <= row["total_p50_ms"] <= row["total_p95_ms"]
        assert row["ratio"] == pytest.approx(rows["plain"]["total_p50_ms"] / row["total_p50_ms"])
        assert "10 Hz" in row["verdict"]
    assert rows["exact"]["sigma"] == 0
    assert 0 < rows["fast"]["sigma"] < 1e-4
    assert rows["fast"]["joint"] in ("pan", "lift", "gripper")
    assert rows["fast"]["stages"]["vision"]["p50_ms"] > 0
    assert document["tokens"]["images"] == 32
    assert document["frames"] == "recorded"
    assert seen[-1] == ("chunks", 5, 5)


def test_other_policies_beside_the_modes(bundle: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--engine", "plain", "--repeats", "1", "--device", "cpu"]
    assert main(["bench", str(bundle), *options, "--against", "hold-state", str(exported), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = rows_of(document)
    assert list(rows) == ["plain", "hold-state", "onnx"]
    assert document["reference"] == "plain"
    for name, kind in (("hold-state", "hold-state"), ("onnx", str(exported))):
        row = rows[name]
        assert row["total_p50_ms"] > 0
        assert row["network_p50_ms"] is None
        assert row["sigma"] is row["difference"] is None, "other policies, other actions"
        assert row["ratio"] == pytest.approx(rows["plain"]["total_p50_ms"] / row["total_p50_ms"])
        assert "10 Hz" in row["verdict"]
        assert row["source"] == kind
    assert rows["hold-state"]["memory_mb"] is None
    assert rows["onnx"]["memory_mb"] > 0


def test_any_policy_is_measured(tiny_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = ["--dataset", str(tiny_dataset), "--repeats", "60"]  # more than there are frames for
    assert main(["bench", "hold-state", *seen, "--against", "mean-action"]) == 0
    out = capsys.readouterr().out
    assert "faster: times faster than hold-state, in the same run" in out
    assert "60 chunks each after 2 to warm up, recorded frames" in out
    for word in ("token", "denoising", "parameters", "cameras:"):
        assert word not in out
    (line,) = [line for line in out.splitlines() if line.strip().startswith("mean-action ")]
    assert line.split()[-4:-1] == ["-", "-", "-"], "no network, no memory"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "fast"], "--engine is given, but hold-state is a baseline policy"),
        (["--cameras", "1"], "--cameras is"),
        (["--backend", "torch"], "--backend is given, but"),
        (["--against", "lerobot"], "--against lerobot runs a SmolVLA policy by LeRobot, but hold-state is a baseline"),
        (["--against", "hold-stat"], "--against hold-stat: There is no"),
        (["--against", "hold-stat"], "Did you mean 'hold-state'?"),
        (["--against", "hold-state", "hold-state"], "hold-state is named twice"),
    ],
)
def test_contradictory_options_of_bench(
    tiny_dataset: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "hold-state", "--dataset", str(tiny_dataset), "--repeats", "1", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_policy_that_fails_is_said(
    tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Any, observations: Any, **_: Any) -> Any:
        raise NotFiniteError("The policy computes NaN.")

    monkeypatch.setattr(Baseline, "predict", fails)
    assert main(["bench", "hold-state", "--dataset", str(tiny_dataset), "--repeats", "1"]) == 1
    assert "its actions hold NaN or infinite values: the policy fails" in capsys.readouterr().out


def test_fewer_cameras_and_steps(bundle: Path) -> None:
    document = bench(
        BenchOptions(str(bundle), engine=("plain", "fast"), cameras=1, num_steps=2, repeats=2, device="cpu")
    )
    assert document["cameras"] == {"used": ["front"], "slots": ["front", "wrist"]}
    assert document["tokens"]["images"] == 16
    assert document["denoising_steps"] == 2
    assert rows_of(document)["fast"]["sigma"] < 1e-4


def test_the_command_prints_a_table_or_one_document(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle), "--engine", "fast", "--repeats", "1", "--device", "cpu", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["name"] == "fast"
    assert row["sigma"] is not None, "the engine's own check, where the plain network is not measured"
    assert main(["bench", str(bundle), "--engine", "plain", "exact", "--repeats", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "exact: equal to the plain network in every bit" in out
    assert "faster: times faster than plain" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cameras", "5"], "at most 2"),
        (["--num-steps", "0"], "--num-steps is 0"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--precision", "int3"], "cannot compute in 'int3'"),
    ],
)
def test_misuse_exits_2(bundle: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle), "--device", "cpu", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_narrow_terminal_cuts_no_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    times = dict.fromkeys(("total_p50_ms", "total_p95_ms", "network_p50_ms", "network_p95_ms"), 30903.2)
    row = {"name": "LeRobot as built", "precision": "bfloat16, float32", **times, "memory_mb": 1812.3, "ratio": 1.0,
           "sigma": None, "verdict": "", "note": ""}  # fmt: skip
    print_table(
        {"machine": {"device": "CPU", "processor": "X", "torch": "2"}, "tokens": {"images": 128, "instruction": 13},
         "cameras": {"used": ["a"], "slots": ["a"]}, "parameters": 4e8, "denoising_steps": 10, "repeats": 1,
         "warm_up": 2, "frames": "made up", "reference": None, "rows": [row]}
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.count("30,903") == 4
    assert "1,812" in printed
    assert "…" not in printed


def test_verdict_against_the_rate() -> None:
    assert verdict(20, 30, 10) == "within one step at 30 Hz"
    assert verdict(200, 30, 10) == "keeps up at 30 Hz beside the control loop: 6 of 10 steps"
    assert verdict(400, 30, 10).startswith("too slow at 30 Hz: 12 steps")
    assert verdict(400, None, 10) == ""


def test_evaluation_by_the_engine_gives_the_same_errors(bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    policy = load_policy(bundle, device="cpu")
    engine = prepare(policy, engine="fast", cache_dir=tmp_path)
    policy.num_steps = engine.num_steps = 4
    dataset = open_dataset(tiny_dataset)
    results = [
        evaluate(runner, dataset, "all", max_frames=4, batch_size=3, latency=runner is engine).document
        for runner in (policy, engine)
    ]
    for plain, fast in zip(results[0]["joints"], results[1]["joints"], strict=True):
        assert fast["mae"] == pytest.approx(plain["mae"], rel=1e-4)
    assert results[1]["bundle"]["engine"] == {"mode": "fast", "precision": "float32"}
    assert results[1]["bundle"]["parameters"] == results[0]["bundle"]["parameters"]
    assert results[1]["latency"]["chunk"]["p50_ms"] > results[1]["latency"]["queue_pop"]["p50_ms"]
    assert engine.report.latency["vision"]["p50_ms"] > 0.1, "a kept picture would flatter the latency"


def test_eval_and_rollout_take_the_engine(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["eval", str(bundle), "--dataset", str(tiny_dataset), "--episodes", "0", "--max-frames", "2", "--device",
              "cpu", "--json", "--no-preflight"]  # fmt: skip
    documents = []
    for engine in ("plain", "fast"):
        assert main([*common, "--engine", engine, "--out", str(tmp_path / engine)]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[1]["joints"][0]["mae"] == pytest.approx(documents[0]["joints"][0]["mae"], rel=1e-4)
    assert main(["rollout", "x", "--out", str(tmp_path / "r"), "--untrained", "--engine", "fast"]) == 2
    assert "--untrained" in capsys.readouterr().err
    assert main(["rollout", "x", "--out", str(tmp_path / "r"), "--engine", "int8"]) == 2
    assert "--calibrate-on" in capsys.readouterr().err


@needs_int8
def test_eval_by_int8_is_calibrated_on_what_is_not_scored(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["eval", str(bundle), "--dataset", str(tiny_dataset), "--max-frames", "2", "--device", "cpu", "--json",
              "--no-preflight"]  # fmt: skip
    maes = {}
    for name, more in {
        "plain": ["--episodes", "0"],
        "int8": ["--episodes", "0", "--engine", "int8"],
        "elsewhere": ["--episodes", "all", "--engine", "int8", "--calibrate-on", str(tiny_dataset)],
    }.items():
        assert main([*common, *more, "--out", str(tmp_path / name)]) == 0, capsys.readouterr().err
        document = json.loads(capsys.readouterr().out)
        maes[name] = document["joints"][0]["mae"]
        assert (document["bundle"]["engine"] or {}).get("mode") == (None if name == "plain" else "int8")
    assert maes["int8"] == pytest.approx(maes["plain"], rel=0.2)
    assert maes["int8"] != maes["plain"]
    for wrong, said in {
        ("--episodes", "all", "--engine", "int8"): "every episode of this dataset is scored",
        ("--episodes", "0", "--engine", "fast", "--calibrate-on", str(tiny_dataset)): "--calibrate-on does nothing",
    }.items():
        assert main([*common, *wrong, "--out", str(tmp_path / "wrong")]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "wrong").exists()


@needs_int8
def test_a_fallback_is_said_in_the_report(bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    policy = load_policy(bundle, device="cpu")
    frames = recorded_frames(policy, tiny_dataset, 4)
    with pytest.warns(UserWarning, match="plain network"):
        engine = prepare(policy, engine="int8", calibration=frames, frame=frames[0], limit=1e-9, cache_dir=tmp_path)
    document = evaluate(engine, open_dataset(tiny_dataset), "0", max_frames=1, latency=False).document
    assert document["bundle"]["engine"]["mode"] == "plain"
    assert document["warnings"][0] == engine.report.fallback


def test_calibration_and_measurement_take_different_frames(bundle: Path, tiny_dataset: Path) -> None:
    policy = load_policy(bundle, device="cpu")
    measured = recorded_frames(policy, tiny_dataset, 12)
    others = recorded_frames(policy, tiny_dataset, 32, beside=12)
    assert (len(measured), len(others)) == (12, 32)
    assert not {frame[STATE].tobytes() for frame in measured} & {frame[STATE].tobytes() for frame in others}


def test_an_engine_in_closed_loop(tmp_path: Path) -> None:
    from smolpilot.environments.tabletop.recording import record

    record(tmp_path / "data", 1, seed=0)
    policy: Policy = new_policy("tiny", meta=open_dataset(tmp_path / "data").meta, device="cpu")
    engine = prepare(policy, engine="fast", cache_dir=tmp_path / "engines")
    make = environment_factory("tabletop", {})
    plain, fast = (rollout(runner, make, episodes=2, n_action_steps=10).document for runner in (policy, engine))
    assert [run["steps"] for run in plain["runs"]] == [run["steps"] for run in fast["runs"]]
    assert fast["bundle"]["engine"]["mode"] == "fast"
