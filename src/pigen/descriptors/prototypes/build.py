"""Making libraries: the frameworks of a stream of structures, and how frequent each is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, strings
from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.known import KnownStructures
from pigen.descriptors.prototypes.library import Library
from pigen.descriptors.prototypes.reduce import Prepared, Reduced
from pigen.runtime.errors import PigenError


class Frameworks:
    """Distinct frameworks of a stream, and how many structures have each.

    Greedy: a structure counts for the framework nearest by its invariant among those it fits, and
    is a new framework if it fits none.

    Attributes:
        left_out: structures that could not be reduced or compared.
    """

    def __init__(self) -> None:
        """Start without frameworks."""
        self.left_out = 0
        self._known = KnownStructures()
        self._names: list[tuple[str, str]] = []  # id and label
        self._counts: list[int] = []

    def __len__(self) -> int:
        """Frameworks found so far."""
        return len(self._known)

    def add(self, prepared: Prepared) -> None:
        """Count the structures of a chunk from `prepare`."""
        chunk, structures = prepared
        for name, one in zip(chunk.ids, structures, strict=True):
            if one is None:
                self.left_out += 1
                continue
            try:
                found = next(self._known.fits(one, nearest_first=True), None)
            except ValueError:
                self.left_out += 1
                continue
            if found is None:
                self._known.add(one)
                self._counts.append(1)
                with warnings.catch_warnings():  # a noble gas has no electronegativity to sort by
                    warnings.simplefilter("ignore", UserWarning)
                    formula = one.structure.composition.reduced_formula
                self._names.append((name, f"{formula} ({name})"))
            else:
                self._counts[found] += 1

    def library(self, source: str, *, least: int = 1, most: int | None = None) -> Library:
        """The frameworks, most frequent first.

        Args:
            source: what was counted, for the columns.
            least: frameworks of fewer structures are left out.
            most: how many to keep.

        Raises:
            PigenError: there is none.
        """
        counts = np.array(self._counts, dtype=np.int64)
        # Of equals the smaller cell first: it is the simpler framework.
        sizes = [self._known[i].crystal.n_atoms[0] for i in range(len(counts))]
        order = np.lexsort((sizes, -counts))
        rows = order[counts[order] >= least][:most]
        known, names = [self._known[i] for i in rows], [self._names[i] for i in rows]
        return _library(known, names, counts[rows], source)


class Usage:
    """How many structures of a stream fit each of some given frameworks.

    Attributes:
        left_out: structures that could not be reduced or compared.
    """

    def __init__(self, frameworks: Library) -> None:
        """The frameworks to count for; their order and counts don't matter."""
        self.left_out = 0
        self._given = frameworks
        self._counts = np.zeros(len(frameworks), dtype=np.int64)

    def add(self, prepared: Prepared) -> None:
        """Count the structures of a chunk from `prepare`, for every framework each one fits."""
        for one in prepared[1]:
            try:
                found = None if one is None else list(self._given.known.fits(one))
            except ValueError:
                found = None
            if found is None:
                self.left_out += 1
            else:
                self._counts[found] += 1

    def __len__(self) -> int:
        """Frameworks given."""
        return len(self._given)

    def library(self, source: str, *, least: int = 1, most: int | None = None) -> Library:
        """As `Frameworks.library`; frameworks equally frequent stay in the order given.

        Raises as `Frameworks.library`.
        """
        order = np.argsort(-self._counts, kind="stable")
        order = order[self._counts[order] >= least][:most]
        known, ids, labels = self._given.known, self._given.bundle.ids, self._given.labels
        names = [(ids[i], labels[i]) for i in order]
        return _library([known[i] for i in order], names, self._counts[order], source)


def aflow_frameworks() -> Library:
    """The AFLOW prototypes that pymatgen carries (Mehl et al. 2017), in its order."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    crystals = Crystals.from_pymatgen([entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY])
    names = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        tags = entry["tags"]
        known_as = [tags[key] for key in ("mineral", "strukturbericht")]
        shown = ", ".join(name for name in known_as if name and name != "None")
        names.append(tags["aflow"] + (f" ({shown})" if shown else ""))
    bundle = Bundle(crystals=crystals, ids=strings(names))
    return Library.from_bundle(bundle, "AFLOW prototypes of pymatgen")


def _library(
    known: Sequence[Reduced],
    names: Sequence[tuple[str, str]],
    counts: NDArray[np.int64],
    source: str,
) -> Library:
    """A library of frameworks in order, each with its id and label."""
    if not known:
        raise PigenError("a library of prototypes needs at least one structure")
    columns = {
        "rank": Column(np.arange(1, len(known) + 1), "", source),
        "count": Column(counts, "", source),
        "label": Column(strings(label for _, label in names), "", source),
    }
    crystals = Crystals.concatenate([one.crystal for one in known])
    return Library(Bundle(crystals=crystals, ids=strings(i for i, _ in names), columns=columns))
