"""What is known of structures: the nearest entry of a set, and whether it is the same structure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, divide, strings
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import usual_formula
from pigen.descriptors.prototypes.known import KnownStructures, structure_matcher
from pigen.descriptors.prototypes.reduce import (
    N_NEIGHBOURS,
    Reduced,
    average_distances,
    prepare,
)
from pigen.runtime.executor import map_ordered
from pigen.screening.composition import element_counts

CHUNK = 2000
"""Structures that are compared, and then written, together."""
_TASK = 100
"""Structures in a task for a worker."""
_Key = TypeVar("_Key", bound=Hashable)
SAME, OTHER, NEW, NONE, FAILED = (
    "same structure",
    "same composition, another structure",
    "new composition of known elements",
    "no known entry with these elements",
    "could not be compared",
)
"""What a structure may be, in the order of the counts."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Structures of one composition: the candidates', the known ones', each with its row."""

    rows: tuple[int, ...]
    candidates: tuple[Reduced, ...]
    known_rows: tuple[int, ...]
    known: tuple[Reduced, ...]


@dataclass(frozen=True)
class _Fit:
    """The known entry that a candidate fits best; -1 and NaN where it fits none."""

    row: int
    known: int
    rmsd: float
    failed: bool


class Known:
    """Known structures, looked up by elements and by composition; each is made ready once."""

    def __init__(self, chunks: Iterable[Bundle]) -> None:
        """Those of a stream, all held in memory."""
        parts = [Bundle(crystals=chunk.crystals, ids=chunk.ids) for chunk in chunks]
        self.entries = Bundle.concatenate(parts) if parts else Bundle.empty()
        self.formulas = np.array(self.entries.crystals.reduced_formulas(), dtype=object)
        self.invariants = np.full((len(self.entries), N_NEIGHBOURS), np.nan)
        self._has_invariant = np.zeros(len(self.entries), dtype=bool)
        self._of_system = _rows_of(_systems(self.entries.crystals))
        self._of_formula = _rows_of(self.formulas)
        self._ready: dict[str, list[tuple[int, Reduced]]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self.entries)

    def of_system(self, system: bytes) -> NDArray[np.int64]:
        """(n,) rows of those with these elements, whose `invariants` are then at hand."""
        rows = self._of_system.get(system, np.empty(0, dtype=np.int64))
        lacking = rows[~self._has_invariant[rows]]
        if len(lacking):
            self.invariants[lacking] = average_distances(self.entries.crystals[lacking])
            self._has_invariant[lacking] = True
        return rows

    def of_formulas(
        self, formulas: Iterable[str], executor: Executor
    ) -> Mapping[str, Sequence[tuple[int, Reduced]]]:
        """Formula → rows of those of this composition, each ready to be compared."""
        shared = [one for one in dict.fromkeys(formulas) if one in self._of_formula]
        lacking = [one for one in shared if one not in self._ready]
        if lacking:
            rows = np.concatenate([self._of_formula[one] for one in lacking])
            self._ready |= {one: [] for one in lacking}
            for row, one in _reduced(self.entries, rows, executor):
                if one is not None:
                    self._ready[self.formulas[row]].append((row, one))
        return {one: self._ready[one] for one in shared}


class NearestStage(Stage[Bundle]):
    """Finds the nearest known entry with the same elements of every structure, and counts.

    The nearest is, of those that pymatgen's StructureMatcher fits (elements included), the one with
    the least rmsd. Where there is none, it is that of the same composition, or else of the nearest
    composition, with the most alike distances between neighbours (`average_distances`).

    A chunk gains the columns ``nearest`` (its id, empty if no known entry has the same elements),
    ``nearest_formula``, ``same_composition``, ``same_structure`` and ``rmsd`` (NaN unless it is the
    same structure). What cannot be compared is the same structure as none.
    """

    like: Mapping[str, Any] = {EVERY: 0}
    counts: Counter[str]

    def __init__(self, known: Known, executor: Executor) -> None:
        """Known structures, and where others are compared with them."""
        super().__init__()
        self.counts = Counter(dict.fromkeys((SAME, OTHER, NEW, NONE, FAILED), 0))
        self.known, self._executor = known, executor

    def take(self, result: Bundle) -> Bundle:
        """Compare and count; the chunk with its columns."""
        known, n = self.known, len(result)
        formulas = np.array(result.crystals.reduced_formulas(), dtype=object)
        nearest = _nearest(result.crystals, known)
        rmsd, failed = np.full(n, np.nan), np.zeros(n, dtype=bool)
        for fit in _fits(result, formulas, known, self._executor):
            rmsd[fit.row], failed[fit.row] = fit.rmsd, fit.failed
            nearest[fit.row] = nearest[fit.row] if fit.known < 0 else fit.known
        found, same = nearest >= 0, ~np.isnan(rmsd)
        of_nearest = [known.formulas[k] if k >= 0 else "" for k in nearest]
        alike = np.array(formulas == np.array(of_nearest, dtype=object), dtype=bool)
        kinds = np.select(
            [same, failed, alike, found], [SAME, FAILED, OTHER, NEW], default=NONE
        ).tolist()
        self.counts.update(kinds)
        source = f"pigen match: of {len(known)} known entries one with the same elements"
        matcher = "pigen match: pymatgen's StructureMatcher, elements included"
        ids = strings(str(known.entries.ids[k]) if k >= 0 else "" for k in nearest)
        return result.with_columns(
            {
                "nearest": Column(ids, "", source),
                "nearest_formula": Column(
                    strings(f and usual_formula(f) for f in of_nearest), "", source
                ),
                "same_composition": Column(alike, "", source),
                "same_structure": Column(same, "", matcher),
                "rmsd": Column(rmsd, "(volume per atom)^(1/3)", matcher),
            }
        )


