"""What a person wants to know of a recording, as plain values for `smolpilot dataset info`."""

from __future__ import annotations

from typing import Any

import numpy as np

from smolpilot.datasets.features import dimension_names
from smolpilot.datasets.reader import Dataset


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Facts of the selected episodes, ready for JSON; units are null: LeRobot's format does not state any."""
    meta = dataset.meta
    lengths = [meta.episode(index).length for index in dataset.episodes]
    return {
        "path": str(meta.root),
        "version": meta.version,
        "robot_type": meta.robot_type,
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
