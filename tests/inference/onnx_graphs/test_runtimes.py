"""Opening and closing graphs, and what that does to the process around them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

# Two graphs that end in the order they began in; then a signal with a handler, as Ctrl-C or a worker's end is one.
_TWO_GRAPHS_AND_A_SIGNAL = """
import os, signal, sys
from pathlib import Path
from smolpilot.inference.onnx_graphs.runtimes import open_graph
first, second = (open_graph(Path(sys.argv[1]), "openvino", threads=1) for _ in range(2))
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
print("alive")
"""


def test_closed_openvino_graphs_leave_signal_handlers_working(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    command = [sys.executable, "-c", _TWO_GRAPHS_AND_A_SIGNAL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["handled", "alive"]
