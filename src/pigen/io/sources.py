"""The sources of a stage, opened together, and the stage that only imports them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from pigen.bundle import Bundle, count_rejects
from pigen.bundle.stage import CHUNK, Stage, Written, with_bar
from pigen.config.files import Limits
from pigen.io.entry import NOTE
from pigen.io.files import Source
from pigen.io.objects import is_object, open_objects
from pigen.io.stream import open_source, stream
from pigen.runtime.executor import Where, open_executor
from pigen.runtime.shard import Shard

R = TypeVar("R")

FEW = 500
"""Starting workers takes seconds: not worth it for fewer structures."""


class Sources:
    """Opened sources, and the executor that suits their number of structures.

    Attributes:
        total: entries, about, of a shard; None if only reading them all would tell.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        limits: Limits,
        *,
        chunk_size: int | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Open all; UsageError for one that is missing or of no known kind."""
        self._shard, self._limits, self._chunk_size = shard, limits, chunk_size or CHUNK
        self._opened = [open_source(path, limits, chunk_size=self._chunk_size) for path in paths]
        totals = [source.total for source in self._opened]
        self.total = None if None in totals else sum(t for t in totals if t is not None)
        if self.total is not None and shard is not None:
            self.total = shard.share(self.total)

    @contextmanager
    def executor(self, where: Where, *, few: int = FEW) -> Iterator[Executor]:
        """Open an executor, of one worker for at most ``few`` structures."""
        is_few = self.total is not None and self.total <= few
        with open_executor(where.for_few() if is_few else where) as executor:
            yield executor

    def chunks(self, executor: Executor) -> Iterator[Bundle]:
        """All entries, or those of the shard, in order, parsed in the executor."""
        return stream(
            self._opened,
            chunk_size=self._chunk_size,
            executor=executor,
            limits=self._limits,
            shard=self._shard,
        )

    def through(
        self,
        stage: Stage[R],
        executor: Executor,
        output: Path,
        provenance: Mapping[str, str],
        *,
        resume: bool = False,
    ) -> Written:
        """Write what a stage makes of all entries. Arguments and errors as of `Stage.write`."""
        return stage.write(
            self.chunks(executor),
            output,
            provenance,
            executor=executor,
            resume=resume,
            total=self.total,
        )

    def read(self, executor: Executor) -> Bundle:
        """All entries in one bundle, with a bar."""
        return Bundle.concatenate(list(self.watched(executor)))

    def watched(self, executor: Executor) -> Iterator[Bundle]:
        """`chunks` with a bar."""
        return with_bar(self.chunks(executor), self.total)


class ImportStage(Stage[Bundle]):
    """Imports structures; counts reasons of rejects, and remarks on how structures were read."""

    def __init__(self) -> None:
        """Start with no counts."""
        super().__init__()
        self.counts = {"reasons": Counter(), "remarks": Counter()}

    def take(self, result: Bundle) -> Bundle:
        """Count rejects and remarks; return the chunk."""
        self.counts["reasons"].update(count_rejects(result.rejects))
        if NOTE in result.columns:
            self.counts["remarks"].update(filter(None, result.columns[NOTE].values))
        return result


def open_all(sources: Iterable[Any], limits: Limits) -> list[Source]:
    """Paths, structures in memory, and iterables of these, as sources in their order.

    Raises:
        UsageError: one is missing, of no known kind, or no structure.
    """
    opened: list[Source] = []
    for in_memory, group in groupby(_flat(sources), key=is_object):
        if in_memory:
            opened.append(open_objects(list(group), limits))
        else:
            opened += [open_source(one, limits) for one in group]
    return opened


def _flat(sources: Iterable[Any]) -> Iterator[Any]:
    for one in sources:
        if is_object(one) or isinstance(one, str | PathLike):
            yield one
        elif isinstance(one, Iterable):
            yield from _flat(one)
        else:
            open_objects([one], Limits())  # says what it is
