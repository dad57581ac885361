"""The bar that shows how far a loop has come."""

from __future__ import annotations

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

    Args:
        total: units of work; None if nobody knows.
        unit: what is counted.
        title: stands before the bar.
        done: units that an earlier process did.
        delay: s before the bar is drawn.
        show: whether a bar may be drawn at all.
    """
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=done,
        desc=title or None,
        unit=unit,
        delay=delay,
        disable=None if show else True,
        dynamic_ncols=True,
    )
