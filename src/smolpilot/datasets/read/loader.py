"""Loader: batches of a dataset for a training loop, decoded ahead by threads, in an order that can be resumed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import UsageError

from .arguments import check_images, check_threads, whole_number
from .order import RUN, WINDOW, OrderKind, Rows, SampleOrder, require_same, whole_batches
from .prefetch import StartMethod
from .read_units import read_units
from .tensors import Images, as_float, shared_copy

if TYPE_CHECKING:
    from torch import Tensor

    from .reader import Dataset


class Loader:
    """One epoch of batches per iteration, each as `Dataset.batch` gives it, decoded while the training works.

    Decoding runs in `threads` of this process (all cores by default), outside Python's lock, or in `workers` processes
    of torch's DataLoader, where only images as uint8 cross over. A unit of work is a batch in "random" and
    "sequential" order, and a window of the "local" order, rounded up to whole batches. Memory holds `ahead` + 1 units
    (with workers `ahead` x `workers` + 1; in "local" order two, with workers two each): 0.92 MB per sample and 480x640
    camera, 3.7 MB where it is a batch of float32. `images` as in `Dataset.batch`. The last batch of an epoch is shorter
    unless `drop_last`.

    `state_dict` counts the batches that were handed out, not those decoded ahead: a training that stores it with its
    checkpoint and loads it afterwards gets exactly the batches that it would have got.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        order: OrderKind = "random",
        seed: int = 0,
        run: int = RUN,
        window: int = WINDOW,
        images: Images | None = "float32",
        threads: int | None = None,
        workers: int = 0,
        start_method: StartMethod | None = None,
        ahead: int = 2,
        drop_last: bool = False,
    ) -> None:
        batch_size = whole_number("batch_size", batch_size, least=1)
        ahead, workers = whole_number("ahead", ahead, least=1), whole_number("workers", workers, least=0)
        check_threads(threads)
        check_images(images)
        methods = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in methods:
            raise UsageError(f"start_method is {start_method!r}.", expected=f"one of {', '.join(methods)}, or None")
        window = whole_batches(window, batch_size)
        self.dataset, self.batch_size, self.images = dataset, batch_size, images
        self.order = SampleOrder(dataset, order, seed=seed, run=run, window=window)
        self._threads, self._drop_last = threads, bool(drop_last)
        self._workers, self._start_method = workers, start_method
        self._local = order == "local"
        # A window is large and takes long: the next one is decoded while this one is used, that suffices.
        self._ahead = 1 if self._local else ahead

    def __len__(self) -> int:
        return len(self.order) // self.batch_size if self._drop_last else -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rest of the current epoch; the next iteration begins the next epoch."""
        order = self.order
        indices = order.indices(order.epoch)
        stop = len(self) * self.batch_size
        for batch in self._batches(indices[:stop], order.position):
            order.position += len(next(iter(batch.values())))
            if order.position >= min(stop, order.size):
                order.set_epoch(order.epoch + 1)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands: the next batch to be handed out."""
        return {**self.order.state_dict(), **self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` stood; UsageError when it belongs to other settings or another recording."""
        require_same(state, self._settings())
        epoch, position = self.order.read_state(state)
        stop = min(len(self) * self.batch_size, self.order.size)
        # Batches are handed out whole, and the last one leads to the next epoch: no other place can have been saved.
        if position % self.batch_size or (position and position >= stop):
            raise UsageError(
                f"The saved position is {position}.", expected=f"a multiple of {self.batch_size} below {stop}"
            )
        self.order.epoch, self.order.position = epoch, position

    def _settings(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "drop_last": self._drop_last}

    def _batches(self, indices: Rows, start: int) -> Iterator[dict[str, Any]]:
        if self.images is None:
            for unit in self._units(indices, start):
                for rows in unit:
                    yield self.dataset.batch_numbers(rows)
            return
        # Workers hand over bytes, a quarter of the memory, and windows are kept as such.
        read: Images = "uint8" if self._local or self._workers else self.images
        made: Images = "uint8" if self._workers else self.images
        reader = _Images(self.dataset, read, made, self._threads)
        stream = read_units(
            reader,
            list(self._units(indices, start)),
            depth=self._ahead,
            workers=self._workers,
            windows=self._local,
            start_method=self._start_method,
        )
        try:
            for rows, pictures in stream:
                batch = {name: self._finish(values) for name, values in pictures.items()}
                yield {**batch, **self.dataset.batch_numbers(rows)}
        finally:
            stream.close()

    def _units(self, indices: Rows, start: int) -> Iterator[list[Rows]]:
        size = self.order.window if self._local else self.batch_size
        while start < len(indices):
            unit = indices[start : (start // size + 1) * size]
            yield [unit[first : first + self.batch_size] for first in range(0, len(unit), self.batch_size)]
            start += len(unit)

    def _finish(self, pictures: Tensor) -> Tensor:
        """The images of one batch, of the type that was asked for."""
        import torch

        return as_float(pictures) if self.images == "float32" and pictures.dtype == torch.uint8 else pictures


class _Images:
    """Reads the images of a dataset as `read` and makes batches of them as `made`; numbers need no reading ahead."""

    def __init__(self, dataset: Dataset, read: Images, made: Images, threads: int | None) -> None:
        self._dataset, self._read, self._made, self._threads = dataset, read, made, threads

    def read(self, rows: Rows, *, whole: bool) -> dict[str, Tensor]:
        """The images of some frames, `[n, 3, h, w]` of each camera; `whole`: of one batch."""
        return self._dataset.batch_images(rows, images=self._read, threads=self._threads, shared=whole)

    def batch(self, read: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
        """The images of one batch of them."""
        return {name: self._part_of(pictures, part) for name, pictures in read.items()}

    def _part_of(self, pictures: Tensor, part: slice) -> Tensor:
        if self._made != self._read:
            return as_float(pictures[part])
        # A view would keep the whole window alive.
        return pictures if part.stop - part.start == len(pictures) else shared_copy(pictures[part])
