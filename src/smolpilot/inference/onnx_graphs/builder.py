"""Writes ONNX graphs by hand: few operators, named weights, external data that never passes through memory twice.

A traced graph would carry the tracer's shape arithmetic and need the tracer's packages; these graphs hold what the
network computes and nothing else, so every runtime fuses them well. Operator set 20, which ONNX Runtime, OpenVINO and
TensorRT 10 read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from smolpilot.version import __version__

from .ranges import Ranges, quantize_weight, symmetric_scale

Precision = Literal["fp32", "fp16", "int8"]
Array = npt.NDArray[Any]

OPSET, IR_VERSION = 20, 10
TAP = "tap/"  # names of the outputs that are observed
_ALIGNMENT = 4096  # runtimes map the file into memory, page by page
_INLINE = 1024  # bytes up to which a constant stays in the graph file, where shape inference can read it


class Builder:
    """One graph in the making. Values are referred to by their ONNX names (plain str).

    precision: of the linear layers; all else is float32. `int8` needs `ranges`, the calibrated ranges of activations.
    observe: instead of quantizing, give out the largest magnitude per channel of every linear layer's input.
    """

    def __init__(
        self,
        name: str,
        data: Path,
        *,
        precision: Precision = "fp32",
        ranges: Ranges | None = None,
        observe: bool = False,
    ) -> None:
        self.name, self.precision, self.ranges, self.observe = name, precision, ranges, observe
        self._path = data
        self._data: BinaryIO = data.open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        # Largest weight per input channel of each tap, over all layers that read it; filled while observing.
        self.columns: dict[str, Array] = {}
        self._renamed: dict[str, str] = {}
        self._count = 0

    # -- the graph's border ----------------------------------------------------------------------------------------

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """An input; a str in the shape is a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str], dtype: Any = np.float32) -> None:
        """Give `value` out under a name (a value has one name only, so this renames it)."""
        assert value not in self._renamed
        self._renamed[value] = name
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), shape))

    def save(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write the graph file; the weights are in the data file already, which must lie beside it."""
        self._data.close()
        for node in self._nodes:
            node.input[:] = [self._renamed.get(value, value) for value in node.input]
            node.output[:] = [self._renamed.get(value, value) for value in node.output]
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="smolpilot",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata or {}))
        path.write_bytes(model.SerializeToString())

    # -- values ----------------------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """An operator's output, or a list of them where `outputs` > 1."""
        self._count += 1
        name = f"{kind}_{self._count}"
        made = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """A small constant; equal ones are shared."""
        array = np.ascontiguousarray(values, dtype=dtype)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A constant int64 vector: shapes, axes, bounds."""
        return self.constant(values, np.int64)

    def weight(self, name: str, array: Array) -> str:
        """A named constant; large ones go to the data file at once."""
        if name in self._initializers:
            return name
        array = np.ascontiguousarray(array)
        tensor = TensorProto(name=name, data_type=_onnx_type(array.dtype), dims=array.shape)
        if array.nbytes <= _INLINE:
            tensor.raw_data = array.tobytes()
        else:
            self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._path.name, "offset": self._data.tell(), "length": array.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self._data.write(memoryview(array).cast("B"))
        self._initializers[name] = tensor
        return name

    # -- linear layers, the one place where precision matters --------------------------------------------------------

    def linear(
        self, x: str, name: str, weight: Array, bias: Array | None = None, *, tap: str = "", smooth: bool = False
    ) -> str:
        """x [..., in] times weight [out, in], plus bias [out].

        `tap` names the activation x where several layers read it (they share its range); default: the layer's name.
        smooth: x comes divided by `divisor(tap)`; the weights are made to fit.
        """
        tap = tap or name
        matrix = weight.T
        if self.observe:
            self._observe(tap, x)
            if smooth:
                columns = np.abs(weight).max(axis=0)
                self.columns[tap] = np.maximum(columns, self.columns.get(tap, columns))
        if self.precision == "int8":
            product = self.op("MatMul", self._rounded(x, tap), self._integer_weight(name, matrix, tap))
        elif self.precision == "fp16":
            narrow = self.op("Cast", x, to=TensorProto.FLOAT16)
            product = self.op("MatMul", narrow, self.weight(name, matrix.astype(np.float16)))
            product = self.op("Cast", product, to=TensorProto.FLOAT)
        else:
            product = self.op("MatMul", x, self.weight(name, matrix.astype(np.float32)))
        return str(product if bias is None else self.op("Add", product, self.weight(f"{name}.bias", bias)))

    def quantized(self, x: str, tap: str) -> str:
        """x rounded to 8 bits by the range of its tap; unchanged in other precisions. For products of activations."""
        if self.observe:
            self._observe(tap, x)
        return self._rounded(x, tap) if self.precision == "int8" else x

    def _integer_weight(self, name: str, matrix: Array, tap: str) -> str:
        """The matrix [in, out] as 8-bit integers with a scale per output, made to fit what its tap is divided by."""
        assert self.ranges is not None
        smooth = self.ranges.smoothing.get(tap)
        integers, scale = quantize_weight(matrix if smooth is None else matrix * smooth[:, None])
        return str(
            self.op("DequantizeLinear", self.weight(name, integers), self.weight(f"{name}.scale", scale), axis=1)
        )

    def divisor(self, tap: str) -> Array | None:
        """What the channels of a tap must be divided by before its linear layers read it; None: nothing."""
        return self.ranges.smoothing.get(tap) if self.precision == "int8" and self.ranges is not None else None

    def _rounded(self, x: str, tap: str) -> str:
        """A quantize/dequantize pair; signed and symmetric: zero stays zero, and OpenVINO fuses attention only so."""
        assert self.ranges is not None
        step, zero = self.constant(symmetric_scale(self.ranges.largest(tap))), self.constant(0, np.int8)
        return str(self.op("DequantizeLinear", self.op("QuantizeLinear", x, step, zero), step, zero))

    def _observe(self, tap: str, x: str) -> None:
        name = TAP + tap
        if any(value.name == name for value in self._outputs):
            return
        flat = self.op("Flatten", self.op("Abs", x), axis=-1)
        self.output(name, self.op("ReduceMax", flat, self.ints(0), keepdims=0), ["channels"])

    # -- short forms -----------------------------------------------------------------------------------------------

    def reshape(self, x: str, *shape: int) -> str:
        """0 keeps a dimension, -1 fills."""
        return str(self.op("Reshape", x, self.ints(*shape)))

    def transpose(self, x: str, *order: int) -> str:
        return str(self.op("Transpose", x, perm=order))

    def concat(self, values: Sequence[str], axis: int) -> str:
        return values[0] if len(values) == 1 else str(self.op("Concat", *values, axis=axis))


def _onnx_type(dtype: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
