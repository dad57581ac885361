"""Labels: the descriptor columns that a model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from pigen.bundle import Bundle, Column, OverStructures
from pigen.descriptors import Settings, evaluate, load_descriptors, loaded_files
from pigen.runtime.errors import PigenError
from pigen.runtime.executor import map_ordered

DEFAULT_LABELS = ("c", "mled", "k")
"""Descriptors computed unless others are asked for."""

E_HULL_COLUMNS = ("e_hull", "e_above_hull", "energy_above_hull")
"""Columns of a source that hold the energy above hull, eV/atom; the first there is taken."""


def label(
    bundle: Bundle, names: Sequence[str] = DEFAULT_LABELS, settings: Settings | None = None
) -> tuple[Bundle, Counter[str]]:
    """The bundle with the columns of the named descriptors and, if it has the energy, ``e_hull``.

    The second value counts the values that could not be computed, by descriptor and reason.
    """
    labelled, reasons = evaluate(bundle, names, settings)
    missing: Counter[str] = Counter()
    for name, why in reasons.items():
        missing.update(f"no {name}, {reason.split(':')[0]}" for reason in why if reason)
    return labelled.with_columns(_e_hull(labelled)), missing


def label_stream(
    chunks: Iterable[Bundle],
    executor: Executor,
    names: Sequence[str] = DEFAULT_LABELS,
    settings: Settings | None = None,
) -> Iterator[tuple[Bundle, Counter[str]]]:
    """`label` on every chunk of a stream, in order, a few at a time in the executor.

    A structure that hangs or kills a worker becomes a reject.
    """
    task = partial(_label, names=tuple(names), settings=settings, own=loaded_files())
    return map_ordered(executor, OverStructures(task, _joined), chunks)


def _label(
    bundle: Bundle, names: tuple[str, ...], settings: Settings | None, own: tuple[Path, ...]
) -> tuple[Bundle, Counter[str]]:
    load_descriptors(own)  # this may be a worker
    return label(bundle, names, settings)


def _joined(parts: Sequence[tuple[Bundle, Counter[str]]]) -> tuple[Bundle, Counter[str]]:
    missing = sum((lacking for _, lacking in parts), Counter[str]())
    return Bundle.concatenate([bundle for bundle, _ in parts]), missing


def skip_entries(
    chunks: Iterable[Bundle], n: int, count: Callable[[Bundle], int] = lambda chunk: chunk.n_entries
) -> Iterator[Bundle]:
    """The chunks after the first ``n`` entries, which must fill whole chunks.

    Raises:
        PigenError: the stream has no chunk that ends there: it is not the one begun with.
    """
    remaining, stream = n, iter(chunks)
    while remaining > 0:
        chunk = next(stream, None)
        remaining -= n + 1 if chunk is None else count(chunk)
    if remaining < 0:
        raise PigenError("cannot resume: the sources do not hold what they held before")
    yield from stream


def _e_hull(bundle: Bundle) -> dict[str, Column]:
    for name in E_HULL_COLUMNS:
        column = bundle.columns.get(name)
        if column is None or column.per_atom or column.kind == "str":
            continue
        source = column.source if name == "e_hull" else f"column {name}, {column.source}"
        return {"e_hull": Column(column.values.astype(np.float64), "eV/atom", source)}
    return {}
