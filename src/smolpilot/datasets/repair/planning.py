"""complete_plan: from the findings of a check to what a repair does about them."""

from __future__ import annotations

import numpy as np

from smolpilot.common.keys import ACTION, STATE
from smolpilot.datasets.check import CheckResult
from smolpilot.datasets.check.context import named
from smolpilot.datasets.check.scan.scanning import RATE_TOLERANCE
from smolpilot.datasets.check.scan.video_scans import Clip
from smolpilot.datasets.format.features import INDEX_COLUMNS
from smolpilot.datasets.format.metadata import VideoSpan
from smolpilot.datasets.tolerant.found_dataset import FoundDataset

from .pairing import Trim, rows_with_images, unpaired, usable_rows
from .repair_plan import EpisodeRepair, RepairPlan
from .repaired_columns import Tables, plan_columns
from .repaired_episodes import Clips, Order, fatal, lacking, new_times, order_rows, place_videos, within
from .repaired_info import repair_info
from .repaired_tasks import assign_tasks

# Errors of kept episodes, or of the whole, that no copy of the dataset can put right.
_BEYOND = {
    "feature-missing": "There is no state or no action to train on.",
    "camera-black": "What a black camera did not see is not there: exclude the episode.",
    "video-swapped": "Only a person can tell: look at them with `smolpilot dataset view`.",
    "instruction-empty": "The instruction is not known: set it with `smolpilot dataset tasks`.",
}
_STATISTICS = ("statistics-missing", "statistics-damaged", "statistics-wrong", "statistics-pictures")


def complete_plan(result: CheckResult, plan: RepairPlan) -> None:
    """What to do about the findings of a check; nothing is read or written here but the tables."""
    dataset = result.dataset
    declared = dataset.info.get("features")
    declared = declared if isinstance(declared, dict) else {}
    tables = Tables(dataset, plan.renames, declared)
    orders = _choose(result, plan, tables)
    lengths = {episode: len(order.positions) for episode, order in orders.items()}
    clips, placed = place_videos(result, lengths)
    plan.actions += placed
    trims = _pair(result, plan, tables, orders, clips)
    _explain_orders(dataset, plan, orders)
    _trim(plan, orders, trims)
    kept = sorted(orders)
    if not kept:
        return
    _settle_rate(dataset, plan, orders, clips)
    _number(dataset, plan, orders, clips)
    plan_columns(tables, plan, kept, declared)
    plan.widths = {name: tables.width(name, kept) for name in plan.columns}
    repair_info(result, plan, kept)
    _statistics(result, plan)
    _beyond(result, plan, bool(placed))


def _choose(result: CheckResult, plan: RepairPlan, tables: Tables) -> dict[int, Order]:
    """The rows of every episode that can be kept, in order."""
    dataset = result.dataset
    plan.dropped |= fatal(result)
    for episode, reason in lacking(dataset, tables).items():
        plan.dropped.setdefault(episode, reason)
    orders: dict[int, Order] = {}
    for episode in dataset.episodes:
        if episode in plan.dropped:
            continue
        order = order_rows(dataset.rows[episode])
        if order.problem:
            plan.dropped[episode] = order.problem
            continue
        orders[episode] = order
    return orders


def _explain_orders(dataset: FoundDataset, plan: RepairPlan, orders: dict[int, Order]) -> None:
    for episode, order in orders.items():
        if order.what:
            plan.actions.append(f"Episode {episode}: {order.what}.")
        own = dataset.rows[episode].get("episode_index")
        if own is not None and own.dtype.kind in "iu" and bool((own != episode).any()):
            plan.actions.append(f"Episode {episode}: episode_index written anew.")


