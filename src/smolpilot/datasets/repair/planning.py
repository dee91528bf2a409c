"""make_plan: from the findings of a check to what a repair does about them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smolpilot.datasets.audit.declared import INDEX_COLUMNS
from smolpilot.datasets.audit.footage import Clip
from smolpilot.datasets.audit.recording import Recording, Span
from smolpilot.datasets.audit.run import Audit
from smolpilot.datasets.audit.subject import named
from smolpilot.datasets.repair.description import common_types, dtype_name, repair_info
from smolpilot.datasets.repair.episodes import Order, fatal, lacking, new_times, order_rows, place_videos
from smolpilot.datasets.repair.pairing import unpaired
from smolpilot.datasets.repair.plan import EpisodeRepair, RepairPlan
from smolpilot.datasets.repair.tasks import assign_tasks

# Errors of kept episodes, or of the whole, that no copy of the recording can put right.
_BEYOND = {
    "feature-missing": "There is no state or no action to train on.",
    "camera-black": "What a black camera did not see is not there: exclude the episode.",
    "video-swapped": "Only a person can tell: look at them with `smolpilot dataset view`.",
    "instruction-empty": "The instruction is not known: set it with `smolpilot dataset tasks`.",
}
_STATISTICS = ("statistics-missing", "statistics-damaged", "statistics-wrong", "statistics-pictures")


def make_plan(result: Audit, fps: float) -> RepairPlan:
    """What to do about the findings of `result`; nothing is read or written here but the tables in memory."""
    recording = result.recording
    plan = RepairPlan("v3.0" if recording.version == "v3.0" else "v2.1", fps)
    orders = _choose(result, plan)
    lengths = {episode: len(order.positions) for episode, order in orders.items()}
    clips, placed = place_videos(result, lengths)
    plan.actions += placed
    _drop_unpaired(result, plan, orders, clips)
    _explain_orders(recording, plan, orders)
    kept = sorted(orders)
    if not kept:
        return plan
    _number(recording, plan, kept, orders, clips)
    plan.types, mixed = common_types(recording, kept)
    plan.column_types = {name: word for name, kind in plan.types.items() if (word := dtype_name(kind)) is not None}
    if mixed:
        plan.actions.append(
            f"Columns of several types get the widest one, which holds every value: {', '.join(mixed)}."
        )
    repair_info(result, plan, kept)
    _statistics(result, plan)
    _beyond(result, plan, bool(placed))
    return plan


def _choose(result: Audit, plan: RepairPlan) -> dict[int, Order]:
    """The rows of every episode that can be kept, in order."""
    recording = result.recording
    plan.dropped |= fatal(result)
    for episode, reason in lacking(recording).items():
        plan.dropped.setdefault(episode, reason)
    orders: dict[int, Order] = {}
    for episode in recording.episodes:
        if episode in plan.dropped:
            continue
        order = order_rows(recording.rows[episode])
        if order.problem:
            plan.dropped[episode] = order.problem
            continue
        orders[episode] = order
    return orders


def _explain_orders(recording: Recording, plan: RepairPlan, orders: dict[int, Order]) -> None:
    for episode, order in orders.items():
        if order.what:
            plan.actions.append(f"Episode {episode}: {order.what}.")
        own = recording.rows[episode].get("episode_index")
        if own is not None and own.dtype.kind in "iu" and bool((own != episode).any()):
            plan.actions.append(f"Episode {episode}: episode_index written anew.")


def _drop_unpaired(
    result: Audit, plan: RepairPlan, orders: dict[int, Order], clips: dict[tuple[str, int], Clip]
) -> None:
    recording = result.recording
    swapped = {found.episode for found in result.findings if found.code == "video-swapped"}
    for episode in list(orders):
        for key, camera in recording.cameras.items():
            clip, rows = clips.get((key, episode)), len(orders[episode].positions)
            reason = ""
            if clip is None:
                reason = f"nothing says where its video of camera '{camera.name}' is"
            elif camera.is_video and clip.frames < rows:
                reason = f"camera '{camera.name}' has {clip.frames} frames for {rows} rows"
            elif camera.is_video and clip.frames != rows and episode in swapped:
                # Kept, it would look sound once the episode that it was exchanged with is gone.
                reason = f"its video of camera '{camera.name}' seems to be another episode's"
            elif camera.is_video:
                places = _places(recording, episode, orders[episode])
                reason = unpaired(recording.rows[episode], places, clip, plan.fps)
            if reason:
                plan.dropped[episode] = reason
                del orders[episode]
                break


def _number(
    recording: Recording,
    plan: RepairPlan,
    kept: list[int],
    orders: dict[int, Order],
    clips: dict[tuple[str, int], Clip],
) -> None:
    """Episodes and rows counted from 0, tasks, times and places in the videos."""
    if kept != list(range(len(kept))):
        first = next(new for new, old in enumerate(kept) if new != old)
        plan.actions.append(
            f"Episodes numbered 0 to {len(kept) - 1}, as LeRobot finds them by position ({kept[first]} is now {first})."
        )
    places = {episode: _places(recording, episode, orders[episode]) for episode in kept}
    tasks = assign_tasks(recording, places, plan)
    start, retimed = 0, {}
    for new, episode in enumerate(kept):
        order, rows = orders[episode], recording.rows[episode]
        mine = {key: clips[key, episode] for key in recording.video_cameras}
        times, off = new_times(recording, rows, order, list(mine.values()), plan.fps)
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
                spans={key: _span(recording, clip, len(order.positions), plan.fps) for key, clip in mine.items()},
                times=times,
            )
        )
        start += len(order.positions)
    _explain_times(plan, retimed)
    _explain_columns(recording, plan, kept)


def _places(recording: Recording, episode: int, order: Order) -> npt.NDArray[np.int64]:
    """The new order as places within the episode's rows, instead of within its file."""
    where = {int(position): i for i, position in enumerate(recording.rows[episode].positions)}
    return np.array([where[int(position)] for position in order.positions], dtype=np.int64)


