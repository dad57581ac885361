"""How every stage goes through structures: on from where it was stopped, in workers, counting.

One bad structure does not spoil the work on the others: a chunk is divided until it is alone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.columns import strings
from pigen.bundle.counts import EVERY, counts_text, parse_counts
from pigen.bundle.memory import KEEPS, SURVIVORS, Bundle, Reject, Verdict
from pigen.bundle.writing import BundleWriter
from pigen.runtime.errors import PigenError
from pigen.runtime.executor import TIME_LIMIT, Divisible, SerialExecutor, map_ordered
from pigen.runtime.progress import progress_bar

CHUNK = 250
"""Structures in a task for a worker: about a second of work."""

R = TypeVar("R")


@dataclass(frozen=True)
class OverStructures(Divisible[Bundle, R]):
    """A function of bundles whose result for each structure depends on that structure alone.

    A structure that cannot be worked on is a reject of the bundle that the function is given.

    Attributes:
        fn: the function; it carries rejects over to its result.
        joined: the result of a bundle from those of its parts.
        time_limit: as of `Divisible`.
    """

    fn: Callable[[Bundle], R]
    joined: Callable[[Sequence[R]], R]
    time_limit: float = TIME_LIMIT

    def __call__(self, item: Bundle) -> R:
        """The function's result."""
        return self.fn(item)

    def size(self, item: Bundle) -> int:
        """Crystals."""
        return len(item)

    def divide(self, item: Bundle, size: int) -> list[Bundle]:
        """Parts in order; the first has the rejects."""
        return divide(item, size)

    def join(self, results: Sequence[R]) -> R:
        """What `joined` makes of them."""
        return self.joined(results)

    def refuse(self, item: Bundle, reason: str) -> R:
        """The function's result for the bundle with a reject in place of its crystal."""
        refused = (*item.rejects, *(Reject(str(i), reason) for i in item.ids))
        return self.fn(replace(self.nothing(item), rejects=refused))

    def nothing(self, item: Bundle) -> Bundle:
        """Columns and verdicts of no structures."""
        return replace(item.select(slice(0)), rejects=())


def over_structures(
    fn: Callable[[Bundle], Bundle], *, time_limit: float = TIME_LIMIT
) -> OverStructures[Bundle]:
    """`OverStructures` of a function that makes a bundle of a bundle."""
    return OverStructures(fn, Bundle.concatenate, time_limit)


class KeepingAll(OverStructures[Bundle]):
    """`OverStructures` whose result keeps what can't be worked on.

    Such a structure fails the criteria that the function judges by, with the reason, and has no
    values in the columns that it makes.
    """

    def refuse(self, item: Bundle, reason: str) -> Bundle:
        """The structure as it came, with verdicts and columns of those that could be judged."""
        result = self.fn(self.nothing(item))
        atoms, failed = len(item.crystals.atomic_numbers), np.zeros(len(item), dtype=bool)
        reasons = strings([reason] * len(item))
        lacking = {
            name: replace(
                column, values=_none(column.kind, atoms if column.per_atom else len(item))
            )
            for name, column in result.columns.items()
            if name not in item.columns or column.source != item.columns[name].source
        }
        verdicts = {
            name: Verdict(failed, reasons, verdict.criterion)
            for name, verdict in result.verdicts.items()
            if name not in item.verdicts or verdict.criterion != item.verdicts[name].criterion
        }
        kept = item.with_columns(lacking).with_verdicts(verdicts)
        return replace(kept, provenance=result.provenance)


def _none(kind: str, n: int) -> NDArray[Any]:
    """Values (n,) as a descriptor gives them where there is a reason."""
    if kind == "str":
        return strings([""] * n)
    return np.full(n, {"float64": np.nan, "int64": -1, "bool": False}[kind])


