"""The next batches while a GPU is busy with the present one: gathered by a thread, moved from pinned memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator

import torch
from torch import Tensor


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; to a GPU without waiting for the copy."""
    if device.type != "cuda" or value.device.type != "cpu":
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def ahead[T](stream: Generator[T], depth: int = 2) -> Generator[T]:
    """The same items in the same order, up to `depth` of them made ahead by a thread; its errors are raised here.

    Closing it closes `stream`, after the item that is being made.
    """
    items: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                items.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in stream:
                put(item, None)
                if stop.is_set():
                    return
            put(None, _END)
        except BaseException as error:  # told to the one who reads
            put(None, error)
        finally:
            stream.close()

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()
            if error is _END:
                return
            if error is not None:
                raise error
            assert item is not None
            yield item
    finally:
        stop.set()
        thread.join()


_END = StopIteration()
