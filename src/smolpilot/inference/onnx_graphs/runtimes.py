"""One call for both runtimes: a graph file to a function of named arrays."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy.typing as npt

from smolpilot.common.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import openvino

Array = npt.NDArray[Any]
Runtime = Literal["openvino", "onnxruntime"]


class Graph(Protocol):
    """A loaded graph. Inputs it does not know are left out, so that one dict may serve several graphs.

    The arrays that come out may be overwritten by the next call.
    """

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]: ...


def open_graph(path: Path, runtime: Runtime, *, threads: int | None = None, cache: Path | None = None) -> Graph:
    """Load a graph for the CPU. cache: where OpenVINO may keep what it compiled.

    UsageError when the runtime is not installed, CheckpointError for a file that it cannot read.
    """
    try:
        if runtime == "openvino":
            return OpenVinoGraph(path, threads, cache)
        return OnnxRuntimeGraph(path, threads)
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


class OpenVinoGraph:
    """A graph in OpenVINO."""

    def __init__(self, path: Path, threads: int | None, cache: Path | None) -> None:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # what is not quantized stays float32, also where bfloat16 would serve
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        if cache is not None:
            settings["CACHE_DIR"] = str(cache)
        model = openvino_core().compile_model(path, "CPU", settings)
        self._request = model.create_infer_request()
        self._inputs = [port.get_any_name() for port in model.inputs]
        self._outputs = [port.get_any_name() for port in model.outputs]

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        result = self._request.infer({name: feed[name] for name in self._inputs}, share_inputs=True, share_outputs=True)
        return {name: result[i] for i, name in enumerate(self._outputs)}


class OnnxRuntimeGraph:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its exceptions share no base class.
            raise RuntimeError(str(error)) from error
        self._inputs = [port.name for port in self._session.get_inputs()]
        self._outputs = [port.name for port in self._session.get_outputs()]

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        values = self._session.run(None, {name: feed[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))
