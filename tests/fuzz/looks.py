"""What is done with an input, and what comes out of it: verbs and public functions, results as comparable values.

A look takes the folder of a case and returns what it read or computed, part by part; errors of ours leave it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

type Values = dict[str, Any]
type Look = Callable[["Place"], Values]


class Refused(Exception):  # noqa: N818
    """A verb ended with 1 or 2 and said why."""


class Misbehaved(Exception):  # noqa: N818
    """A verb did what no verb may do."""


class Place:
    """Where a case happens: the changed input, a folder for outputs, the untouched inputs beside it."""

    def __init__(self, root: Path, given: Path, world: Path) -> None:
        self.root, self.given, self.world = root, given, world
        self.out = root / "out"
        # One folder for each process: two workers look at the same world at the same time.
        self.outside = world / f"outside-{os.getpid()}"
        self.said = ""

    def verb(self, *args: object, findings: bool = False) -> str:
        """Run a verb on the command line and return its standard output. Refused for a clear error.

        findings: the verb may end with 1 without an error, because it reports.
        """
        from smolpilot.cli.main import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code: Any = main([str(arg) for arg in args])
            except SystemExit as stop:
                code = stop.code
        self.said += err.getvalue()
        text = f"{out.getvalue()}\n{err.getvalue()}"
        if "Traceback (most recent call last)" in text:
            raise Misbehaved(f"{args[0]} printed a traceback: {text[-600:]}")
        if code not in (0, 1, 2):
            raise Misbehaved(f"{args[0]} ended with {code!r}")
        if code and not (findings and code == 1 and not err.getvalue().startswith("error:")):
            if not text.strip():
                raise Misbehaved(f"{args[0]} ended with {code} and said nothing")
            if "The memory does not suffice" in text:
                raise MemoryError
            raise Refused(" ".join(err.getvalue().split())[:300] or f"exit code {code}")
        return out.getvalue()


def digest(array: Any) -> str:
    """A short name for an array's type, shape and content."""
    import xxhash

    values = np.ascontiguousarray(array)
    return f"{values.dtype}{list(values.shape)} {xxhash.xxh3_64_hexdigest(values.tobytes())}"


