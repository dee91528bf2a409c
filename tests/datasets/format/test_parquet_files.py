"""Footers that contradict themselves: one error, and the process lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from smolpilot.datasets.format.parquet_files import group_facts, parquet_file, write_parquet

TABLE = pa.table({"number": pa.array([1, None, 3], pa.int64()), "texts": [["x"], [], ["y", "z"]]})
FLIP = """
import sys
from pathlib import Path
from smolpilot.common.errors import DatasetError
from smolpilot.datasets.format.files import read_meta_table
path = Path(sys.argv[1])
whole = path.read_bytes()
begin = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
refused = 0
for at in range(begin, len(whole) - 8):
    for value in {whole[at] ^ 1, (whole[at] + 2) % 256}:
        path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1:])
        try:
            read_meta_table(path, "table")
        except DatasetError as error:
            refused += "Definition level histogram" in error.found
print(refused)
"""


def test_any_wrong_byte_in_a_footer_is_refused_or_read(tmp_path: Path) -> None:
    """Arrow 26 ends the process where the sizes of levels are not what the column has: seen at some of these bytes."""
    (tmp_path / "meta").mkdir()
    path = tmp_path / "meta" / "table.parquet"
    write_parquet(TABLE, path)
    done = subprocess.run([sys.executable, "-c", FLIP, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 0


def test_what_a_footer_says(tmp_path: Path) -> None:
    write_parquet(TABLE, tmp_path / "table.parquet")
    file: pq.ParquetFile = parquet_file(tmp_path / "table.parquet")
    number, texts = group_facts(file, 0, [0, 1])
    assert number.statistics.null_count == 1
    assert texts.path_in_schema == "texts.list.element"
    assert group_facts(file, 0, []) == []