def divide(bundle: Bundle, size: int) -> list[Bundle]:
    """A bundle in parts of at most ``size`` crystals, at least one part; the first has the rejects.

    Raises:
        ValueError: ``size`` is less than 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    parts = [bundle.select(slice(i, i + size)) for i in range(0, max(len(bundle), 1), size)]
    return [part if i == 0 else replace(part, rejects=()) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class Written:
    """What a stage left in its file.

    Attributes:
        crystals, rejects: in the file.
        before: further rejects, which an earlier filter took out of the source.
        resumed_after: entries of the source that an earlier process did.
        was_complete: whether there was nothing left to do.
    """

    crystals: int
    rejects: int
    before: int
    resumed_after: int
    was_complete: bool

    @property
    def entries(self) -> int:
        """Crystals and rejects: what was read."""
        return self.crystals + self.rejects

    def counts(self, done: str) -> dict[str, int]:
        """The counts by name; ``done`` says what was done to the crystals."""
        return {
            "read": self.entries,
            done: self.crystals,
            "rejected": self.rejects,
            "rejected_before": self.before,
            "resumed_after": self.resumed_after,
        }


class Stage(Generic[R]):
    """What is done to each chunk of a stream, and what is counted on the way.

    A chunk is prepared in this process, worked on in an executor, and its result taken in this
    process, in order. This stage only passes chunks on; others override its parts.

    Attributes:
        task: from a chunk to a result, in a worker; None if there is no such work.
        counts: what is counted → how often, or names → such counts.
        like: an example of the counts, as of `parse_counts`.
        read: entries of the source that are done.
        before: how many of these an earlier filter took out.
    """

    task: Callable[[Bundle], R] | None = None
    counts: Any
    like: Mapping[str, Any] = {EVERY: {EVERY: 0}}
    read: int
    before: int

    def __init__(self) -> None:
        """Nothing is done yet."""
        self.counts, self.read, self.before = {}, 0, 0

    @property
    def provenance(self) -> dict[str, str]:
        """What the output depends on, but for its source."""
        return {}

    def prepare(self, chunk: Bundle) -> Bundle:
        """A chunk as the task takes it."""
        return chunk

    def take(self, result: R) -> Bundle:
        """Count a result; what is written of it."""
        return cast(Bundle, result)

    def note(self) -> str:
        """What stands beside the bar."""
        return ""

    def resume(self, counts: Mapping[str, Any]) -> None:
        """Go on with the counts of an earlier process."""
        for key, value in counts.items():
            self.counts[key] = Counter(value) if isinstance(value, dict) else value

    def over(self, chunks: Iterable[Bundle], executor: Executor | None = None) -> Iterator[Bundle]:
        """What becomes of each chunk, in order; few are under way at any time."""
        sizes: deque[tuple[int, int]] = deque()

        def prepared() -> Iterator[Bundle]:
            for chunk in chunks:
                sizes.append((chunk.n_entries, chunk.n_entries - chunk.n_read))
                yield self.prepare(chunk)

        results: Iterable[Any] = prepared()
        if self.task is not None:
            results = map_ordered(executor or SerialExecutor(), self.task, prepared())
        for result in results:
            made = self.take(result)
            n, before = sizes.popleft()
            self.read, self.before = self.read + n, self.before + before
            yield made

    def write(
        self,
        chunks: Iterable[Bundle],
        output: Path,
        provenance: Mapping[str, str],
        *,
        executor: Executor | None = None,
        resume: bool = False,
        total: int | None = None,
        title: str = "",
        show: bool = True,
    ) -> Written:
        """Write what becomes of each chunk, and the counts with it.

        Args:
            chunks: the whole stream; what an earlier process did of it is gone past.
            output: bundle file; replaced unless ``resume`` finds it.
            provenance: of the output, beside the stage's own.
            executor: where the task runs; None for this process.
            resume: go on after what the file holds. A complete one is left as it is.
            total, title, show: of the bar.

        Raises:
            UsageError, PigenError: as `BundleWriter`, or the stream is not the one begun with.
        """
        if not (resume and output.exists()):  # or the file says it
            first, chunks = _begun(chunks)
            provenance = {**({KEEPS: SURVIVORS} if first.are_survivors else {}), **provenance}
        provenance = {**provenance, **self.provenance}
        with BundleWriter(output, provenance, resume=resume) as writer:
            state = {"read": 0, "before": 0, "counts": self.like}
            found = parse_counts(writer.state, output, state)
            self.read = done = found.get("read", writer.n_written + writer.n_rejected)
            self.before = found.get("before", 0)
            self.resume(found.get("counts", {}))
            was_complete = writer.complete
            if not was_complete:
                with progress_bar(total, title=title, done=done, show=show) as bar:
                    for made in self.over(skip_entries(chunks, done), executor):
                        state = {"read": self.read, "before": self.before, "counts": self.counts}
                        writer.append(made, counts_text(state))
                        bar.set_postfix_str(self.note(), refresh=False)
                        bar.update(self.read - bar.n)
        rejects = writer.n_rejected - self.before
        return Written(writer.n_written, rejects, self.before, done, was_complete)


def _begun(chunks: Iterable[Bundle]) -> tuple[Bundle, Iterator[Bundle]]:
    """The first chunk of a stream, an empty one of none, and the whole stream."""
    stream = iter(chunks)
    first = list(islice(stream, 1))
    return (first or [Bundle.empty()])[0], chain(first, stream)


def with_bar(
    chunks: Iterable[Bundle], total: int | None, unit: str = "structure"
) -> Iterator[Bundle]:
    """The chunks, with a bar that shows how many of their entries have passed."""
    with progress_bar(total, unit) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(chunk.n_entries)


def skip_entries(chunks: Iterable[Bundle], n: int) -> Iterator[Bundle]:
    """The chunks after the first ``n`` entries, which must fill whole chunks.

    Raises:
        PigenError: the stream has no chunk that ends there: it is not the one begun with.
    """
    remaining, stream = n, iter(chunks)
    while remaining > 0:
        chunk = next(stream, None)
        remaining -= n + 1 if chunk is None else chunk.n_entries
    if remaining < 0:
        raise PigenError("cannot resume: the sources do not hold what they held before")
    yield from stream
