"""The graphs of an engine, written once into its cache folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from smolpilot.common.atomic import atomic_folder
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.hashing import folder_differences, seal_folder
from smolpilot.inference.backend import EngineSpec
from smolpilot.inference.parity_check import VerdictStore

from .builder import Precision
from .calibration import calibrate
from .network import GraphNetwork, write_embeddings
from .runtimes import Runtime
from .writing import network_weights, write_graphs

if TYPE_CHECKING:
    from smolpilot.smolvla.network.model import SmolVLA


def open_network(spec: EngineSpec, load: Callable[[], SmolVLA], runtime: Runtime) -> GraphNetwork:
    """The network from the graphs in `spec.folder`; they are written first where they are missing or damaged (by their
    digests), which is said.

    UsageError for int8 without frames to calibrate with.
    """
    folder = spec.folder / "graphs"
    if folder.is_dir():
        try:
            found = folder_differences(folder).text()
            if not found:
                return GraphNetwork(folder, spec, runtime)
        except CheckpointError as error:
            found = error.found
        print(f"engine cache: {folder} is damaged, so made anew ({found})", file=sys.stderr, flush=True)
        # What was measured with damaged graphs says nothing.
        VerdictStore(spec.folder).forget()
        shutil.rmtree(folder)
    _write(folder, spec, load(), runtime)
    return GraphNetwork(folder, spec, runtime)


def _write(folder: Path, spec: EngineSpec, model: SmolVLA, runtime: Runtime) -> None:
    config, weights = spec.config, network_weights(model)
    ranges = calibrate(config, weights, spec.calibration, runtime, steps=spec.steps) if spec.mode == "int8" else None
    try:
        with atomic_folder(folder) as partial:
            precision: Precision = "int8" if ranges is not None else "fp32"
            write_graphs(partial, config, weights, precision=precision, ranges=ranges, embed=False)
            write_embeddings(partial, weights)
            seal_folder(partial)
    except UsageError:
        # Another process has written the same graphs meanwhile.
        if not folder.is_dir():
            raise
