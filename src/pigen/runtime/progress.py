"""The bar that shows how far a loop has come."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

QUIET = "PIGEN_QUIET"
"""Environment variable: set, a process says nothing of its progress, and neither do its workers."""


def progress_bar(
    total: int | None,
    unit: str = "structure",
    *,
    title: str = "",
    done: int = 0,
    delay: float = 1.0,
    show: bool = True,
) -> tqdm[Any]:
    """A bar on stderr, silent where that is no terminal and for work of less than ``delay`` s.

    Its clock goes on while nothing is done: the first structures of many may take a minute.

    Args:
        total: units of work; None if nobody knows.
        unit: what is counted.
        title: stands before the bar.
        done: units that an earlier process did.
        delay: s before the bar is drawn.
        show: whether a bar may be drawn at all.
    """
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        initial=done,
        desc=title or None,
        unit=unit,
        delay=delay,
        disable=None if show else True,
        dynamic_ncols=True,
    )
    if not bar.disable:
        threading.Thread(target=_tick, args=(bar,), daemon=True).start()
    return bar


def _tick(bar: tqdm[Any]) -> None:
    """Draw a bar every second until it is closed."""
    time.sleep(max(bar.delay, 1.0))
    while not bar.disable:
        with bar.get_lock():
            if not bar.disable:
                bar.refresh(nolock=True)
                # A bar that has been drawn must know it, or it would not be ended by a new line.
                bar.last_print_t = max(bar.last_print_t, bar.start_t + bar.delay)
        time.sleep(1.0)