def _pair(
    result: CheckResult, plan: RepairPlan, tables: Tables, orders: dict[int, Order], clips: Clips
) -> dict[int, Trim]:
    """Which rows of each episode stay; episodes whose rows cannot be put onto frames are dropped."""
    dataset = result.dataset
    swapped = {found.episode for found in result.findings if found.code == "video-swapped"}
    widths = {name: tables.width(name, orders) for name in (STATE, ACTION)}
    trims: dict[int, Trim] = {}
    for episode in list(orders):
        order, rows = orders[episode], dataset.rows[episode]
        usable = usable_rows(tables, episode, order.positions, widths)
        reason = usable.problem
        mine = {key: clips.get((key, episode)) for key in dataset.cameras}
        for key, clip in mine.items():
            if clip is None and not reason:
                reason = f"nothing says where its video of camera '{dataset.cameras[key].name}' is"
        video_clips = [clip for clip in mine.values() if clip is not None and clip.camera.is_video]
        places = within(rows, order)
        shown = Trim(0, len(places))
        if not reason:
            shown = rows_with_images(rows, places, video_clips, plan.fps)
            reason = shown.problem
        for clip in video_clips if not reason else []:
            if clip.frames != len(places) and episode in swapped:
                # Kept, it would look sound once the episode that it was exchanged with is gone.
                reason = reason or f"its video of camera '{clip.camera.name}' seems to be another episode's"
            part = places[shown.first : shown.last] if clip.frames < len(places) else places
            reason = reason or unpaired(rows, part, clip, plan.fps)
        if reason:
            plan.dropped[episode] = reason
            del orders[episode]
            continue
        why = " and ".join(text for text in (shown.why, usable.why) if text)
        trims[episode] = Trim(shown.first, min(shown.last, usable.last), why)
    return trims


def _trim(plan: RepairPlan, orders: dict[int, Order], trims: dict[int, Trim]) -> None:
    """Leave the rows out, and say so once for all episodes with the same ones."""
    said: dict[tuple[int, int, str], list[int]] = {}
    for episode, trim in trims.items():
        order = orders[episode]
        count = len(order.positions)
        if (trim.first, trim.last) != (0, count):
            orders[episode] = Order(order.positions[trim.first : trim.last], order.what)
            plan.trimmed[episode] = count - (trim.last - trim.first)
            said.setdefault((trim.first, count - trim.last, trim.why), []).append(episode)
    for (first, last, why), episodes in said.items():
        which = " and ".join(f"the {end} {_rows(count)}" for end, count in (("first", first), ("last", last)) if count)
        plan.actions.append(f"{named(episodes)}: {which} left out: {why}.")


def _rows(count: int) -> str:
    return "row" if count == 1 else f"{count} rows"


def _settle_rate(dataset: FoundDataset, plan: RepairPlan, orders: dict[int, Order], clips: Clips) -> None:
    """Where all rows are put onto frames that come at another rate, that is the rate."""
    scans = {id(clip.scan): clip.scan for (_, episode), clip in clips.items() if episode in orders}
    rates = [
        scan.rate for scan in scans.values() if scan.path.suffix != ".parquet" and scan.rate > 0 and len(scan.times) > 1
    ]
    video_rate = float(np.median(rates)) if rates else plan.fps
    if abs(video_rate / plan.fps - 1) < RATE_TOLERANCE:
        return
    found = []
    for episode, order in orders.items():
        mine = [clips[key, episode] for key in dataset.video_cameras]
        times, _ = new_times(dataset.rows[episode], order, mine, plan.fps)
        if times is not None and len(times) > 1 and times[-1] > times[0]:
            found.append((len(times) - 1) / float(times[-1] - times[0]))
    if found and abs(float(np.median(found)) / video_rate - 1) < 5e-3:
        plan.fps = video_rate


def _number(dataset: FoundDataset, plan: RepairPlan, orders: dict[int, Order], clips: Clips) -> None:
    """Episodes and rows counted from 0, tasks, times and places in the videos."""
    kept = sorted(orders)
    if kept != list(range(len(kept))):
        first = next(new for new, old in enumerate(kept) if new != old)
        plan.actions.append(
            f"Episodes numbered 0 to {len(kept) - 1}, as LeRobot finds them by position ({kept[first]} is now {first})."
        )
    places = {episode: within(dataset.rows[episode], orders[episode]) for episode in kept}
    tasks = assign_tasks(dataset, places, plan)
    start, retimed = 0, {}
    for new, episode in enumerate(kept):
        order, rows = orders[episode], dataset.rows[episode]
        mine = {key: clips[key, episode] for key in dataset.video_cameras}
        times, off = new_times(rows, order, list(mine.values()), plan.fps)
        if times is not None:
            retimed[episode] = off
        plan.episodes.append(
            EpisodeRepair(
                old=episode,
                new=new,
                positions=order.positions,
                first_row=start,
                task_index=tasks[episode],
                tasks=[plan.tasks[int(index)] for index in dict.fromkeys(tasks[episode].tolist())],
                spans={key: _span(dataset, clip, len(order.positions), plan.fps) for key, clip in mine.items()},
                times=times,
            )
        )
        start += len(order.positions)
    _explain_times(plan, retimed)
    _explain_columns(dataset, plan, kept)