def finite(value: Any) -> bool:
    """Whether no number in it is NaN or infinite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(finite(child) for child in value.values())
    return all(finite(child) for child in value) if isinstance(value, list | tuple) else True


# Recordings


def read(place: Place, root: Path | None = None) -> Values:
    """Everything that `open_dataset` gives: descriptions, numbers, instructions and every picture."""
    from smolpilot.datasets import open_dataset

    dataset = open_dataset(root or place.given, chunk_size=4)
    try:
        return _read(dataset)
    finally:
        dataset.close()


_BOUNDS = ("mean", "std", "min", "max", "count")
_INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def _read(dataset: Any) -> Values:
    meta = dataset.meta
    sample = dataset.batch(range(len(dataset)), images=None)
    if not all(isinstance(text, str) and text.strip() for text in sample["task"]):
        raise Misbehaved(f"instructions that are no text: {sample['task'][:3]}")
    numbers = {"observation.state": dataset.states, "action": dataset.actions}
    if not all(np.isfinite(values).all() for values in numbers.values()):
        raise Misbehaved("states or actions that are not finite")
    return {
        "version": meta.version,
        "fps": meta.fps,
        "robot": meta.robot_type,
        "joints": (meta.state_names, meta.action_names),
        # What an index column is the table says.
        "features": {k: (one.dtype, tuple(one.shape)) for k, one in sorted(meta.features.items()) if k not in _INDICES},
        "cameras": {name: (one.height, one.width) for name, one in meta.cameras.items()},
        "episodes": [(one.index, one.length) for one in meta.episodes],
        "statistics": {key: _statistics(meta.statistics.get(key, {})) for key in numbers},
        "numbers": {key: digest(values) for key, values in numbers.items()},
        "rows": {name: digest(getattr(dataset, name)) for name in ("episode_index", "frame_index", "timestamps")},
        "instructions": list(sample["task"]),
        "pictures": {name: digest(dataset.pictures(range(len(dataset)), name)) for name in meta.cameras},
        "left out": dict(meta.left_out),
    }


def _statistics(found: Any) -> dict[str, list[float]]:
    """Those that normalize, to six digits: computed anew they may differ in the last bits. Others may be left out."""
    values = {name: np.asarray(found[name], np.float64) for name in _BOUNDS}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise Misbehaved("statistics that are not finite")
    return {name: [float(f"{one:.6g}") for one in value.ravel()] for name, value in values.items()}


def info(place: Place) -> Values:
    """`dataset info`, for a person."""
    place.verb("dataset", "info", place.given)
    return {}


def info_json(place: Place) -> Values:
    """`dataset info --json`."""
    document = json.loads(place.verb("dataset", "info", place.given, "--json"))
    return {"frames": document["frames"], "told": {"info": document["episodes"]}}


def check(place: Place) -> Values:
    """`dataset check`: the errors and warnings that it finds; never an exception within a check."""
    document = json.loads(place.verb("dataset", "check", place.given, "--json", "--jobs", "1", findings=True))
    codes = sorted({one["code"] for one in document["findings"] if one["severity"] in ("error", "warning")})
    if "check-failed" in codes:
        raise Misbehaved(str([one["message"] for one in document["findings"] if one["code"] == "check-failed"])[:400])
    return {"findings": codes}


def check_page(place: Place) -> Values:
    """`dataset check --html`, with the text for a person."""
    place.verb("dataset", "check", place.given, "--html", place.out / "result.html", findings=True)
    return {}


def convert(place: Place) -> Values:
    """`dataset convert` to the other version, and what the copy holds."""
    version = "v3.0" if (place.given / "meta" / "tasks.jsonl").exists() else "v2.1"
    place.verb("dataset", "convert", place.given, place.out / "result", "--to", version)
    return _written(place)


def repair(place: Place) -> Values:
    """`dataset repair`: a copy that may be read, or a clear word."""
    place.verb("dataset", "repair", place.given, place.out / "result", findings=True)
    return {}


def split(place: Place) -> Values:
    """`dataset split`: two copies."""
    place.verb("dataset", "split", place.given, place.out / "result", "--parts", "train=0,2", "val=rest")
    return {}


def exclude(place: Place) -> Values:
    """`dataset exclude`: a copy with one episode less."""
    place.verb("dataset", "exclude", place.given, place.out / "result", "--episodes", "2")
    return {}


def tasks(place: Place) -> Values:
    """`dataset tasks` lists the instructions."""
    place.verb("dataset", "tasks", place.given)
    return {}


def stats(place: Place) -> Values:
    """`dataset stats`: the numbers."""
    place.verb("dataset", "stats", place.given)
    return {}


def view(place: Place) -> Values:
    """`dataset view` without the check: the page's own reading."""
    place.verb("dataset", "view", place.given, "--no-check", "--out", place.out / "result")
    return {}


def compare(place: Place) -> Values:
    """`dataset compare` with the sound recording."""
    place.verb("dataset", "compare", place.given, place.world / "v3", findings=True)
    return {}


def _written(place: Place) -> Values:
    """What the copy holds; a source that cannot be read may be copied as it is."""
    from smolpilot.common.errors import SmolpilotError

    try:
        found = read(place, place.out / "result")
    except SmolpilotError as error:
        with contextlib.suppress(SmolpilotError):
            read(place)
            raise Misbehaved(f"the source can be read, its copy cannot: {error}") from error
        return {}
    return {f"copied {key}": found[key] for key in ("numbers", "instructions", "episodes")}


# Policies


def predict(place: Place) -> Values:
    """Actions of the policy for a made-up frame and a fixed draw; finite, or refused."""
    from smolpilot.smolvla import load_policy

    policy = load_policy(place.given, device="cpu")
    return {"actions": _actions(policy), **_described(policy)}


def _actions(policy: Any) -> str:
    import torch

    from smolpilot.inference.example_frame import example_frame

    frame = example_frame(policy.transforms_config)
    config = policy.config
    noise = torch.randn(config.chunk_size, config.max_action_dim, generator=torch.Generator().manual_seed(0))
    chunk = policy.predict_chunk(frame, noise)
    if not bool(torch.isfinite(chunk).all()):
        raise Misbehaved("actions that are not finite")
    # The last bits may depend on how memory is aligned.
    return digest(np.round(chunk.numpy().astype(np.float64), 3) + 0.0)


