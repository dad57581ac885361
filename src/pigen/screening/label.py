"""Labels: the descriptor columns that a model is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pigen.bundle import Bundle, Column, OverStructures
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.descriptors import Settings, column_source, evaluate, load_descriptors, loaded_files
from pigen.io.values import Values

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


class LabelStage(Stage[tuple[Bundle, Counter[str]]]):
    """`label` on every chunk; counts what has no value, by descriptor and reason.

    A structure that hangs or kills a worker becomes a reject.
    """

    like: Mapping[str, Any] = {EVERY: 0}
    counts: Counter[str]

    def __init__(
        self,
        names: Sequence[str] = DEFAULT_LABELS,
        settings: Settings | None = None,
        table: Values | None = None,
    ) -> None:
        """Take descriptors, their settings, and a table of values to join by id."""
        super().__init__()
        self.counts, self._names, self._settings, self._table = Counter(), names, settings, table
        task = partial(_label, names=tuple(names), settings=settings, own=loaded_files())
        self.task = OverStructures(task, _joined)

    @property
    def provenance(self) -> dict[str, str]:
        """How each descriptor was made, and the table's name and hash."""
        settings = self._settings or {}
        said = {f"label {n}": column_source(n, settings.get(n, {})) for n in self._names}
        return said | ({"values": self._table.name} if self._table else {})

    def prepare(self, chunk: Bundle) -> Bundle:
        """The chunk with the values of the table."""
        return chunk if self._table is None else self._table.join(chunk)

    def take(self, result: tuple[Bundle, Counter[str]]) -> Bundle:
        """Count missing values; return the labelled chunk."""
        chunk, missing = result
        self.counts.update(missing)
        if self._table is not None:
            self.counts.update(self._table.missing(chunk))
        return chunk


class MatchStage(LabelStage):
    """Finds the known framework of every structure; counts matched, unmatched and failed."""

    def __init__(self, name: str, library: Path, top: int) -> None:
        """Frameworks of the library so named, in this file, as far as that rank."""
        super().__init__(("prototype",), {"prototype": {"library": library, "top": top}})
        self._name = name

    @property
    def provenance(self) -> dict[str, str]:
        """The library."""
        return {"library": self._name}

    def take(self, result: tuple[Bundle, Counter[str]]) -> Bundle:
        """Count matches; return the chunk with its frameworks."""
        chunk, missing = result
        ranks = chunk.columns["prototype_rank"].values
        found = {"matched": int((ranks > 0).sum()), "unmatched": int((ranks == 0).sum())}
        self.counts.update({**found, "failed": missing.total()})
        return chunk


def _label(
    bundle: Bundle, names: tuple[str, ...], settings: Settings | None, own: tuple[Path, ...]
) -> tuple[Bundle, Counter[str]]:
    load_descriptors(own)  # this may be a worker
    return label(bundle, names, settings)


def _joined(parts: Sequence[tuple[Bundle, Counter[str]]]) -> tuple[Bundle, Counter[str]]:
    missing = sum((lacking for _, lacking in parts), Counter[str]())
    return Bundle.concatenate([bundle for bundle, _ in parts]), missing


def _e_hull(bundle: Bundle) -> dict[str, Column]:
    for name in E_HULL_COLUMNS:
        column = bundle.columns.get(name)
        if column is None or column.per_atom or column.kind == "str":
            continue
        source = column.source if name == "e_hull" else f"column {name}, {column.source}"
        return {"e_hull": Column(column.values.astype(np.float64), "eV/atom", source)}
    return {}
