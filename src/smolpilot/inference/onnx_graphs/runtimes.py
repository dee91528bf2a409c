"""One call for both runtimes: a graph file to a function of named arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from smolpilot.common.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import openvino

Array = npt.NDArray[Any]
Runtime = Literal["openvino", "onnxruntime"]


# A loaded graph. Inputs it does not know are left out, so that one dict may serve several graphs. The arrays that come
# out may be overwritten by the next call.
Graph = Callable[[Mapping[str, Array]], dict[str, Array]]


def open_graph(path: Path, runtime: Runtime, *, threads: int | None = None) -> Graph:
    """Load a graph for the CPU.

    UsageError when the runtime is not installed, CheckpointError for a file that it cannot read.
    """
    try:
        return _openvino(path, threads) if runtime == "openvino" else _onnxruntime(path, threads)
    except ImportError as error:
        extra = "openvino" if runtime == "openvino" else "export"
        raise UsageError(
            f"{runtime} is not installed ({error}).", fix=f"install it: pip install 'smolpilot[{extra}]'"
        ) from error
    except RuntimeError as error:
        raise CheckpointError(f"{runtime} cannot load {path}: {error}", fix="write the graphs again") from error


@functools.cache
def openvino_core() -> openvino.Core:
    """The process's one `openvino.Core`; ImportError where OpenVINO is not installed.

    It lives as long as the process. A core's CPU plugin gives the thread that loads it a stack for signal handlers, and
    takes that stack's memory away with the core: where two cores do not end in the reverse order they began in, or one
    ends in another thread, the next signal with a Python handler (Ctrl-C, a worker's end) is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _openvino(path: Path, threads: int | None) -> Graph:
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",  # what is not quantized stays float32, also where bfloat16 would serve
        "PERFORMANCE_HINT": "LATENCY",
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    model = openvino_core().compile_model(path, "CPU", settings)
    request = model.create_infer_request()
    inputs = [port.get_any_name() for port in model.inputs]
    outputs = [port.get_any_name() for port in model.outputs]

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        result = request.infer({name: feed[name] for name in inputs}, share_inputs=True, share_outputs=True)
        return {name: result[i] for i, name in enumerate(outputs)}

    return run


def _onnxruntime(path: Path, threads: int | None) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: as many as it likes
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions share no base class.
        raise RuntimeError(str(error)) from error
    inputs = [port.name for port in session.get_inputs()]
    outputs = [port.name for port in session.get_outputs()]

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        values = session.run(None, {name: feed[name] for name in inputs})
        return dict(zip(outputs, values, strict=True))

    return run
