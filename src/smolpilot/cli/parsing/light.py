"""Keeps dataset verbs quick to start."""

from __future__ import annotations

import sys


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas, which it does at the first array: a second that no dataset verb needs.

    pyarrow looks once in a process, so this is for the command only, where nothing else uses pandas.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow

        pyarrow.array([0])
    finally:
        sys.meta_path.remove(finder)


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)