def _span(dataset: FoundDataset, clip: Clip, rows: int, fps: float) -> VideoSpan:
    times = clip.scan.times
    begin = float(times[clip.first])
    if dataset.format.shared_files:
        return VideoSpan(clip.scan.path, begin, float(times[clip.first + rows - 1]) + 1 / fps)
    # A first frame that comes late by the file's clock is the first frame all the same.
    return VideoSpan(clip.scan.path, begin if begin > 0.4 / fps else 0.0)


def _explain_times(plan: RepairPlan, retimed: dict[int, float]) -> None:
    if not retimed:
        return
    made = [episode for episode, off in retimed.items() if np.isnan(off)]
    moved = {episode: off for episode, off in retimed.items() if not np.isnan(off)}
    if made:
        plan.actions.append(f"{named(made)}: time stamps made anew, frame / {plan.fps:g}.")
    if moved:
        worst = max(moved.values())
        plan.actions.append(
            f"{named(list(moved))}: time stamps put onto their video frames, one row to one frame (they were "
            f"up to {worst:.3g} s off); the recorded ones are kept in meta/recorded_timestamps.parquet."
        )


def _explain_columns(dataset: FoundDataset, plan: RepairPlan, kept: list[int]) -> None:
    for name in INDEX_COLUMNS:
        without = [episode for episode in kept if name not in dataset.rows[episode].columns]
        if without and name not in ("timestamp", "task_index", "frame_index"):
            plan.actions.append(f"Column {name} made anew for {named(without).lower()}.")
    wrong = []
    for one in plan.episodes:
        column = dataset.rows[one.old].get("index")
        if column is not None and not np.array_equal(column.reshape(-1), one.first_row + np.arange(one.length)):
            wrong.append(one.old)
    if wrong:
        plan.actions.append(f"Column index counted anew for {named(wrong).lower()}.")


def _statistics(result: CheckResult, plan: RepairPlan) -> None:
    """Stored statistics stay where the check has nothing against them and no value has changed."""
    dataset = result.dataset
    against: dict[int, set[str | None]] = {}
    whole = False
    names = {camera.name: key for key, camera in dataset.cameras.items()}
    swapped = {found.episode for found in result.findings if found.code == "video-swapped"}
    for found in result.findings:
        # Statistics of exchanged videos are the only witness of what they were.
        if found.code not in _STATISTICS or (found.code == "statistics-pictures" and found.episode in swapped):
            continue
        if found.episode is None:
            whole = True
        else:
            against.setdefault(found.episode, set()).add(names.get(found.camera or ""))
    for one in plan.episodes:
        spoiled = against.get(one.old, set())
        stored = dataset.records[one.old].statistics
        # Numbers are cheap to do again, and some of them may have changed; images have not.
        one.keep_statistics = [key for key in dataset.cameras if key in stored and key not in spoiled]
    if whole or against:
        where = f" of {named(list(against)).lower()}" if against and not whole else ""
        plan.actions.append(f"Statistics{where} computed anew from the data.")


def _beyond(result: CheckResult, plan: RepairPlan, placed: bool) -> None:
    told = dict.fromkeys(plan.impossible)
    for found in result.findings:
        if found.code not in _BEYOND or found.severity != "error" or (placed and found.code == "video-swapped"):
            continue
        if found.episode is None or found.episode not in plan.dropped:
            text = f"{found.message} {_BEYOND[found.code]}"
            asked = found.code == "feature-missing" and any(
                f"'{key}'" in found.message and f"'{key}'" in said for key in (STATE, ACTION) for said in told
            )
            if not asked:
                told[text] = None
    plan.impossible = list(told)
