"""A dataset path that does not exist: a hub id, a typing mistake, or a folder that another program keeps elsewhere."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from pathlib import Path

from smolpilot.common.errors import UsageError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PREFIX = re.compile(r"^(https?:/{1,2}huggingface\.co/datasets/|hf:/{1,2}datasets/|hf:/{1,2}|datasets/)")


def missing_dataset(path: Path) -> UsageError:
    """The error for a dataset path that does not exist, with what can be done about this very path."""
    identifier = hub_id(path)
    shown = _shown(path)
    if identifier is None:
        return UsageError(f"The dataset path {path} does not exist.", fix=_nearest(path) or "Check the path.")
    fetching = f"hf download {identifier} --repo-type dataset --local-dir {identifier.split('/')[1]}"
    if Path(identifier).parent.exists() and _PREFIX.sub("", shown) == shown:
        near = _nearest(path) or "Check the path."
        return UsageError(
            f"The dataset path {shown} does not exist.", fix=f"{near} If it is meant as a hub id: {fetching}"
        )
    cached = cached_folder(identifier)
    if cached is not None:
        return UsageError(
            f"There is no folder {shown} here. It looks like a hub id, and that dataset is in the cache: {cached}.",
            expected="the folder of a dataset",
            fix=f"give that folder: {shlex.quote(str(cached))}",
        )
    return UsageError(
        f"There is no folder {shown} here; it looks like a hub id. Datasets are read from folders.",
        expected="the folder of a dataset",
        fix=f"fetch it: {fetching}; then give that folder: {identifier.split('/')[1]}",
    )


def hub_id(path: Path) -> str | None:
    """ORG/NAME when the path that does not exist can be meant as that, also as an address of the hub; else None."""
    text = _shown(path)
    bare = _PREFIX.sub("", text).rstrip("/")
    if bare != text:
        bare = "/".join(bare.split("/")[:2])
    return bare if _ID.fullmatch(bare) else None


def cached_folder(identifier: str) -> Path | None:
    """Where LeRobot or the hub's own cache keeps the dataset on this machine; None where neither does. No network."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    home = Path(os.environ.get("HF_HOME") or cache).expanduser()
    lerobot = Path(os.environ.get("HF_LEROBOT_HOME") or home / "lerobot").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    places = [lerobot / identifier]
    for folder in (lerobot / "hub", hub):
        kept = folder / f"datasets--{identifier.replace('/', '--')}" / "snapshots"
        if kept.is_dir():
            places += sorted(kept.iterdir(), key=lambda place: -place.stat().st_mtime)
    return next((place for place in places if (place / "meta" / "info.json").is_file()), None)


def _shown(path: Path) -> str:
    """The path as it was probably typed: relative to where the command runs."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def _nearest(path: Path) -> str:
    """An existing dataset folder beside the path whose name is near; empty without one."""
    parent = path.parent
    if not parent.is_dir():
        return ""
    names = [entry.name for entry in parent.iterdir() if (entry / "meta").is_dir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"Did you mean '{parent / near[0]}'?" if near else ""