def match(
    candidates: Bundle, known: Iterable[Bundle], executor: Executor
) -> tuple[Bundle, Counter[str]]:
    """What `NearestStage` makes of structures in memory, and how many are what."""
    stage = NearestStage(Known(known), executor)
    return Bundle.concatenate(list(stage.over(divide(candidates, CHUNK)))), stage.counts


def _rows_of(keys: Iterable[_Key]) -> dict[_Key, NDArray[np.int64]]:
    """Key → rows that have it, in order."""
    rows: defaultdict[_Key, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return {key: np.array(found, dtype=np.int64) for key, found in rows.items()}


def _systems(crystals: Crystals) -> list[bytes]:
    """The elements of each crystal, as something to compare."""
    return [row.tobytes() for row in np.packbits(element_counts(crystals) > 0, axis=1)]


def _fits(
    candidates: Bundle, formulas: NDArray[np.object_], known: Known, executor: Executor
) -> Iterator[_Fit]:
    """The best fit of each candidate of a known composition."""
    theirs = known.of_formulas(formulas, executor)
    rows = np.flatnonzero([formula in theirs for formula in formulas])
    ours: defaultdict[str, list[tuple[int, Reduced]]] = defaultdict(list)
    for row, one in _reduced(candidates, rows, executor):
        if one is None:
            yield _Fit(row, -1, np.nan, True)
        else:
            ours[formulas[row]].append((row, one))
    groups = [
        _Group(*zip(*ours[formula][i : i + _TASK], strict=True), *zip(*there, strict=True))
        for formula, there in theirs.items()
        if there
        for i in range(0, len(ours[formula]), _TASK)
    ]
    batches: list[list[_Group]] = [[]]
    for group in groups:
        if sum(len(one.rows) for one in batches[-1]) >= _TASK:
            batches.append([])
        batches[-1].append(group)
    for found in map_ordered(executor, _compared, batches):
        yield from found


def _reduced(
    bundle: Bundle, rows: NDArray[np.int64], executor: Executor
) -> Iterator[tuple[int, Reduced | None]]:
    """Each of these rows of a bundle, ready to be compared, or None."""
    plain = Bundle(crystals=bundle.crystals[rows], ids=bundle.ids[rows])
    ready = (one for _, reduced in prepare(divide(plain, _TASK), executor) for one in reduced)
    return zip(rows.tolist(), ready, strict=True)


def _compared(groups: Sequence[_Group]) -> list[_Fit]:
    """The best fit of each candidate of some groups; this may be a worker."""
    found = []
    for group in groups:
        known = KnownStructures(group.known, species=True)
        for row, one in zip(group.rows, group.candidates, strict=True):
            best, rmsd, failed = -1, np.nan, False
            try:
                for number in known.fits(one):
                    distance = _rmsd(one, known[number])
                    if not rmsd <= distance:
                        best, rmsd = group.known_rows[number], distance
            except ValueError:  # the matcher fails on a pair
                failed = best < 0
            found.append(_Fit(row, best, rmsd, failed))
    return found


def _rmsd(one: Reduced, known: Reduced) -> float:
    """The matcher's root mean square displacement of a pair that fits."""
    matcher: Any = structure_matcher(species=True)
    distances = matcher.get_rms_dist(one.structure, known.structure)
    return float("inf") if distances is None else float(distances[0])


def _nearest(crystals: Crystals, known: Known) -> NDArray[np.int64]:
    """(B,) row of the known entry with the same elements and the nearest composition and distances.

    -1 where there is none.
    """
    invariants, shares = average_distances(crystals), _shares(crystals)
    nearest = np.full(len(crystals), -1)
    for row, system in enumerate(_systems(crystals)):
        rows = known.of_system(system)
        if len(rows):
            away = np.abs(_shares(known.entries.crystals[rows]) - shares[row]).sum(1).round(9)
            unlike = np.abs(known.invariants[rows] - invariants[row]).max(1)
            nearest[row] = rows[np.lexsort((np.nan_to_num(unlike, nan=np.inf), away))[0]]
    return nearest


def _shares(crystals: Crystals) -> NDArray[np.float64]:
    """(B, MAX_Z + 1) share of each element in the atoms."""
    counts = element_counts(crystals)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1))
