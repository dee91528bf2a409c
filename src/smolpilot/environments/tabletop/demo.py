"""What `smolpilot demo` runs on the tabletop: the commands, and what the closed loops have to reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .demo_options import DemoOptions

SUCCESS = 0.90  # with the right instruction, at least
CHANCE = 0.20  # of who has learned nothing, at most


@dataclass(frozen=True)
class Step:
    """One command of the demo; finished when `result` exists."""

    title: str
    args: list[str]
    result: Path | None


@dataclass(frozen=True)
class Loop:
    """A closed loop: its folder, its name in the report (also on the Chinese page) and in the table, and the success
    that it has to reach at least or may reach at most."""

    folder: str
    name: str
    chinese: str
    title: str
    least: float | None = None
    most: float | None = None

    def passed(self, rate: float) -> bool:
        """Whether this success rate is what was expected."""
        return (self.least is None or rate >= self.least) and (self.most is None or rate <= self.most)

    @property
    def goal(self) -> str:
        """The goal in words."""
        return f"at least {self.least:.0%}" if self.least is not None else f"at most {self.most:.0%}"


LOOPS = (
    Loop("rollout", "right instruction", "正确的指令", "trained, right instruction", least=SUCCESS),
    Loop("swapped", "other block named", "换成另一个方块的指令", "trained, other block named", least=SUCCESS),
    Loop("untrained", "untrained weights", "未训练的权重", "untrained weights", most=CHANCE),
    Loop("hold-state", "arm held still", "机械臂保持不动", "arm held still", most=CHANCE),
)


def demo_steps(options: DemoOptions) -> list[Step]:
    """The commands, in order, with the folders they make."""
    out = options.out
    data, run, bundle = out / "recordings", out / "run", out / "run" / "checkpoints" / "best"
    # A run that was cut off goes on from its last checkpoint.
    train = ["train", "--out", str(run), "--resume"] if (run / "config.yaml").exists() else [
        "train", "--dataset", str(data), "--robot", "tabletop", "--preset", "tiny", "--from-scratch",
        "--out", str(run), "--steps", str(options.steps), "--batch-size", "64", "--seed", str(options.seed),
    ]  # fmt: skip
    record = ["record", "--out", str(data), "--episodes", str(options.demonstrations), "--seed", str(options.seed)]
    score = ["eval", str(bundle), "--dataset", str(data), "--out", str(out / "eval")]
    closed = ["--env", "tabletop", "--episodes", str(options.rollouts), "--out"]
    trained = ["rollout", str(bundle), *closed]
    return [
        Step("Record demonstrations", record, data),
        Step("What the recording holds", ["dataset", "info", str(data)], None),
        Step("Train from scratch", train, run / "checkpoints" / f"step_{options.steps:06d}"),
        Step("Evaluate on held-out episodes", score, out / "eval"),
        Step("Closed loop, the right instruction", [*trained, str(out / "rollout")], out / "rollout"),
        Step("Closed loop, the other block named", [*trained, str(out / "swapped"), "--swap-instruction"],
             out / "swapped"),
        Step("Closed loop, untrained weights", [*trained, str(out / "untrained"), "--untrained"], out / "untrained"),
        Step("Closed loop, the arm held still", ["rollout", "hold-state", *closed, str(out / "hold-state")],
             out / "hold-state"),
    ]  # fmt: skip
