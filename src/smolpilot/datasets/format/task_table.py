"""meta/tasks.parquet of v3.0."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa


def tasks_table(tasks: Mapping[int, str]) -> pa.Table:
    """The table of instruction texts by task index.

    LeRobot reads this table with pandas and expects the text as its index: said in the schema's metadata.
    """
    table = pa.table(
        {"task_index": pa.array(list(tasks), pa.int64()), "task": pa.array(list(tasks.values()), pa.string())}
    )
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    description = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [{**column, "metadata": None} for column in columns],
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(description)})
