"""What is known of structures: the nearest entry of a set, and whether it is the same structure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, divide, strings
from pigen.crystal.crystals import Crystals
from pigen.descriptors.prototypes.known import KnownStructures, structure_matcher
from pigen.descriptors.prototypes.reduce import Reduced, average_distances, prepare
from pigen.runtime.executor import map_ordered
from pigen.screening.composition import element_counts

_CHUNK = 250
"""Structures in a task for a worker."""
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


def match(
    candidates: Bundle, known: Iterable[Bundle], executor: Executor
) -> tuple[Bundle, Counter[str]]:
    """Each structure's nearest known entry with the same elements.

    The nearest is, of those that pymatgen's StructureMatcher fits (elements included), the one with
    the least rmsd. Where there is none, it is that of the same composition, or else of the nearest
    composition, with the most alike distances between neighbours (`average_distances`).

    Args:
        candidates: B structures.
        known: stream of known ones; those with the elements of a candidate are held in memory.
        executor: where structures are reduced and compared.

    Returns:
        The candidates with the columns ``nearest`` (its id, empty if no known entry has the same
        elements), ``nearest_formula``, ``same_composition``, ``same_structure`` and ``rmsd``, NaN
        unless it is the same structure; and how many are what.
    """
    systems = _systems(candidates.crystals)
    wanted = set(systems)
    parts = []
    for chunk in known:
        among = np.array([one in wanted for one in _systems(chunk.crystals)], dtype=bool)
        parts.append(Bundle(crystals=chunk.crystals[among], ids=chunk.ids[among]))
    entries = Bundle.concatenate(parts) if parts else Bundle.empty()
    formulas = candidates.crystals.reduced_formulas()
    known_formulas = entries.crystals.reduced_formulas()
    fits = {fit.row: fit for fit in _fits(candidates, formulas, entries, known_formulas, executor)}
    nearest = _nearest(candidates.crystals, systems, formulas, entries.crystals, known_formulas)
    for row, fit in fits.items():
        nearest[row] = fit.known if fit.known >= 0 else nearest[row]
    same = np.array([row in fits and fits[row].known >= 0 for row in range(len(nearest))], bool)
    found = nearest >= 0
    of_nearest = [known_formulas[k] if k >= 0 else "" for k in nearest.tolist()]
    alike = np.array([f == g for f, g in zip(formulas, of_nearest, strict=True)], dtype=bool)
    failed = np.array([row in fits and fits[row].failed for row in range(len(nearest))], bool)
    rmsd = np.array([fits[row].rmsd if row in fits else np.nan for row in range(len(nearest))])
    source = f"pigen match: {len(entries)} known entries with the same elements as a candidate"
    matcher = "pigen match: pymatgen's StructureMatcher, elements included"
    columns = {
        "nearest": Column(
            strings(str(entries.ids[k]) if k >= 0 else "" for k in nearest.tolist()), "", source
        ),
        "nearest_formula": Column(strings(of_nearest), "", source),
        "same_composition": Column(alike, "", source),
        "same_structure": Column(same, "", matcher),
        "rmsd": Column(rmsd.astype(np.float64), "(volume per atom)^(1/3)", matcher),
    }
    kinds = np.select(
        [same, failed, alike, found], [SAME, FAILED, OTHER, NEW], default=NONE
    ).tolist()
    counted = Counter(kinds)
    counts = Counter({kind: counted[kind] for kind in (SAME, OTHER, NEW, NONE, FAILED)})
    return candidates.with_columns(columns), counts


def _systems(crystals: Crystals) -> list[bytes]:
    """The elements of each crystal, as something to compare."""
    return [row.tobytes() for row in np.packbits(element_counts(crystals) > 0, axis=1)]


def _fits(
    candidates: Bundle,
    formulas: Sequence[str],
    entries: Bundle,
    known_formulas: Sequence[str],
    executor: Executor,
) -> Iterator[_Fit]:
    """The best fit of each candidate of a known composition."""
    shared = set(formulas) & set(known_formulas)
    ours = _reduced(candidates, formulas, shared, executor)
    theirs = _reduced(entries, known_formulas, shared, executor)
    batch: list[_Group] = []
    batches: list[list[_Group]] = []
    for formula in sorted(shared):
        here = [(row, one) for row, one in ours[formula] if one is not None]
        for row, one in ours[formula]:
            if one is None:
                yield _Fit(row, -1, np.nan, True)
        there = [(row, one) for row, one in theirs[formula] if one is not None]
        if here and there:
            rows, reduced = zip(*here, strict=True)
            batch.append(_Group(rows, reduced, *zip(*there, strict=True)))
        if sum(len(group.rows) for group in batch) >= _CHUNK:
            batches.append(batch)
            batch = []
    for found in map_ordered(executor, _compared, [*batches, *([batch] if batch else [])]):
        yield from found


def _reduced(
    bundle: Bundle, formulas: Sequence[str], shared: set[str], executor: Executor
) -> Mapping[str, list[tuple[int, Reduced | None]]]:
    """Formula → rows of the bundle that have it, each ready to be compared, or None."""
    rows = np.flatnonzero(np.isin(np.array(formulas, dtype=object), list(shared)))
    plain = Bundle(crystals=bundle.crystals[rows], ids=bundle.ids[rows])
    found: defaultdict[str, list[tuple[int, Reduced | None]]] = defaultdict(list)
    at = iter(rows.tolist())
    for _, reduced in prepare(divide(plain, _CHUNK), executor):
        for one in reduced:
            row = next(at)
            found[formulas[row]].append((row, one))
    return found


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


def _nearest(
    crystals: Crystals,
    systems: Sequence[bytes],
    formulas: Sequence[str],
    known: Crystals,
    known_formulas: Sequence[str],
) -> NDArray[np.int64]:
    """(B,) row of the known entry with the same elements and the nearest composition and distances.

    -1 where there is none.
    """
    of_system: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, system in enumerate(_systems(known)):
        of_system[system].append(row)
    invariants, known_invariants = average_distances(crystals), average_distances(known)
    shares, known_shares = _shares(crystals), _shares(known)
    nearest = np.full(len(crystals), -1)
    for row, system in enumerate(systems):
        rows = np.array(of_system.get(system, ()), dtype=np.int64)
        if len(rows):
            away = np.abs(known_shares[rows] - shares[row]).sum(1).round(9)
            unlike = np.abs(known_invariants[rows] - invariants[row]).max(1)
            nearest[row] = rows[np.lexsort((np.nan_to_num(unlike, nan=np.inf), away))[0]]
    return nearest


def _shares(crystals: Crystals) -> NDArray[np.float64]:
    """(B, MAX_Z + 1) share of each element in the atoms."""
    counts = element_counts(crystals)
    return np.asarray(counts / np.maximum(counts.sum(1, keepdims=True), 1))
