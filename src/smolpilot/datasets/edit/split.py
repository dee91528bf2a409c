"""split(): one dataset as several, by shares of each task or by lists of episodes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smolpilot.common.atomic import refuse_existing
from smolpilot.common.errors import UsageError
from smolpilot.datasets.copy import MANIFEST, CopyReport, Progress, work_folder
from smolpilot.datasets.copy.engine import copy_episodes
from smolpilot.datasets.copy.options import EditSettings, EpisodePlan
from smolpilot.datasets.copy.work import may_go_on
from smolpilot.datasets.format.meta import DatasetMeta
from smolpilot.datasets.splits import episode_ranges, parse_episodes, split_episodes

from .history import left_out, with_edit

REST = "rest"
_PLAN = ".plan"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Parts:
    """Episodes (index values) of each part by name, and those in none."""

    episodes: dict[str, list[int]]
    left_out: list[int] = field(default_factory=list)


def plan_parts(meta: DatasetMeta, wishes: Mapping[str, str], *, seed: int = 0) -> Parts:
    """Episodes for parts such as `train=0.8 val=0.2` (shares of each task) or `val=0,3-5 train=rest` (lists).

    The same dataset, shares and seed give the same parts. Raises UsageError for shares over 1, for both kinds in
    one wish, an episode in two parts, and a part that would be empty.
    """
    if len(wishes) < 1:
        raise UsageError("No parts are named.", expected="--parts train=0.8 val=0.2")
    for name in wishes:
        if not _NAME.fullmatch(name):
            raise UsageError(f"'{name}' is no name for a part.", expected="letters, digits, '_', '-' and '.'")
    shares = {name: _share(text) for name, text in wishes.items()}
    lists = [name for name, share in shares.items() if share is None and wishes[name] != REST]
    if any(share is not None for share in shares.values()):
        if lists:
            raise UsageError(
                f"--parts mixes shares and lists of episodes ('{lists[0]}').", expected="one of the two for all parts"
            )
        parts = _by_share(meta, {name: share for name, share in shares.items() if share is not None}, seed)
    else:
        words = f"a share such as 0.8 or 80%, '{REST}', or "
        parts = {name: parse_episodes(wishes[name], meta, words=words, option=f"--parts {name}") for name in lists}
    taken = Counter(index for chosen in parts.values() for index in chosen)
    doubled = min((index for index, count in taken.items() if count > 1), default=None)
    if doubled is not None:
        raise UsageError(f"Episode {doubled} is in more than one part.", expected="each episode in one part at most")
    left = [episode.index for episode in meta.episodes if episode.index not in taken]
    remaining = [name for name, text in wishes.items() if text == REST]
    if len(remaining) > 1:
        raise UsageError(f"{len(remaining)} parts take the rest.", expected="one")
    if remaining:
        parts[remaining[0]], left = left, []
    for name in wishes:
        if not parts[name]:
            raise UsageError(
                f"The part '{name}' would have no episode.", expected=f"a larger share of {len(meta.episodes)} episodes"
            )
    return Parts({name: parts[name] for name in wishes}, left)


def split(
    meta: DatasetMeta,
    dst: str | Path,
    parts: Parts,
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, CopyReport]:
    """Write each part as a folder in the new folder `dst`: all of them, or `dst` does not appear.

    Stopped and run again it goes on: finished parts are kept beside `dst` until the last is ready.
    """
    target = Path(dst).expanduser().absolute()
    refuse_existing(target, "datasets", meta.root)
    work = target.parent / f".{target.name}.smolpilot-split"
    _begin(work, meta, parts, settings or EditSettings())
    try:
        reports = _write_parts(meta, work, parts, settings, progress)
    except BaseException as error:
        if not may_go_on(error) or [path.name for path in work.iterdir()] == [_PLAN]:
            # Nothing worth keeping.
            shutil.rmtree(work, ignore_errors=True)
        raise
    (work / _PLAN).unlink()
    work.rename(target)
    return reports


def _write_parts(
    meta: DatasetMeta, work: Path, parts: Parts, settings: EditSettings | None, progress: Progress | None
) -> dict[str, CopyReport]:
    reports = {}
    for name, episodes in parts.episodes.items():
        if (work / name / MANIFEST).exists():
            # Killed between putting the part in place and tidying up.
            shutil.rmtree(work_folder(work / name), ignore_errors=True)
            frames = sum(meta.episode(index).length for index in episodes)
            reports[name] = CopyReport(episodes=len(episodes), frames=frames)
            continue
        files = with_edit(meta, "split", part=name, episodes=episode_ranges(episodes), **left_out(meta))
        reports[name] = write_episodes(meta, work / name, episodes, files, settings, progress)
    return reports


def _begin(work: Path, meta: DatasetMeta, parts: Parts, settings: EditSettings) -> None:
    """Keep the parts that an equal split has finished; forget those of another."""
    version, without = str(settings.copying([meta]).version), sorted(meta.without)
    text = json.dumps([str(meta.root), meta.fingerprint, parts.episodes, version, without])
    plan = hashlib.sha256(text.encode()).hexdigest()
    if work.exists() and (not (work / _PLAN).exists() or (work / _PLAN).read_text() != plan):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / _PLAN).write_text(plan)


def _by_share(meta: DatasetMeta, shares: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Shares of every task: each part in turn is drawn from what the ones before left."""
    total = sum(shares.values())
    if total > 1 + 1e-6:
        raise UsageError(f"The shares add up to {total:g}.", expected="1 at most")
    left, open_share = [episode.index for episode in meta.episodes], 1.0
    names = list(shares)
    parts: dict[str, list[int]] = {}
    # The largest part is the last: what rounding does falls where it matters least.
    for name in sorted(names, key=lambda name: shares[name]):
        fraction = shares[name] / open_share
        if fraction > 1 - 1e-6:
            parts[name], left = left, []
        else:
            left, parts[name] = split_episodes(meta, held_out=fraction, seed=seed, episodes=left)
        open_share -= shares[name]
    return parts


def _share(text: str) -> float | None:
    """A share such as 0.8 or 80%; None for a list of episodes."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    if "." not in text and not text.endswith("%"):
        return None
    if not 0 < share <= 1:
        raise UsageError(f"The share {text} is none.", expected="above 0, up to 1.0")
    return share


def exclude(
    meta: DatasetMeta,
    dst: str | Path,
    episodes: Collection[int],
    settings: EditSettings | None = None,
    *,
    progress: Progress | None = None,
) -> CopyReport:
    """Write all episodes but `episodes` (index values) as the new folder `dst`, numbered 0, 1, … in their order.

    Raises UsageError for an unknown episode and when none would be left; otherwise as `copy_episodes` does.
    """
    gone = {meta.episode(index).index for index in episodes}
    kept = [episode.index for episode in meta.episodes if episode.index not in gone]
    if not kept:
        raise UsageError(f"All {len(meta.episodes)} episodes would be left out.", expected="at least one that stays")
    files = with_edit(meta, "exclude", episodes=episode_ranges(episodes), **left_out(meta))
    return write_episodes(meta, dst, kept, files, settings, progress)


def write_episodes(
    meta: DatasetMeta,
    dst: str | Path,
    kept: Sequence[int],
    files: Mapping[str, str],
    settings: EditSettings | None,
    progress: Progress | None,
) -> CopyReport:
    """Write the episodes `kept`, in that order, as a dataset of their own with this history."""
    plans = [EpisodePlan(meta, index) for index in kept]
    options = (settings or EditSettings()).copying([meta])
    return copy_episodes(plans, dst, options, renumber=True, files=files, progress=progress)
