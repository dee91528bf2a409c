"""Numbers between processes: whole or not at all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from smolpilot.common.errors import DeviceError
from smolpilot.runtime.robot_run.shared_block import SharedBlock

WRITER = """
import sys
import numpy as np
from pathlib import Path
from smolpilot.runtime.robot_run.shared_block import SharedBlock
block = SharedBlock(Path(sys.argv[1]))
print("ready", flush=True)
number = 0
while True:
    number += 1
    block.write(np.full(1 + number % 300, float(number)))
"""


def test_the_newest_numbers_and_no_others(tmp_path: Path) -> None:
    writer = SharedBlock(tmp_path / "block", 8, create=True)
    reader = SharedBlock(tmp_path / "block")
    assert reader.read() is None
    writer.write(np.array([1.0, 2.0, 3.0]))
    writer.write(np.array([4.0]))
    assert reader.read() == pytest.approx([4.0])
    writer.write(np.zeros(0))
    found = reader.read()
    assert found is not None
    assert len(found) == 0
    with pytest.raises(ValueError, match="9 numbers in a block for 8"):
        writer.write(np.zeros(9))
    with pytest.raises(FileExistsError, match="block"):
        SharedBlock(tmp_path / "block", 8, create=True)


def test_another_file_is_no_block(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(64))
    with pytest.raises(DeviceError, match="is no block of shared numbers"):
        SharedBlock(tmp_path / "other")


def test_no_half_numbers_from_a_process_that_writes_as_fast_as_it_can(tmp_path: Path) -> None:
    reader = SharedBlock(tmp_path / "block", 300, create=True)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "block")], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline()
        seen: set[float] = set()
        end = time.monotonic() + 20.0
        while len(seen) < 100:
            assert time.monotonic() < end, f"{len(seen)} were read whole"
            numbers = reader.read()
            if numbers is not None:
                assert len(set(numbers.tolist())) == 1
                assert len(numbers) == 1 + int(numbers[0]) % 300
                seen.add(float(numbers[0]))
    finally:
        writer.kill()
        writer.communicate()
