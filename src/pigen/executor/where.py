"""Where work over structures runs, as ``--executor`` names it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pigen.errors import UsageError
from pigen.executor.mapping import available_cores
from pigen.executor.pool import LocalPool

FORMS = "local or local:N"
"""What ``--executor`` takes."""


@dataclass(frozen=True)
class Where:
    """An executor that can be opened.

    Attributes:
        workers: processes on this machine; None for one per core.
        time_limit: s without a sign of life after which a structure is refused; None for what
            the work at hand says.
    """

    workers: int | None = None
    time_limit: float | None = None

    @classmethod
    def parse(cls, text: str) -> Where:
        """Read ``local`` or ``local:N``.

        Raises:
            UsageError: it is neither.
        """
        kind, colon, rest = text.partition(":")
        if kind == "local" and not colon:
            return cls()
        if kind == "local" and rest.isdecimal() and int(rest) > 0:
            return cls(workers=int(rest))
        raise UsageError(f"executor {text!r}: expected {FORMS}, N at least 1")

    def for_few(self) -> Where:
        """Where so little work runs that more than one worker is not worth its start."""
        return replace(self, workers=1)


@contextmanager
def open_executor(where: Where | None = None) -> Iterator[Executor]:
    """The executor, by default workers here, one per core.

    Leaving the context by an exception ends its work without waiting.
    """
    where = where or Where()
    pool = LocalPool(where.workers or available_cores(), time_limit=where.time_limit)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
