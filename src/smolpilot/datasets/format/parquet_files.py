"""Parquet with page checksums: written into every file of ours, verified in every file that has them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DAMAGED = "CRC checksum verification failed"
"""What Arrow says of a page whose bytes are not those that were written."""


def parquet_file(path: Path) -> pq.ParquetFile:
    """Open a parquet file (its footer only). Reading from it raises OSError for a page that fails its checksum."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of a parquet file, a table after the other."""
    return pq.ParquetWriter(path, schema, write_page_checksum=True)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a whole parquet file."""
    pq.write_table(table, path, write_page_checksum=True)
