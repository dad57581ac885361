"""Work on bundles that one bad structure does not spoil."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.columns import strings
from pigen.bundle.memory import Bundle, Reject, Verdict
from pigen.runtime.executor import TIME_LIMIT, Divisible

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
