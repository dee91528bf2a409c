"""Where a simulation runs: in this process, or in a worker's, perhaps in another interpreter."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smolpilot.common.errors import UsageError
from smolpilot.contracts.plugins import blamed

from .quiet import quiet
from .simulation import LocalSimulation, RemoteSimulation, told
from .worker_process import WorkerProcess


@dataclass(frozen=True)
class Where:
    """A worker's slot, or this process. Factories of simulations take one as `where`; it is no setting of users."""

    worker: WorkerProcess | None = None
    slot: int = 0

    def simulate(self, name: str, settings: Mapping[str, Any]) -> LocalSimulation | RemoteSimulation:
        """The simulator of that name (a file in `simulators`), made there. UsageError for settings that cannot be, and
        without the packages that it needs."""
        if self.worker is not None:
            return RemoteSimulation(self.worker, self.slot, name, settings)
        module = importlib.import_module(f"smolpilot.environments.simulators.{name}")
        with blamed(f"The environment '{name}' cannot be made"):
            try:
                with quiet(), told():
                    return LocalSimulation(module.SIMULATION(**settings))
            except ImportError as error:
                extra = getattr(module, "EXTRA", True)  # else its packages do not suit smolpilot's
                beside = f"install the extra: pip install 'smolpilot[{name}]'; or " if extra else ""
                raise UsageError(
                    f"The environment '{name}' needs {module.NEEDS}, which cannot be imported: {error}.",
                    fix=f"{beside}give an interpreter that has it: smolpilot env install {name} DIR, then "
                    "--env-python DIR",
                ) from error


HERE = Where()
