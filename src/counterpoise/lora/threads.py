"""Tasks that let go of the interpreter, on as many threads as torch may use.

Not torch's own threads: those wait for their next work by turning in circles, on the cores of these.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from threading import Event

import torch

Task = Callable[[], None]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """For a block, torch's operations use so many threads."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def together(tasks: Sequence[Task], *, threads: int | None = None) -> None:
    """Do all tasks, begun in their order. When one raises, or an interrupt comes, no other is begun, and what
    is in hand is ended before the first exception is raised: nothing runs on behind it.

    threads: how many at most; by default as many as torch uses.
    """
    stop, left = Event(), iter(tasks)
    others = min(torch.get_num_threads() if threads is None else threads, len(tasks)) - 1
    if others <= 0:
        for task in left:
            task()
        return
    futures: list[Future[None]] = []
    try:
        futures += [_pool(os.getpid(), others).submit(_work, left, stop) for _ in range(others)]
        _work(left, stop)
    except BaseException:
        stop.set()
        raise
    finally:
        _settle(futures, stop)
    for future in futures:
        future.result()


def _work(left: Iterator[Task], stop: Event) -> None:
    for task in left:  # taking the next of a list's iterator is one step of the interpreter
        if stop.is_set():
            return
        try:
            task()
        except BaseException:
            stop.set()
            raise


@lru_cache(maxsize=1)
def _pool(_process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="counterpoise")


def _settle(futures: Sequence[Future[None]], stop: Event) -> None:
    interrupt: BaseException | None = None
    while not all(future.done() for future in futures):
        try:
            for future in futures:
                future.exception()
        except KeyboardInterrupt as error:  # the layer in hand must be finished, or rows would change later
            stop.set()
            interrupt = error
    if interrupt is not None:
        raise interrupt