def _described(policy: Any) -> Values:
    profile = policy.profile
    return {
        "instructions": policy.instructions,
        "joints": None if profile is None else [(joint.name, joint.unit) for joint in profile.joints],
        "camera map": dict(policy.transforms_config.camera_map),
        "horizon": policy.n_action_steps,
        "lineage": json.dumps({k: v for k, v in policy.lineage.items() if k != "parent"}, default=str, sort_keys=True),
    }


def bundle(place: Place) -> Values:
    """`bundle`, for a person."""
    place.verb("bundle", place.given)
    return {}


def bundle_json(place: Place) -> Values:
    """`bundle --json`, without NaN."""
    document = json.loads(place.verb("bundle", place.given, "--json"))
    if not finite(document["statistics"]):
        raise Misbehaved("statistics that are not finite")
    return {}


def localize(place: Place) -> Values:
    """`bundle localize` of a copy: paths written into two files, or a clear word."""
    import shutil

    shutil.copytree(place.given, place.out / "result", symlinks=True)
    with contextlib.suppress(Refused):
        place.verb("bundle", "localize", place.out / "result")
    return {}


def nothing(place: Place) -> Values:
    """No verb more."""
    return {}


def preflight(place: Place) -> Values:
    """`preflight` of the sound recording with this policy."""
    place.verb("preflight", "--dataset", place.world / "v3", "--policy", place.given, findings=True)
    return {}


def evaluate(place: Place) -> Values:
    """`eval` on the sound recording."""
    arguments = ("--dataset", place.world / "v3", "--out", place.out / "result", "--max-frames", "2")
    place.verb("eval", place.given, *arguments, "--episodes", "all", "--device", "cpu")
    return {}


def engine(place: Place) -> Values:
    """An engine that starts from the changed cache must be the policy, whatever the cache holds."""
    from smolpilot.inference import prepare

    engine = prepare(
        place.world / "bundle", engine="fast", backend="openvino", device="cpu", cache_dir=place.given, warm_up=False
    )
    return {"actions": _rounded(engine)}


def _rounded(engine: Any) -> str:
    import torch

    from smolpilot.inference.example_frame import example_frame

    config = engine.settings.config
    noise = torch.randn(config.chunk_size, config.max_action_dim, generator=torch.Generator().manual_seed(0))
    chunk = torch.as_tensor(engine.predict_chunk(example_frame(engine.transforms.config), noise=noise))
    if not bool(torch.isfinite(chunk).all()):
        raise Misbehaved("actions that are not finite")
    return digest(np.round(chunk.numpy().astype(np.float64), 3) + 0.0)


def exported(place: Place) -> Values:
    """The shipped example on the changed files: the actions of the export, or an error of its own words."""
    from smolpilot.inference.export.example import ExportedPolicy

    try:
        policy = ExportedPolicy(place.given)
        frame = np.load(place.given / "example_frame.npz")
        images = {name.removeprefix("image."): frame[name] for name in frame.files if name.startswith("image.")}
        chunk = policy.predict_chunk(images, frame["state"], str(frame["instruction"]), frame["noise"])
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from None
    if not np.isfinite(chunk).all():
        raise Misbehaved("actions that are not finite")
    return {"actions": digest(np.round(chunk.astype(np.float64), 3) + 0.0)}


def block(place: Place) -> Values:
    """A block of the frame cache: the numbers that were written, or nothing (they are computed again)."""
    import torch

    from smolpilot.training.cache.block_store import BlockStore

    found = BlockStore(place.given, (8,), torch.float32).read("abcdef", 6)
    if found is None:
        raise Refused("read as nothing")
    return {"numbers": digest(found.numpy())}


# YAML and runs


def profile(place: Place) -> Values:
    """`robot profile check FILE`."""
    place.verb("robot", "profile", "check", place.given)
    document = json.loads(place.verb("robot", "profile", "check", place.given, "--json"))["profile"]
    if not finite(document):
        raise Misbehaved("limits that are not finite")
    return {"profile": document}


