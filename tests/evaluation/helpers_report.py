"""Documents and predictions as the verbs write them, for the pages of the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smolpilot.contracts import Image
from smolpilot.evaluation.metrics import chunk_targets
from smolpilot.evaluation.offline.metrics_document import summarize
from smolpilot.evaluation.predictions import Predictions
from smolpilot.evaluation.rates.intervals import rate_interval
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.wording import Comparison, compare_paired
from smolpilot.evaluation.rollout.language import language_document
from smolpilot.evaluation.rollout.results import Run, summarize_runs

LABELS = {"timeout": "ran out of time", "dropped": "the cube fell"}
GOAL = "the cube is held by the left gripper alone"
MACHINE = {"device": "CPU, 1 thread", "processor": "a processor", "cores": 2, "torch": "2.11.0", "smolpilot": "0.2.0"}
BUNDLE: dict[str, Any] = {
    "path": "runs/aloha/checkpoints/best", "name": "smolvla", "kind": "smolvla", "engine": None,
    "parameters": 3_204_896, "chunk_size": 50, "execution_horizon": 25, "denoising_steps": 10,
    "robot": "aloha", "cameras": ["top"],
    "camera_map": {"top": "top"}, "instructions": ["transfer the cube"],
    "lineage": {"steps": 20_000, "ema": None, "lora": None, "held_out_episodes": [0, 1, 2, 7]},
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "env": "aloha", "env_settings": {"task": "transfer"}, "goal": GOAL, "labels": LABELS, "seed": 1_000_000,
    "swap_instruction": False, "untrained": False, "execution_horizon": 25, "chunk_size": 50, "rate": 50.0,
    "denoising_steps": 10, "video_episodes": 0, "parallel": 16,
    "simulation": {
        "render": {"gl": "egl", "shadows": False, "msaa": 0, "size": "256x256"},
        "physics": {"timestep_s": 0.002, "multiccd": False}, "packages": {"mujoco": "3.8.1", "gym-aloha": "0.1.5"},
    },
}  # fmt: skip


def make_runs(episodes: int = 40, *, texts: Sequence[str] = ("transfer the cube", "hand the cube over")) -> list[Run]:
    """Episodes of which about half succeed, some of them not to the end."""
    rng = np.random.default_rng(3)
    runs = []
    for number in range(episodes):
        success = bool(rng.random() < 0.55)
        label = "transferred" if success else "dropped" if rng.random() < 0.4 else "timeout"
        plans = int(rng.integers(6, 13))
        runs.append(
            Run(
                1_000_000 + number, texts[number % len(texts)], {"region": ("left", "middle", "right")[number % 3]},
                label, success, int(rng.integers(150, 300)) if label != "timeout" else 300,
                {"max_reward": 4.0 if success else float(rng.integers(0, 4))}, success and bool(rng.random() < 0.9),
                plans, plans * float(rng.lognormal(-3.2, 0.25)),
            )
        )  # fmt: skip
    return runs


def make_results(runs: Sequence[Run] | None = None, **changes: Any) -> dict[str, Any]:
    """The document of results.json as it was before gates and floors."""
    document = summarize_runs(make_runs() if runs is None else runs, SETTINGS | changes)
    return {**document, "warnings": [], "bundle": BUNDLE, "machine": MACHINE}


def with_floors(document: Mapping[str, Any], *, gate: str = "passed") -> dict[str, Any]:
    """The same with gate, floors and the verdict that rests on them."""
    outcomes = [run["success"] for run in document["runs"]]
    floors: list[dict[str, Any]] = []
    against: dict[str, Comparison] = {}
    for name, kind, found in (
        ("no-op", "floor", [False] * len(outcomes)),
        ("random", "floor", [number % 11 == 0 for number in range(len(outcomes))]),
        ("hold-state", "floor", [False] * len(outcomes)),
        ("expert", "ceiling", [True] * len(outcomes)),
    ):
        cells = list(zip(outcomes, found, strict=True))
        counts = PairedCounts(
            *(cells.count(one) for one in ((True, True), (True, False), (False, True), (False, False)))
        )
        against[name] = compared = compare_paired("the policy", name, counts)
        floors.append({
            "name": name, "kind": kind, "text": f"what {name} does", "episodes": len(found), "successes": sum(found),
            "success_rate": sum(found) / len(found), "interval": list(rate_interval(sum(found), len(found))),
            "successes_at_end": sum(found), "facts": {"max_reward": 4.0 * sum(found) / len(found)},
            "paired": {
                "both": counts.both, "only_policy": counts.only_a, "only_other": counts.only_b,
                "neither": counts.neither,
                "difference": compared.difference, "interval": list(compared.interval), "p_value": compared.p_value,
                "test": compared.test, "decision": compared.decision, "text": compared.text,
            },
        })  # fmt: skip
    text = f"{document['text']} Gate: {gate}. {against['random'].text}"
    return {
        **document,
        "gate": {
            "verdict": gate, "text": f"The gate says {gate}.", "successes": 50, "episodes": 50, "overridden": False,
        },
        "floors": floors,
        "verdict": {"text": text, "decision": against["random"].decision, "against": "random"},
        "facts": {"max_reward": 2.875},
    }  # fmt: skip


def with_language(
    document: Mapping[str, Any], texts: Sequence[str] = ("lift the cube", "lift the ball")
) -> dict[str, Any]:
    """The same with the test of two texts in each scene: of three scenes one is followed, one is not, one is deaf."""
    runs, told = list[Run](), list[Run]()
    for number, run in enumerate(document["runs"]):
        reached = ((texts[0], texts[1]), (texts[1], texts[0]), (texts[0], texts[0]))[number % 3]
        for text, end, kept in zip(texts, reached, (runs, told), strict=True):
            kept.append(Run(run["seed"], text, success=text == end, reached=[end]))
    return {**document, "language": language_document(runs, told)}


def with_images(runs: Sequence[Run], count: int, size: tuple[int, int] = (64, 96)) -> list[Run]:
    """The first `count` runs with an image for each step, a white square that moves."""
    for number, run in enumerate(runs[:count]):
        for step in range(12):
            picture: Image = np.full((*size, 3), 40 + 20 * number, dtype=np.uint8)
            picture[20:40, 4 * step : 4 * step + 20] = 255
            run.images.append(picture)
    return list(runs)


def make_predictions(joints: int = 26, *, episodes: int = 4, length: int = 300, horizon: int = 50) -> Predictions:
    """A robot that moves some joints a lot and others hardly, predicted with a small error; the last ones are fingers
    in another unit."""
    rng = np.random.default_rng(0)
    t = np.arange(length)[:, None] / 30
    reach = np.geomspace(1.2, 0.02, joints)[rng.permutation(joints)]
    recorded = np.concatenate([reach * np.sin(t * (1 + 0.1 * np.arange(joints)) + e) for e in range(episodes)])
    actions = recorded.astype(np.float32)
    episode, frame = np.repeat(np.arange(episodes), length), np.tile(np.arange(length), episodes)
    rows = np.arange(0, len(actions), 5)
    target, is_pad = chunk_targets(actions, episode, rows, horizon)
    growing = np.linspace(0.05, 0.25, horizon)[:, None] * reach
    predicted = (target + growing * rng.normal(size=target.shape)).astype(np.float32)
    fingers = joints // 4
    units = ["rad"] * (joints - fingers) + ["normalized"] * fingers
    names = [f"{side}_arm_{number}_joint" for number in range(joints) for side in ("left", "right")][:joints]
    return Predictions(
        predicted, target, is_pad, actions[rows], actions.mean(axis=0).astype(float), episode[rows], frame[rows],
        actions, episode, frame, names, units, [(-1.57, 1.57) if unit == "rad" else None for unit in units], 30.0, 25,
        dict.fromkeys(range(episodes), "lift the box onto the shelf"),
    )  # fmt: skip


def make_metrics(scored: Predictions) -> dict[str, Any]:
    """The document of metrics.json of such predictions."""
    samples = np.random.default_rng(1).lognormal(4.1, 0.12, 50).tolist()
    p50, p95 = np.percentile(samples, [50, 95])
    chunk = {"count": 50, "p50_ms": p50, "p95_ms": p95, "mean_ms": float(np.mean(samples)), "samples_ms": samples}
    pop = {"count": 24, "p50_ms": 0.004, "p95_ms": 0.01, "mean_ms": 0.005, "samples_ms": [0.005] * 24}
    return summarize(scored) | {
        "latency": {"warm_up": 3, "batch": 1, "chunk": chunk, "queue_pop": pop, "device": "CPU, 1 thread"},
        "bundle": BUNDLE | {"path": "runs/humanoid/checkpoints/best"}, "machine": MACHINE, "settings": {"every": 5},
        "dataset": {"path": "data/boxes", "fingerprint": "5f0c2d1e", "version": "v3.0", "episodes": 80, "robot": None},
        "split": {"requested": "held-out", "text": "Held-out episodes 0, 1, 2, 3 of data/boxes, kept back in training"},
    }  # fmt: skip


def make_stages(names: Sequence[str] = ("red", "green", "blue")) -> dict[str, Any]:
    """The document of report.json of a sequence that forgets a little."""

    def one(value: float, width: float = 0.01) -> dict[str, Any]:
        return {"value": value, "interval": [value - width, value + width]}

    count = len(names)
    error = [[one(0.05 + 0.01 * (stage - task)) for task in range(stage + 1)] for stage in range(count)]
    success = [[one(0.9 - 0.08 * (stage - task), 0.07) for task in range(stage + 1)] for stage in range(count)]
    lost = [one(0.01 * (count - 1 - task)) for task in range(max(1, count - 1))]

    def left(scale: float) -> dict[str, Any]:
        forgot = [
            {key: [scale * e for e in v] if key == "interval" else scale * v for key, v in o.items()} for o in lost
        ]
        return {
            "forgetting": forgot, "backward_transfer": forgot, "mean_forgetting": forgot[0],
            "mean_backward_transfer": forgot[0],
        }  # fmt: skip

    joints = [{"name": f"joint_{number}", "unit": "rad"} for number in range(6)]
    stages = [
        {"name": name, "dataset": f"data/{name}", "dataset_fingerprint": "5f0c2d1e",
         "trained_episodes": list(range(90)),
         "held_out_episodes": list(range(90, 100)), "instruction": None, "init": "x", "steps": 3000, "lr": 1e-4,
         "replay": [0.4, 0.6], "attempt": 1}
        for name in names
    ]  # fmt: skip
    return {
        "format": "smolpilot-stages/1", "stages": stages, "tasks": list(names), "unit": "rad",
        "held_out_episodes": [10] * count, "joints": joints, "error": {"matrix": error, **left(1.0)},
        "joint_mae": [[[0.05] * 6 for _ in row] for row in error], "resamples": 1000,
        "success": {"matrix": success, **left(8.0), "kept": [0.82, 0.91][: count - 1]},
        "simulated_episodes": [50] * count,
        "references": [{"policy": "hold-state", "error": [one(0.2) for _ in names], "success": [None for _ in names]}],
    }  # fmt: skip
