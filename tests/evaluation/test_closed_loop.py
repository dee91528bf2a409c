"""Closed loop in a line world whose outcome is known, and in the shipped tabletop."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from smolpilot.errors import CheckpointError, UsageError
from smolpilot.evaluation import rollout, write_demo_report, write_rollout_report
from smolpilot.keys import STATE, TASK
from smolpilot.simulation import registry

LIMIT = 12


class LineWorld:
    """A point on a line between a red block at +1 and a blue one at -1; odd seeds name red, even ones blue."""

    metadata = {"render_fps": 5}  # noqa: RUF012

    def reset(self, *, seed: int, options: Any = None) -> tuple[dict, dict]:
        self.place, self.steps, self.target = 0.0, 0, "red" if seed % 2 else "blue"
        return self._frame(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        self.place += float(action[0])
        self.steps += 1
        info = self._info()
        return self._frame(), 0.0, info["reached"] is not None, self.steps >= LIMIT, info

    def render(self) -> np.ndarray:
        picture = np.full((64, 64, 3), 200, dtype=np.uint8)
        picture[:, int(np.clip(32 + 25 * self.place, 0, 63))] = 0
        return picture

    def close(self) -> None:
        pass

    def _frame(self) -> dict:
        return {STATE: np.array([self.place], dtype=np.float32), TASK: f"touch the {self.target} block"}

    def _info(self) -> dict:
        reached = "red" if self.place >= 1 else "blue" if self.place <= -1 else None
        texts = ["touch the blue block", "touch the red block"]
        return {"reached": reached, "colours": ["blue", "red"], "instructions": texts, "target": self.target}


class LinePolicy:
    """Goes where `aim(task)` says, 0.25 a step."""

    def __init__(self, aim: Any) -> None:
        self.aim, self.calls, self.batches = aim, 0, []
        self.config = SimpleNamespace(chunk_size=8, max_action_dim=4, num_steps=10, cameras=["top"])
        self.n_action_steps, self.device, self.profile = 4, torch.device("cpu"), None
        self.report = SimpleNamespace(source="runs/line")
        self.instructions, self.lineage, self.model = [], {}, torch.nn.Linear(2, 2)

    def predict_chunks(self, frames: list[dict], noise: torch.Tensor) -> torch.Tensor:
        assert noise.shape == (len(frames), 8, 4)
        self.batches.append(len(frames))
        steps = torch.tensor([0.25 * self.aim(frame[TASK]) for frame in frames])
        return steps[:, None, None].expand(-1, 8, 1)


@pytest.fixture(autouse=True)
def line_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.ENVIRONMENTS, "line", LineWorld)


def obedient(task: str) -> int:
    return 1 if "red" in task else -1


def test_an_obedient_policy_succeeds_with_any_instruction() -> None:
    usual = rollout(LinePolicy(obedient), "line", episodes=10, seed=7).document
    assert (usual["successes"], usual["success_rate"]) == (10, 1.0)
    assert usual["interval"] == pytest.approx([0.7225, 1.0], abs=1e-4)
    assert usual["reached"] == {"named": 10, "other": 0, "none": 0}
    assert usual["mean_steps_to_success"] == 4
    assert [row["seed"] for row in usual["runs"]] == list(range(7, 17))
    assert [(row["colour"], row["episodes"]) for row in usual["by_colour"]] == [("blue", 5), ("red", 5)]
    swapped = rollout(LinePolicy(obedient), "line", episodes=10, seed=7, swap_instruction=True).document
    assert swapped["success_rate"] == 1.0
    assert [row["named"] for row in swapped["runs"]] == ["blue", "red"] * 5
    assert [row["named"] for row in usual["runs"]] == ["red", "blue"] * 5


def test_a_policy_deaf_to_the_instruction_reaches_the_other_block() -> None:
    result = rollout(LinePolicy(lambda task: 1), "line", episodes=9, seed=1).document
    assert result["reached"] == {"named": 5, "other": 4, "none": 0}
    by_colour = {row["colour"]: row["success_rate"] for row in result["by_colour"]}
    assert by_colour == {"blue": 0.0, "red": 1.0}


def test_running_out_of_time_is_neither_block() -> None:
    result = rollout(LinePolicy(lambda task: 0), "line", episodes=4, seed=1)
    assert result.document["reached"] == {"named": 0, "other": 0, "none": 4}
    assert {run.steps for run in result.runs} == {LIMIT}
    assert result.document["mean_steps_to_success"] is None


def test_a_policy_that_answers_nan_fails() -> None:
    with pytest.raises(CheckpointError, match="The policy fails: its predictions hold NaN") as caught:
        rollout(LinePolicy(lambda task: float("nan")), "line", episodes=2, seed=0)
    assert caught.value.exit_code == 1


def test_planning_is_batched_and_follows_the_execution_horizon() -> None:
    policy = LinePolicy(lambda task: 0)
    rollout(policy, "line", episodes=60, seed=0)
    assert policy.batches == [50] * 3 + [10] * 3  # 12 steps, 4 a plan, at most 50 side by side
    policy = LinePolicy(lambda task: 0)
    rollout(policy, "line", episodes=5, seed=0, execution_horizon=1)
    assert policy.batches == [5] * 12


def test_horizon_beyond_the_chunk_and_unknown_environment_are_refused() -> None:
    with pytest.raises(UsageError, match="execution horizon is 9"):
        rollout(LinePolicy(obedient), "line", execution_horizon=9)
    with pytest.raises(UsageError, match="Unknown environment 'tabeltop'"):
        rollout(LinePolicy(obedient), "tabeltop")


def test_report_and_video(tmp_path) -> None:
    result = rollout(LinePolicy(obedient), "line", episodes=8, seed=0, video_episodes=6)
    write_rollout_report(tmp_path, result)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["success_rate"] == 1.0
    content = (tmp_path / "video.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index first: plays while it loads
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 1 + 4 + 8  # start, four steps, 1.5 s at 5 frames a second
    assert pictures[0].shape == (2 * 112, 3 * 72, 3)
    red, green, _ = pictures[-1][2, 2].astype(int)
    assert green > red + 50  # the border of a success
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in page
    assert "touch the red block" in page
    assert "//" not in page.replace("data:video", "").split("base64,")[0]


def test_demo_report_joins_all_parts(tmp_path, dataset, make_policy) -> None:
    from smolpilot.evaluation import evaluate, write_eval_report

    folders = {name: tmp_path / name for name in ("eval", "right", "untrained")}
    for folder in folders.values():
        folder.mkdir()
    evaluation = evaluate(make_policy(), dataset)
    write_eval_report(folders["eval"], evaluation.scored, evaluation.document)
    right = rollout(LinePolicy(obedient), "line", episodes=4, seed=0, video_episodes=2)
    write_rollout_report(folders["right"], right)
    lost = rollout(LinePolicy(lambda task: 0), "line", episodes=4, seed=0)
    lost.document["untrained"] = True
    write_rollout_report(folders["untrained"], lost)
    metrics = tmp_path / "metrics.jsonl"
    lines = [{"step": s, "kind": "train", "loss": 1 / s, "samples_per_s": 10.0} for s in range(1, 60)]
    lines.append({"step": 59, "kind": "validation", "score": 0.1, "unit": "rad"})
    metrics.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 60, "ki')
    out = write_demo_report(
        tmp_path / "report.html",
        eval_dir=folders["eval"],
        rollouts={"right instruction": folders["right"], "untrained weights": folders["untrained"]},
        train_metrics_path=metrics,
        commands=["smolpilot record --out demo"],
    )
    page = out.read_text(encoding="utf-8")
    assert page.count("data:video/mp4;base64,") == 1
    assert page.count("data:image/png;base64,") == 2  # training curve, six panels
    for text in ("100 %", "Loss 1 at step 1", "untrained weights", "smolpilot record", "beats both baselines"):
        assert text in page
    with pytest.raises(UsageError, match=r"no readable results\.json"):
        write_demo_report(tmp_path / "x.html", eval_dir=folders["eval"], rollouts={"right": tmp_path})
