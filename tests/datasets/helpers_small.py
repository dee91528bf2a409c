"""Short datasets with one camera, for tests that copy them many times."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from smolpilot.datasets.convert import convert

from .helpers_recordings import takes, write_v21


def write_small(base: Path, lengths: tuple[int, ...]) -> dict[str, Path]:
    """The same demonstrations as v2.1 and as v3.0, seen by the camera `front`."""
    old = write_v21(base / "v21", takes(lengths=lengths))
    for folder in old.glob("videos/*/observation.images.wrist"):
        shutil.rmtree(folder)
    info = json.loads((old / "meta" / "info.json").read_text())
    del info["features"]["observation.images.wrist"]
    (old / "meta" / "info.json").write_text(json.dumps(info))
    convert(old, base / "v30")
    (base / "v30" / "meta" / "smolpilot_manifest.json").unlink()
    return {"v2.1": old, "v3.0": base / "v30"}
