"""What a person wants to know of a recording, as plain values for `smolpilot dataset info`."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolpilot.datasets.features import dimension_names
from smolpilot.datasets.reader import Dataset
from smolpilot.datasets.units import doubt_units, find_profile, joint_units


def summarise(dataset: Dataset, robot: str | None = None) -> dict[str, Any]:
    """Facts of the selected episodes, ready for JSON.

    LeRobot's format states no units: `units` of state and action are those of the robot's profile, null where it is
    not known. robot: a profile's name or path, `none`, or None: by robot_type or joint names.
    """
    meta = dataset.meta
    notes: list[str] = []
    profile = find_profile(meta, robot, notes)
    units = joint_units(meta, profile, chosen=robot is not None, notes=notes)
    if profile is not None and (doubt := doubt_units(meta, profile)) is not None:
        notes.append(f"units: {doubt.text}" + (f" ({doubt.fix})" if doubt.fix else ""))
    lengths = [meta.episode(index).length for index in dataset.episodes]
    return {
        "path": str(meta.root),
        "version": meta.version,
        "robot_type": meta.robot_type,
        "robot": {"name": profile.name if profile is not None else None, "notes": notes},
        "episodes": len(dataset.episodes),
        "episode_frames": {"min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)},
        "frames": len(dataset),
        "hours": len(dataset) / meta.fps / 3600,
        "fps": meta.fps,
        "features": {
            name: {
                "dtype": feature.dtype,
                "shape": list(feature.shape),
                "names": dimension_names(feature)
                if len(feature.shape) == 1 and feature.shape[0] > 1
                else feature.names,
                "named_by_dataset": feature.names is not None,
                "unit": None,
                **({"units": units[name]} if name in units else {}),
            }
            for name, feature in meta.features.items()
        },
        "cameras": {
            name: {"width": c.width, "height": c.height, "codec": c.codec, "pixel_format": c.pix_fmt, "fps": c.fps}
            for name, c in meta.cameras.items()
        },
        "instructions": _instructions(dataset),
        "statistics": {
            name: {key: value.tolist() for key, value in stats.items()} for name, stats in meta.statistics.items()
        },
        "fingerprint": meta.fingerprint,
    }


def _instructions(dataset: Dataset) -> list[dict[str, Any]]:
    rows = []
    for value in np.unique(dataset.task_index):
        chosen = dataset.task_index == value
        rows.append(
            {
                "task_index": int(value),
                "text": dataset.meta.tasks[int(value)],
                "episodes": len(np.unique(dataset.episode_index[chosen])),
                "frames": int(chosen.sum()),
            }
        )
    return rows
