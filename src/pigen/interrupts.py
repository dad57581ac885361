"""Signals that wait for a good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the block is through.

    For what must not be left half done; and a KeyboardInterrupt that falls into one of h5py's
    finalizers is lost, for Python only mentions it.
    """
    handlers = {held: signal.getsignal(held) for held in _HELD}
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield
        return
    caught: list[int] = []
    for held in _HELD:
        signal.signal(held, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        for held, handler in handlers.items():
            signal.signal(held, handler)
        for number in dict.fromkeys(caught):
            signal.raise_signal(number)
