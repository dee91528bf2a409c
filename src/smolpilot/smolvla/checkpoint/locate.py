"""Where a checkpoint is: a folder, a run folder above it, or a hub id, fetched into the cache. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.errors import CheckpointError, HubError, UsageError
from smolpilot.common.safe_paths import followed, require_readable
from smolpilot.common.text import LIMIT, plain

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
EXPORT = "policy.json"  # in the folder of an ONNX export
_STEP = re.compile(r"(step_)?\d+")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_PATTERNS = [
    "config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "adapter_config.json",
    "adapter_model.safetensors", "policy_*", "smolpilot.json", "robot.yaml", "operating_limits.json",
    "vlm/*",
]  # fmt: skip
_VLM_PATTERNS = ["*.json", "merges.txt", "*.jinja"]


@dataclass(frozen=True)
class Located:
    """`folder` holds the checkpoint; `source` is what the user named; `from_hub` allows to fetch its tokenizer too."""

    folder: Path
    source: str
    from_hub: bool = False


def locate(source: str | Path, revision: str | None = None) -> Located:
    """Find the checkpoint folder behind a path or hub id.

    Looks into training runs: `pretrained_model/`, `checkpoints/best`, `checkpoints/last` (also LeRobot's
    `checkpoints/last/pretrained_model`), else the latest step. A hub id is used only when no such path exists. Raises
    UsageError for a path that does not exist, CheckpointError for a folder without a checkpoint, HubError when the
    hub fails.
    """
    path = followed(Path(source).expanduser())
    if path.exists():
        if revision is not None:
            raise UsageError(f"revision '{revision}' was given for the folder {path}.", expected="a hub id with it")
        folder = _inside(path)
        # Not missing and not torn: what may not be read is told as that.
        for file in (*folder.iterdir(), *folder.glob("vlm/*")):
            require_readable(file)
        return Located(folder, str(source))
    if looks_like_hub_id(str(source)):
        return Located(fetch(str(source), revision=revision, patterns=_PATTERNS), str(source), from_hub=True)
    raise UsageError(
        f"There is no checkpoint at {path}.", expected="a checkpoint folder, a run folder, or a hub id ORG/NAME"
    )


def looks_like_hub_id(text: str) -> bool:
    """Whether a text that names no existing path is meant as ORG/NAME: not when its first folder exists."""
    return bool(_HUB_ID.fullmatch(text)) and not Path(text).parent.exists()


def existing(named: str | Path) -> Path | None:
    """The path that a file or a user names, None where there is no such thing, or could not be."""
    try:
        path = Path(named).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, the home of nobody
        return None


def fetch(repo: str, *, revision: str | None = None, patterns: list[str]) -> Path:
    """The files of a hub repository, from the cache when it has them; HubError says why it cannot."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except RevisionNotFoundError as error:
        raise HubError(f"{repo} has no revision '{revision}'.", fix="check the revision's name") from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"The hub has no repository '{repo}', or you may not read it.",
            fix="check the id (or the path, if you meant a folder); for a private one log in with `hf auth login`",
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        way = "unset HF_HUB_OFFLINE" if offline else "check the network"
        reason = "HF_HUB_OFFLINE is set and the cache does not have it" if offline else str(error).split("\n")[0]
        raise HubError(
            f"'{repo}' is no folder here, and it cannot be fetched from the hub: {reason}.",
            expected="an existing checkpoint folder, or a hub id with network (or in the cache)",
            fix=f"check the path; or {way}, or copy the checkpoint folder here",
        ) from error


def fetched_before(repo: str, revision: str | None = None) -> Path | None:
    """The checkpoint of a hub repository in the local cache, None when it is not there; never the network."""
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=_PATTERNS, local_files_only=True)
        )
    except (OSError, ValueError):
        return None


def fetch_vlm_files(repo: str) -> Path:
    """Config and tokenizer files (no weights) of a vision-language model on the hub."""
    return fetch(repo, patterns=_VLM_PATTERNS)


def cached_folder(repo: str) -> Path | None:
    """The folder of a hub repository in the local cache, None when it is not there; never the network."""
    import huggingface_hub

    try:
        found = huggingface_hub.try_to_load_from_cache(repo, CONFIG)
    except (OSError, ValueError):  # what no id can be
        return None
    return Path(found).parent if isinstance(found, str) else None


def _inside(path: Path) -> Path:
    """The checkpoint folder at or below `path`."""
    if path.is_file():
        raise UsageError(f"{path} is a file.", expected="the checkpoint folder that holds it", fix=f"use {path.parent}")
    places = [path, path / "pretrained_model"]
    for root in (path / "checkpoints", path):
        for name in ("best", "last"):
            places += [root / name, root / name / "pretrained_model"]
    for root in (path / "checkpoints", path):
        if newest := newest_step(followed(root)):
            places += [newest, newest / "pretrained_model"]
    for place in map(followed, places):
        # A run folder of smolpilot has a config.yaml, one of LeRobot a train_config.json: neither is taken for this.
        if (place / CONFIG).is_file() or (place / ADAPTER_CONFIG).is_file():
            return place.resolve()
    runs = sorted(entry for entry in path.glob("seed_*") if (entry / "checkpoints").is_dir())
    raise CheckpointError(
        f"{path} holds no checkpoint: {_content(path)}.",
        fix=f"it holds a run for each training seed; name one of them: {runs[0]}" if runs else "",
        expected=f"{CONFIG} with model.safetensors (or its shards), or {ADAPTER_CONFIG}, or a run folder with "
        "checkpoints/last",
    )


def _content(folder: Path) -> str:
    """What a folder is instead of a checkpoint."""
    if (folder / "meta" / "info.json").is_file():
        return "it is a LeRobot dataset"
    if (folder / EXPORT).is_file():
        return "it is an ONNX export, which `load_policy` does not read (`open_policy` does)"
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"it holds {plain(', '.join(names[:3]), LIMIT)}{more}" if names else "it is empty"


def newest_step(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a `checkpoints` folder: `step_000100`, or LeRobot's `000100`."""
    steps = [entry for entry in folder.iterdir() if _STEP.fullmatch(entry.name)] if folder.is_dir() else []
    return max(steps, key=lambda entry: int(entry.name.removeprefix("step_")), default=None)
