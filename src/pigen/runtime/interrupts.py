"""Signals that wait for a good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interrupts_noted() -> Iterator[list[int]]:
    """Only note Ctrl-C and SIGTERM, in the list it gives: what they lead to is up to the block."""
    handlers = {number: signal.getsignal(number) for number in _HELD}
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread() or None in handlers.values():
        yield caught
        return
    for number in _HELD:
        signal.signal(number, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the block is through.

    For what must not be left half done; and a KeyboardInterrupt that falls into one of h5py's
    finalizers is lost, for Python only mentions it.
    """
    caught: list[int] = []
    try:
        with interrupts_noted() as caught:
            yield
    finally:
        for number in dict.fromkeys(caught):
            signal.raise_signal(number)
