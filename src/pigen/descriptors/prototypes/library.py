"""Libraries of frameworks, ranked and labelled, and which framework of one a structure has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, bundle_info, read_bundle, strings, write_bundle
from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.known import KnownStructures
from pigen.descriptors.prototypes.reduce import matcher_cells, ready
from pigen.io import read
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import cached_file
from pigen.runtime.resources import PROTOTYPES

SHIPPED = ("aflow", "reference")
"""Names of the libraries that travel with the package."""
LIBRARY = "prototype_library"
"""Provenance key of a stored library: its cells are reduced and in order of rank."""


@dataclass(frozen=True, eq=False)
class Library:
    """Frameworks in order of rank.

    Attributes:
        bundle: one reduced cell a framework, by `matcher_cells`, with the columns ``rank`` (from 1,
            rising), ``count`` (structures known to have it, 0 if nobody counted) and ``label``.
    """

    bundle: Bundle

    def __len__(self) -> int:
        """Number of frameworks."""
        return len(self.bundle)

    @property
    def labels(self) -> NDArray[np.object_]:
        """Name of each framework, (M,)."""
        return self.bundle.columns["label"].values

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each framework, (M,)."""
        return self.bundle.columns["rank"].values

    @cached_property
    def known(self) -> KnownStructures:
        """The frameworks, for looking up."""
        return KnownStructures(ready(self.bundle.crystals))

    def top(self, n: int) -> Library:
        """The frameworks of rank 1 … n."""
        return Library(self.bundle.select(self.ranks <= n))

    @classmethod
    def from_bundle(cls, bundle: Bundle, source: str) -> Library:
        """A library of all structures of a bundle, reduced here.

        Args:
            bundle: a column ``rank`` orders it, else its own order does; a column ``label`` names
                the frameworks, else their ids do.
            source: where it is from, for the columns.

        Raises:
            PigenError: no structure could be reduced. Those that can't be are left out.
        """
        cells, reasons = matcher_cells(bundle.crystals)
        fine = np.flatnonzero(reasons == "")
        if not len(fine):
            raise PigenError("a library of prototypes needs at least one structure")
        given = bundle.columns.get("rank")
        order = np.arange(len(bundle)) + 1.0
        if given is not None and given.kind != "str":
            order = np.where(np.isnan(given.values.astype(float)), np.inf, given.values)
        rows = fine[np.argsort(order[fine], kind="stable")]
        named, counted = bundle.columns.get("label"), bundle.columns.get("count")
        labels = bundle.ids if named is None or named.kind != "str" else named.values
        counts = np.zeros(len(bundle))
        if counted is not None and counted.kind != "str":
            counts = np.nan_to_num(counted.values.astype(float), posinf=0.0, neginf=0.0)
        columns = {
            "rank": Column(np.arange(1, len(rows) + 1), "", source),
            "count": Column(counts[rows].astype(np.int64), "", source),
            "label": Column(strings(labels[rows]), "", source),
        }
        return cls(Bundle(crystals=cells[rows], ids=bundle.ids[rows], columns=columns))

    def write(self, path: Path, provenance: dict[str, str]) -> None:
        """Store it; `load_library` reads it."""
        stored = replace(self.bundle, provenance={**provenance, LIBRARY: str(len(self))})
        write_bundle(path, stored)


def library_file(name: str, folder: Path) -> Path:
    """The file of a library, from a shipped name, a stored library or any source of structures.

    Args:
        name: ``aflow``, ``reference``, or the path of a file or folder.
        folder: where a library made of a source is written.

    Raises:
        UsageError: no such library or file.
        PigenError: the source holds no structure.
    """
    if name in SHIPPED:
        return PROTOTYPES / f"{name}.h5"
    source = Path(name)
    if not source.exists():
        known = ", ".join(SHIPPED)
        raise UsageError(f"{name}: no such file or folder, and no library of that name ({known})")
    if _is_library(source):
        return source
    path = folder / f"{source.resolve().name}.library.h5"
    Library.from_bundle(read(source), f"structures of {source.name}").write(path, {})
    return path


def _is_library(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(4) != b"\x89HDF":
            return False
    return LIBRARY in bundle_info(path).provenance


@cached_file(maxsize=4)
def load_library(path: Path) -> Library:
    """A stored library, kept in memory.

    Raises:
        UsageError: no such file, or not a library.
    """
    bundle = read_bundle(path)
    if LIBRARY not in bundle.provenance:
        raise UsageError(f"{path}: not a library of prototypes; pigen prototypes build makes one")
    for name, kind in (("rank", "int64"), ("count", "int64"), ("label", "str")):
        if name not in bundle.columns or bundle.columns[name].kind != kind:
            raise UsageError(f"{path}: a damaged library: no column {name!r} of {kind}")
    return Library(bundle)


@dataclass(frozen=True, eq=False)
class Matched:
    """Frameworks of B crystals.

    Attributes:
        labels: (B,) "" where there is none.
        ranks: (B,) 0 where there is none, -1 where there is a reason.
        reasons: (B,) why a crystal could not be compared, else "".
    """

    labels: NDArray[np.object_]
    ranks: NDArray[np.int64]
    reasons: NDArray[np.object_]


def match(crystals: Crystals, library: Library) -> Matched:
    """The highest-ranked framework of the library that the matcher fits each crystal to."""
    cells, reasons = matcher_cells(crystals)
    labels, ranks = [""] * len(crystals), np.zeros(len(crystals), dtype=np.int64)
    ranks[reasons != ""] = -1
    for i, one in enumerate(ready(cells)):
        if reasons[i]:
            continue
        try:
            found = library.known.first_fit(one)
        except ValueError as error:
            ranks[i], reasons[i] = -1, str(error)
            continue
        if found is not None:
            labels[i], ranks[i] = library.labels[found], library.ranks[found]
    return Matched(strings(labels), ranks, reasons)
