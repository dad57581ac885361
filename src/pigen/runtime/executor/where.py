"""Where work over structures runs, as ``--executor`` names it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pigen.runtime.errors import UsageError
from pigen.runtime.executor.mapping import available_cores
from pigen.runtime.executor.pool import LocalPool

FORMS = "local, local:N, dask://HOST:PORT or slurm:FILE.toml"
"""What ``--executor`` takes."""


@dataclass(frozen=True)
class Where:
    """An executor that can be opened.

    Attributes:
        workers: processes on this machine; None for one per core.
        dask: host:port of a Dask scheduler that runs.
        slurm: TOML file that says what Slurm jobs to start, see `pigen.runtime.executor.cluster`.
        time_limit: s without a sign of life after which a structure is refused; None for what
            the work at hand says.
    """

    workers: int | None = None
    dask: str = ""
    slurm: Path | None = None
    time_limit: float | None = None

    @classmethod
    def parse(cls, text: str) -> Where:
        """Read ``local``, ``local:N``, ``dask://HOST:PORT`` or ``slurm:FILE``.

        Raises:
            UsageError: it is none of these, or there is no such file.
        """
        kind, _, rest = text.partition(":")
        if text == "local":
            return cls()
        if kind == "local" and rest.isdecimal() and int(rest) > 0:
            return cls(workers=int(rest))
        if kind == "dask" and re.fullmatch(r"//\S+:\d+", rest):
            return cls(dask=rest.removeprefix("//"))
        if kind == "slurm" and rest:
            if not Path(rest).is_file():
                raise UsageError(f"executor {text!r}: no such file")
            return cls(slurm=Path(rest))
        raise UsageError(f"executor {text!r}: expected {FORMS}, N at least 1")

    def for_few(self) -> Where:
        """Where so little work runs that more than one worker is not worth its start."""
        return self if self.dask or self.slurm else replace(self, workers=1)


@contextmanager
def open_executor(where: Where | None = None) -> Iterator[Executor]:
    """The executor, by default workers here, one per core.

    Leaving the context by an exception ends its work without waiting.

    Raises:
        UsageError: a Dask scheduler that does not answer, see `pigen.runtime.executor.cluster`.
    """
    where = where or Where()
    if where.dask or where.slurm:
        from pigen.runtime.executor.cluster import dask_executor, say_on_stderr, slurm_executor

        limit = where.time_limit
        with (
            slurm_executor(where.slurm, time_limit=limit, say=say_on_stderr)
            if where.slurm
            else dask_executor(where.dask, time_limit=limit, say=say_on_stderr)
        ) as executor:
            yield executor
        return
    pool = LocalPool(where.workers or available_cores(), time_limit=where.time_limit)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
