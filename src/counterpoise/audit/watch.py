"""A call with a time limit, for what may hang: somebody else's measurer."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from counterpoise.errors import IncompleteError

InTime = Callable[..., Any]


@contextmanager
def time_limit(seconds: float) -> Iterator[InTime]:
    """Gives `in_time(call, unit)`: call() on a thread of its own, its result or what it raised.

    IncompleteError that names `unit` once a call has taken `seconds`; the thread, which nobody can stop, is
    then left behind (it does not keep the process from ending). All calls of a block share the thread.
    A thread, and no signal: it works off the main thread and on every system, lets go of a call that hangs in
    C, cannot be swallowed by an `except` in the call, and leaves Ctrl-C with the caller.
    """
    jobs: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()

    def serve() -> None:
        while (job := jobs.get()) is not None:
            call, answer = job
            try:
                answer.put((call(), None))
            except BaseException as error:
                answer.put((None, error))
            del job, call, answer

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(serve,), name="counterpoise-measurer", daemon=True).start()

    def in_time(call: Callable[[], Any], unit: str) -> Any:
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        jobs.put((call, answer))
        try:
            result, error = answer.get(timeout=seconds)
        except queue.Empty:
            raise IncompleteError(
                f"{unit}: the measurer has not answered for {seconds:g} s; everything before is kept. Find "
                "out what it waits for, or allow more time, and run the same command again",
                code="E_TIMEOUT",
            ) from None
        if error is not None:
            raise error
        return result

    try:
        yield in_time
    finally:
        jobs.put(None)
