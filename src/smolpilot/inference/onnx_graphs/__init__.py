"""The network as three ONNX graphs (vision, prefix, one denoising step), their calibration, and what runs them.

Needs the `onnx` package, and `onnxruntime` or `openvino` to run: the extras `export` and `openvino`.
"""

from .graph_writing import GRAPHS, network_weights, write_graphs
from .int8_calibration import calibrate
from .ranges import Ranges
from .runtimes import open_graph

__all__ = ["GRAPHS", "Ranges", "calibrate", "network_weights", "open_graph", "write_graphs"]