def setup(place: Place) -> Values:
    """`robot show FILE` of a robot setup."""
    place.verb("robot", "show", place.given)
    document = json.loads(place.verb("robot", "show", place.given, "--json"))
    if not finite(document):
        raise Misbehaved("limits that are not finite")
    return {"setup": document}


def calibration(place: Place) -> Values:
    """LeRobot's calibration of an arm."""
    from smolpilot.robots import RobotProfile
    from smolpilot.runtime.calibration import read_calibration

    found = read_calibration(place.given, RobotProfile.load("so101"))
    return {"calibration": {joint: vars(one) for joint, one in found.items()}}


def demonstrated(place: Place) -> Values:
    """The limits of the demonstrations, as the run time reads them."""
    from smolpilot.robots.demonstrated import read_demonstrated

    found = read_demonstrated(place.given)
    if found is None:
        raise Refused("there are none")
    document = found.to_json()
    if not finite(document):
        raise Misbehaved("limits that are not finite")
    return {"limits": document}


def train_options(place: Place) -> Values:
    """The settings of `train --config FILE`, with their defaults."""
    from smolpilot.cli.parsing.options import parse_with_config
    from smolpilot.training import TrainOptions
    from smolpilot.training.options.train_options import check, resolve

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            words = ["--config", str(place.given), "--out", str(place.out / "result")]
            options = resolve(parse_with_config(TrainOptions, words, verb="train"))
            check(options)
    except SystemExit as stop:
        if stop.code != 2:
            raise Misbehaved(f"exit code {stop.code!r}") from None
        raise Refused(said.getvalue()[-300:]) from None
    return {"settings": repr({key: value for key, value in vars(options).items() if key != "out"})}


def train_nowhere(place: Place) -> Values:
    """`train --config FILE` where the recording is missing: refused, whatever else the file says."""
    (place.root / "v3").unlink(missing_ok=True)
    with contextlib.suppress(Refused):
        place.verb("train", "--config", place.given, "--out", place.out / "result")
    return {}


def train_on(place: Place) -> Values:
    """`train` for one step on the recording."""
    arguments = ("--preset", "tiny", "--from-scratch", "--steps", "1", "--batch-size", "4", "--chunk-size", "4")
    rest = ("--held-out", "0", "--device", "cpu", "--out", place.out / "result")
    place.verb("train", "--dataset", place.given, *arguments, *rest)
    return {}


def train_config(place: Place) -> Values:
    """`train --config FILE` for one step; the settings of the run are those of the file."""
    place.verb("train", "--config", place.given, "--out", place.out / "result", "--steps", "1", "--device", "cpu")
    text = (place.out / "result" / "config.yaml").read_text()
    return {"settings": "\n".join(line for line in text.splitlines() if not line.startswith("out:"))}


def plan(place: Place) -> Values:
    """The stages of a sequence, as `train --stages` reads them."""
    from smolpilot.training import TrainOptions
    from smolpilot.training.stages.plan import load_plan, plan_text
    from smolpilot.training.stages.stage_options import merge_defaults

    plan = load_plan(place.given)
    return {"plan": plan_text(plan), "defaults": repr(merge_defaults(plan, TrainOptions()))}


def train_stages(place: Place) -> Values:
    """`train --stages FILE` in a place without recordings: nothing but the plan can be wrong first."""
    (place.root / "v3").unlink(missing_ok=True)
    with contextlib.suppress(Refused):
        place.verb("train", "--stages", place.given, "--out", place.out / "result")
    return {}


def status(place: Place) -> Values:
    """`status RUN`, for a person and as JSON."""
    place.verb("status", place.given, findings=True)
    document = json.loads(place.verb("status", place.given, "--json", findings=True))
    return {"status": {key: value for key, value in document.items() if key not in ("run", "last_line_s")}}


def resume(place: Place) -> Values:
    """`train --resume` of a finished run for one more step."""
    place.verb("train", "--resume", "--out", place.given, "--steps", "3")
    return {}