def _span(recording: Recording, clip: Clip, rows: int, fps: float) -> Span:
    times = clip.scan.times
    begin = float(times[clip.first])
    if recording.version == "v3.0":
        return Span(clip.scan.path, begin, float(times[clip.first + rows - 1]) + 1 / fps)
    # A first frame that comes late by the file's clock is the first frame all the same.
    return Span(clip.scan.path, begin if begin > 0.4 / fps else 0.0)


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


def _explain_columns(recording: Recording, plan: RepairPlan, kept: list[int]) -> None:
    for name in INDEX_COLUMNS:
        without = [episode for episode in kept if name not in recording.rows[episode].columns]
        if without and name not in ("timestamp", "task_index", "frame_index"):
            plan.actions.append(f"Column {name} made anew for {named(without).lower()}.")
    wrong = []
    for one in plan.episodes:
        column = recording.rows[one.old].get("index")
        if column is not None and not np.array_equal(column.reshape(-1), one.first_row + np.arange(one.length)):
            wrong.append(one.old)
    if wrong:
        plan.actions.append(f"Column index counted anew for {named(wrong).lower()}.")


def _statistics(result: Audit, plan: RepairPlan) -> None:
    """Stored statistics stay where the check has nothing against them and no value has changed."""
    recording = result.recording
    against: dict[int, set[str | None]] = {}
    whole = False
    names = {camera.name: key for key, camera in recording.cameras.items()}
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
        stored = recording.records[one.old].statistics
        # Numbers are cheap to do again, and some of them may have changed; pictures have not.
        one.keep_statistics = [key for key in recording.cameras if key in stored and key not in spoiled]
    if whole or against:
        where = f" of {named(list(against)).lower()}" if against and not whole else ""
        plan.actions.append(f"Statistics{where} computed anew from the data.")


def _beyond(result: Audit, plan: RepairPlan, placed: bool) -> None:
    for found in result.findings:
        if found.code not in _BEYOND or found.severity != "error" or (placed and found.code == "video-swapped"):
            continue
        if found.episode is None or found.episode not in plan.dropped:
            text = f"{found.message} {_BEYOND[found.code]}"
            if text not in plan.impossible:
                plan.impossible.append(text)
