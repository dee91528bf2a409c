"""Data-parallel training: processes started by torchrun, on one machine or several, on CPUs or one GPU each.

Each process takes its part of every batch; gradients and losses are summed, so all hold the same weights after every
step. Rank 0 alone validates, writes and logs. torch's DistributedDataParallel is not used: it averages gradients, but
padded chunks need sums over the whole batch; it must know which parameters get no gradient; and it renames the rest.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smolpilot.common.errors import SmolpilotError, TrainingError, UsageError

from .interrupts import TrainingStoppedError

_BUCKET = 2**25  # numbers summed at once
# A validation, a checkpoint or a cache that others wait for may take long; a process that ends is noticed at once.
_PATIENCE = datetime.timedelta(hours=24)


class DistributedContext:
    """The processes of a run. One process alone is a group of size 1, and all of this costs nothing.

    As a context, it ends with all processes: those that only learn of another's failure end quietly.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self._context = contextlib.ExitStack()

    @property
    def is_zero(self) -> bool:
        """Whether this is rank 0, which alone validates, writes and logs."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> DistributedContext:
        """The processes that torchrun describes in the environment, or one process alone."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        values = [os.environ.get(name) for name in names]
        if values[1] is None or values[1] == "1":
            return cls()
        missing = [name for name in (*names, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise UsageError(
                f"WORLD_SIZE is {values[1]}, but {', '.join(missing)} is not set.",
                fix="start several processes with: torchrun --nproc-per-node N -m smolpilot train ...",
            )
        return cls(*(int(value or 0) for value in values))

    def __enter__(self) -> DistributedContext:
        if self.size == 1:
            return self
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if self.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(self.local_rank)
        dist.init_process_group(backend, rank=self.rank, world_size=self.size, timeout=_PATIENCE)
        self._context.callback(dist.destroy_process_group)
        if self.rank:
            self._context.enter_context(contextlib.redirect_stdout(io.StringIO()))
            self._context.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._context:
            if self.size > 1 and (error is None or isinstance(error, TrainingStoppedError)):
                self.run_on_all_ranks(
                    lambda: None
                )  # torchrun ends all as soon as one has ended: rank 0 may still write
        if isinstance(error, _SaidElsewhereError):
            time.sleep(1)  # the same: the rank that failed reports first
            raise SystemExit(error.exit_code) from None

    def device(self, wanted: str) -> str:
        """The device of this process: with several processes, one GPU each."""
        if self.size == 1 or wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
            return wanted
        if wanted not in ("auto", "cuda") and not wanted.startswith("cuda:"):
            raise UsageError(
                f"--device {wanted} does not work with {self.size} processes.", expected="auto, cpu or cuda"
            )
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise UsageError(
                f"{self.local_size} processes on {socket.gethostname()}, which has {count} GPUs.",
                fix=f"torchrun --nproc-per-node {max(count, 1)}, or --device cpu",
            )
        return f"cuda:{self.local_rank}"

    def part(self, count: int) -> slice:
        """This rank's part of a batch of `count` samples; UsageError when there are fewer than processes."""
        if count < self.size:
            raise UsageError(
                f"--batch-size {count} is smaller than the number of processes ({self.size}).",
                expected="at least one sample per process",
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    # -- one step --------------------------------------------------------------------------------------------------

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over all processes."""
        if self.size > 1:
            value = value.clone()
            with self._others():
                dist.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace all gradients by their sums over all processes; what has none anywhere stays without."""
        if self.size == 1:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        anywhere = self.sum(present).tolist()
        gradients = []
        for parameter, count in zip(parameters, anywhere, strict=True):
            if count:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(parameter.grad)
        with self._others():
            flats = [(bucket, torch.cat([g.reshape(-1) for g in bucket])) for bucket in _buckets(gradients)]
            for work in [dist.all_reduce(flat, async_op=True) for _, flat in flats]:
                assert work is not None
                work.wait()
        for bucket, flat in flats:
            for gradient, summed in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def first_stop_reason(self, reason: str) -> str:
        """The first reason to stop that a rank gives, on every rank; empty when none has one."""
        if self.size == 1:
            return reason
        if not int(self.sum(torch.tensor([int(bool(reason))]))):
            return ""
        given: list[str] = self._gather(reason)
        return next(filter(None, given))

    # -- work on some or all ranks ---------------------------------------------------------------------------------

    def run_on_all_ranks[T](self, work: Callable[[], T]) -> T:
        """Do `work` on every rank and wait for all; where one fails all end, and one that failed reports the error."""
        if self.size == 1:
            return work()
        caught: Exception | None = None
        try:
            result = work()
        except Exception as error:
            caught = error
        states = self._gather(_state_of(caught))
        failed = [rank for rank, (state, _) in enumerate(states) if state == "failed"]
        if not failed:
            return result
        if caught is not None and failed[0] == self.rank:
            if self.rank:
                print(f"process {self.rank} of {self.size}, on {socket.gethostname()}:", file=sys.stderr, flush=True)
            raise caught
        raise _SaidElsewhereError(states[failed[0]][1])

    def on_rank_zero[T](self, work: Callable[[], T]) -> T | None:
        """Do `work` on rank 0 while the others wait; where it fails all end. The others get None."""
        return self.run_on_all_ranks(lambda: work() if self.is_zero else None)

    def broadcast[T](self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0 while the others wait, and give all its result; where it fails all end."""
        box = [self.on_rank_zero(work)]
        if self.size > 1:
            with self._others():
                dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def rank_zero_first[T](self, work: Callable[[], T]) -> T:
        """Do `work` on rank 0, then on the others."""
        early = self.on_rank_zero(work)
        late = self.run_on_all_ranks(lambda: None if self.is_zero else work()) if self.size > 1 else None
        return early if self.is_zero else late  # type: ignore[return-value]

    def require_equal(self, facts: dict[str, Any]) -> None:
        """TrainingError on every rank when the ranks differ in a fact."""
        if self.size == 1:
            return
        everywhere = self._gather(facts)
        differing = [name for name in facts if any(other[name] != facts[name] for other in everywhere)]

        def check() -> None:
            if differing:
                raise TrainingError(
                    f"The ranks see different {' and '.join(differing)}.",
                    expected="the same files and the same version on every machine",
                    fix="copy dataset and policy to every machine, and install the same smolpilot version",
                )

        self.run_on_all_ranks(check)

    def _gather(self, value: Any) -> list[Any]:
        found: list[Any] = [None] * self.size
        with self._others():
            dist.all_gather_object(found, value)
        return found

    @contextlib.contextmanager
    def _others(self) -> Iterator[None]:
        """While waiting for the others: that one has ended is an error with words."""
        try:
            yield
        except RuntimeError as error:
            raise TrainingError(
                f"Rank {self.rank} of {self.size} stops because another rank has exited "
                f"({str(error).splitlines()[0]}).",
                expected="the other rank's message gives the cause; earlier checkpoints are complete",
                fix="resume with the same torchrun command and --resume",
            ) from error


class _SaidElsewhereError(SmolpilotError):
    """Another rank reports the error."""

    def __init__(self, code: int) -> None:
        super().__init__("another process says why")
        self.exit_code = code


def _state_of(error: Exception | None) -> tuple[str, int]:
    if error is None:
        return "done", 0
    code = getattr(error, "exit_code", 1)
    return ("told", code) if isinstance(error, _SaidElsewhereError) else ("failed", code)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype, up to _BUCKET numbers (or one larger gradient) together, in their order."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        room = sum(g.numel() for g in bucket) + gradient.numel() <= _BUCKET
        if bucket and not (room and bucket[0].dtype == gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
