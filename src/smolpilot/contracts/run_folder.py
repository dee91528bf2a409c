"""The folder that `smolpilot run` leaves: what was run on which robot, the run log, how each episode ended."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import pydantic

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import RunLogError
from smolpilot.common.json_input import MAX_LINES_BYTES, read_json_file
from smolpilot.common.text import LIMIT, plain

FORMAT = "smolpilot-robot-run/1"
RUN, LOG, EPISODES, SETUP, ROBOT = "run.json", "run-log.jsonl", "episodes.jsonl", "setup.yaml", "robot.yaml"
DATASET, FRAMES, REPORT = "dataset", "frames", "report.html"

_Name = Annotated[str, pydantic.Field(min_length=1, max_length=10_000)]
_Count = Annotated[int, pydantic.Field(ge=0)]
_Seconds = Annotated[float, pydantic.Field(ge=0)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class LimitFacts(_Strict):
    """The limits in force of one joint, in its unit, per s and per s², each with its origin in words."""

    joint: _Name
    unit: str
    low: tuple[float, str]
    high: tuple[float, str]
    velocity: tuple[float, str]
    acceleration: tuple[float, str]


class EpisodeEnd(_Strict):
    """How one episode ended; a line of `episodes.jsonl`.

    first_tick, last_tick: numbers of its first and last tick in the run log, None where it had none. mark: what the
    operator said. ended: what ended it; stop: the reason of a stop. turnarounds: seconds from request to chunk.
    chunks ... waited: as `runtime.scheduling` counts them; the last two in ticks.
    """

    episode: _Count
    instruction: str
    first_tick: _Count | None
    last_tick: _Count | None
    seconds: _Seconds
    mark: Literal["success", "failure"] | None
    ended: Literal["mark", "time", "stop", "quit"]
    stop: str | None
    chunks: _Count
    late: _Count
    trimmed: _Count
    blended: _Count
    starved: _Count
    waited: _Count
    turnarounds: tuple[float, ...]


class RunFacts(_Strict):
    """`run.json`: written when the run begins, and again when it ends.

    policy: what was opened; digest: of its bundle, None where it is none. setup: name of the robot setup; profile: its
    robot. rate: ticks of the control loop per second; policy_rate: actions of a chunk per second. speed: share of the
    limits. schedule: its options as JSON. demonstrated_jerk: joint -> RMS jerk of the demonstrations' commands, in its
    unit per s³, for the joints where that is known; None where the policy keeps none. ended: why the run ended, None
    while it goes on or where it was cut off. process: the number of the control process, on `host`.
    """

    format: Literal["smolpilot-robot-run/1"] = "smolpilot-robot-run/1"
    policy: _Name
    kind: str
    digest: str | None
    engine: str | None
    setup: _Name
    profile: _Name
    instruction: str
    rate: Annotated[float, pydantic.Field(gt=0)]
    policy_rate: Annotated[float, pydantic.Field(gt=0)]
    chunk_size: Annotated[int, pydantic.Field(ge=1)]
    n_action_steps: Annotated[int, pydantic.Field(ge=1)]
    speed: Annotated[float, pydantic.Field(gt=0, le=1)]
    dry_run: bool
    schedule: dict[str, Any]
    limits: tuple[LimitFacts, ...]
    demonstrated_jerk: dict[str, _Seconds] | None = None
    cameras: tuple[str, ...]
    started_at: str
    host: str
    process: _Count
    processes: dict[str, int] = {}
    """All of them, by name."""
    smolpilot: str
    ended: str | None = None


def now_text() -> str:
    """The wall clock, with its zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def frames_folder(frames: Path, camera: str) -> Path:
    """Where the images of a camera are kept, whatever its name."""
    return frames / quote(camera, safe="")


def frame_file(frames: Path, camera: str, captured_at: float) -> Path:
    """The image of a camera that was captured then, seconds on the monotonic clock."""
    return frames_folder(frames, camera) / f"{round(captured_at * 1e6)}.jpg"


def write_facts(folder: Path, facts: RunFacts) -> None:
    """Write `run.json`, whole or not at all."""
    write_text_atomic(folder / RUN, facts.model_dump_json(indent=2) + "\n")


def read_facts(folder: Path) -> RunFacts:
    """Read `run.json`. RunLogError for a folder that is no run's, or another version's."""
    path = folder / RUN
    try:
        return RunFacts.model_validate_json(path.read_bytes())
    except OSError:
        raise RunLogError(f"{folder} is no folder of `smolpilot run`: it has no {RUN}.") from None
    except pydantic.ValidationError as error:
        raise RunLogError(
            f"{path} cannot be read: {_first(error)}", expected=f'what smolpilot run writes, "format": "{FORMAT}"'
        ) from None


def read_episodes(folder: Path) -> list[EpisodeEnd]:
    """The episodes that ended, in order; of what was said twice of one, the last. A torn last line is left out;
    RunLogError for any other damage."""
    path = folder / EPISODES
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_LINES_BYTES:
        raise RunLogError(f"{path} is too large.", expected="one line for each episode")
    found: dict[int, EpisodeEnd] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            end = EpisodeEnd.model_validate_json(line)
            found[end.episode] = end
        except pydantic.ValidationError as error:
            raise RunLogError(f"{path}:{number}: {_first(error)}", expected="how an episode ended") from None
    return [found[number] for number in sorted(found)]


def is_run_folder(folder: Path) -> bool:
    """Whether it has a `run.json` of this kind, whatever else is in it."""
    try:
        values = read_json_file(folder / RUN)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and str(values.get("format", "")).startswith("smolpilot-robot-run/")


def _first(error: pydantic.ValidationError) -> str:
    one = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in one["loc"])
    return plain(f"{place}: {one['msg']}" if place else one["msg"], LIMIT)
