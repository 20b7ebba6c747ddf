"""Ctrl-C and polite kills while a run works: the first asks it to stop after the batch, the second is now."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import final

from counterpoise.errors import IncompleteError

_RESUME = "stopped as asked; everything drawn so far is kept: run the same command again to go on"


@final
class StopRequest:
    """Whether a stop has been asked for, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def check(self) -> None:
        """Raise if asked to stop: KeyboardInterrupt after Ctrl-C (exit code 130), else IncompleteError."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(_RESUME)
        if self.signal is not None:
            raise IncompleteError(_RESUME, code="E_STOPPED")


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGINT, SIGTERM and SIGHUP for the block; a second one raises KeyboardInterrupt at once.

    One that the block no longer looked for, since all was drawn, raises as `check` does once it has ended:
    what the caller would do next must not begin.

    A signal that the caller already handles or ignores (nohup) is left alone, as are all outside the main
    thread, where Python cannot catch signals.
    """
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            raise KeyboardInterrupt(_RESUME)
        request.signal = number

    caught = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # SIGHUP is absent on Windows
            if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                caught[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
    request.check()
