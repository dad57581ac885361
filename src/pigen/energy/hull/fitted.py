"""Energies of another level of theory brought to a reference's: compounds that it lacks are added.

Both levels count energies from their own elements, so what is left to correct is small. The
correction is fitted to the compounds that both have: linear in the fractions of the elements, with
a ridge-regularised term for each pair of elements, by Huber's loss (P. J. Huber, Ann. Math. Stat.
35, 73, 1964), for some compounds are of different polymorphs. A second set of energies for the
same compounds, where there is one, is a further variable: two calculations of one compound, with
other settings, say more than one.

A compound of which only metastable forms are in the reference has an energy there, but not the one
that counts: it takes the lower of both, and the correction is not fitted to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.elements import MAX_Z, Z_OF, formula_amounts
from pigen.energy.hull.reference import Entry, Reference
from pigen.energy.hull.substitute import SUBSTITUTED
from pigen.runtime.errors import UsageError

FITTED = "fitted-"
"""What the ids of such entries begin with, as in ``fitted-Ac1Ag1``."""

MIN_SHARED = 100
"""Compounds that both levels must have: with fewer there is nothing to fit to."""
_FOLDS = 5
_PAIR_SEEN = 5
"""Compounds that must hold a pair of elements for a term of its own."""
METASTABLE = 0.001
"""eV/atom above the published hull from which a form is metastable."""
_HUBER = 0.02
"""eV/atom: differences beyond it count linearly."""
_RIDGE, _RIDGE_PAIR = 1e-3, 2.0
_MAX_PASSES = 30


@dataclass(frozen=True)
class FitQuality:
    """How well the correction holds for compounds that it was not fitted to.

    Attributes:
        shared: compounds that both levels have.
        median, mean: absolute error of five-fold cross-validation, eV/atom.
        bias: mean error, eV/atom: corrected energy minus the reference's.
        raw_median, raw_mean: absolute difference without the fit, eV/atom.
    """

    shared: int
    median: float
    mean: float
    bias: float
    raw_median: float
    raw_mean: float


@dataclass(frozen=True)
class Added:
    """A reference with fitted entries.

    Attributes:
        reference: the given one, without substitutes, and the compounds that it lacked.
        quality: of the correction.
        n_added: fitted entries.
        n_lower: those of them of a compound whose own forms are metastable, and higher.
        left_out: compounds that were not added, by reason.
    """

    reference: Reference
    quality: FitQuality
    n_added: int
    n_lower: int
    left_out: Counter[str]


def add_fitted(
    reference: Reference,
    others: Iterable[Entry],
    origin: str,
    second: Iterable[Entry] = (),
    published: Mapping[str, float] | None = None,
) -> Added:
    """Add the compounds that a reference lacks, with energies of another level of theory.

    A compound that the reference has keeps its energy there: the potential's own is exact at its
    level, the fit is not; but where all its forms are published as metastable, the stable one is
    missing, and the fitted energy counts if it is lower. Guesses (`SUBSTITUTED`) give way: the
    other level says which phases are stable. So do compounds that were added before, where they are
    among the others; the rest of them stays.

    Args:
        reference: of the potential.
        others: total or formation energies, eV/atom; elements count as 0 where they are left out.
        origin: what the others are, for the note.
        second: further energies of the same compounds.
        published: id of an entry → energy above the hull (eV/atom) at the level of the others.

    Raises:
        UsageError: fewer than `MIN_SHARED` compounds are in both.
    """
    own = [e for e in reference.entries if not e.id.startswith((SUBSTITUTED, FITTED))]
    known = _from_elements(own, {})
    zero = dict.fromkeys(_elements(own), 0.0)
    first, beside = _from_elements(others, zero), _from_elements(second, zero)
    metastable = _metastable(own, published or {})
    shared = [formula for formula in first if formula in known and formula not in metastable]
    if len(shared) < MIN_SHARED:
        raise UsageError(
            f"{len(shared)} compounds of {origin} are in the reference too; a correction needs "
            f"{MIN_SHARED} to be fitted to"
        )
    target = np.array([known[formula] for formula in shared])
    correction = _Correction.fit(shared, target, first, beside)
    missing = [formula for formula in first if formula not in known or formula in metastable]
    lacking = [formula for formula in missing if not formula_amounts(formula).keys() <= zero.keys()]
    wanted = sorted(set(missing) - set(lacking))
    energies = correction.energies(wanted, first, beside)
    base = _elements(own)
    entries = [
        Entry(formula, float(energy) + _mixture(formula, base), FITTED + formula)
        for formula, energy in zip(wanted, energies, strict=True)
        if energy < known.get(formula, np.inf)
    ]
    quality = _cross_validated(shared, target, first, beside)
    before = [e for e in reference.entries if e.id.startswith(FITTED) and e.formula not in first]
    n_lower = sum(entry.formula in known for entry in entries)
    held = len(shared) + len(metastable & first.keys()) - n_lower
    left_out = Counter({"in the reference already": held})
    left_out.update(f"no element {_first_missing(f, zero)} in the reference" for f in lacking)
    extended = _extended(reference, own, before, entries, origin, quality)
    return Added(extended, quality, len(entries), n_lower, left_out)


def _extended(
    reference: Reference,
    own: Sequence[Entry],
    before: Sequence[Entry],
    entries: Sequence[Entry],
    origin: str,
    quality: FitQuality,
) -> Reference:
    """The reference with its own entries, those added before and the new ones, and what it says."""
    earlier = reference.provenance.get("fitted", "")
    relaxed = "" if reference.provenance.get("made_by") == "pigen hull import" else " relaxed"
    note = (
        f"{_given(own)}{relaxed}, and {len(entries)} compounds of {origin}, whose energies were "
        f"brought to the same level by a fit (error {1000 * quality.median:.0f} meV/atom in the "
        f"median, {1000 * quality.mean:.0f} in the mean)"
    )
    if before:
        note += f", beside {len(before)} of {earlier or 'another'}, added before"
        origin = f"{earlier}, {origin}"
    own_words = {k: v for k, v in reference.provenance.items() if k != "substitutes"}
    return replace(
        reference,
        entries=(*own, *before, *entries),
        note=note,
        provenance={**own_words, "fitted": origin},
    )


def _metastable(entries: Iterable[Entry], published: Mapping[str, float]) -> set[str]:
    """Formulas of which every entry is known, and none is on the published hull."""
    lowest: dict[str, float] = {}
    for entry in entries:
        above = published.get(entry.id, 0.0)
        lowest[entry.formula] = min(above, lowest.get(entry.formula, np.inf))
    return {formula for formula, above in lowest.items() if above > METASTABLE}


class _Correction:
    """What turns energies of another level into the reference's, both counted from elements."""

    def __init__(self, pairs: Sequence[tuple[int, int]], weights: NDArray[np.float64]) -> None:
        self._pairs, self._weights = pairs, weights

    @classmethod
    def fit(
        cls,
        formulas: Sequence[str],
        target: NDArray[np.float64],
        first: Mapping[str, float],
        second: Mapping[str, float],
    ) -> _Correction:
        seen = Counter(pair for formula in formulas for pair in _pairs_of(formula))
        pairs = sorted(pair for pair, n in seen.items() if n >= _PAIR_SEEN)
        rows = _design(formulas, pairs, first, second)
        wanted = target - np.array([first[formula] for formula in formulas])
        ridge = np.full(rows.shape[1], _RIDGE_PAIR)
        ridge[:_FIRST_PAIR] = _RIDGE
        return cls(pairs, _huber(rows, wanted, ridge))

    def energies(
        self, formulas: Sequence[str], first: Mapping[str, float], second: Mapping[str, float]
    ) -> NDArray[np.float64]:
        """(B,) eV/atom."""
        given = np.array([first[formula] for formula in formulas])
        added: NDArray[np.float64] = _design(formulas, self._pairs, first, second) @ self._weights
        return given + added


_FIRST_PAIR = 2 * (MAX_Z + 1) + 1
"""Column of the first pair; before it fractions, fractions where there is a second energy, and how
far that lies from the first."""


def _design(
    formulas: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    first: Mapping[str, float],
    second: Mapping[str, float],
) -> NDArray[np.float64]:
    column = {pair: _FIRST_PAIR + i for i, pair in enumerate(pairs)}
    rows = np.zeros((len(formulas), _FIRST_PAIR + len(pairs)))
    for row, formula in zip(rows, formulas, strict=True):
        fractions = {Z_OF[symbol]: x for symbol, x in _fractions(formula).items()}
        for z, x in fractions.items():
            row[z] = x
        if formula in second:
            row[MAX_Z + 1 : _FIRST_PAIR - 1] = row[: MAX_Z + 1]
            row[_FIRST_PAIR - 1] = second[formula] - first[formula]
        for pair in _pairs_of(formula):
            if pair in column:
                row[column[pair]] = 4.0 * fractions[pair[0]] * fractions[pair[1]]
    return rows


def _huber(
    rows: NDArray[np.float64], target: NDArray[np.float64], ridge: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients by iteratively reweighted least squares: the loss is convex, this converges."""
    from scipy.sparse import csr_array, diags_array

    matrix = csr_array(rows)
    coefficients = np.zeros(rows.shape[1])
    for _ in range(_MAX_PASSES):
        distance = np.abs(target - matrix @ coefficients)
        weighted = diags_array(1.0 / np.maximum(distance / _HUBER, 1.0)) @ matrix
        normal = (matrix.T @ weighted).toarray() + np.diag(ridge)
        found = np.linalg.solve(normal, weighted.T @ target)
        moved = np.abs(matrix @ (found - coefficients)).max()
        coefficients = found
        if moved < 1e-4:
            break
    return coefficients


def _cross_validated(
    shared: Sequence[str],
    target: NDArray[np.float64],
    first: Mapping[str, float],
    second: Mapping[str, float],
) -> FitQuality:
    fold = np.random.default_rng(0).integers(0, _FOLDS, len(shared))
    error = np.zeros(len(shared))
    formulas = np.array(shared, dtype=object)
    for k in range(_FOLDS):
        rest, held = fold != k, fold == k
        correction = _Correction.fit(list(formulas[rest]), target[rest], first, second)
        error[held] = correction.energies(list(formulas[held]), first, second) - target[held]
    raw = np.array([first[formula] for formula in shared]) - target
    return FitQuality(
        len(shared),
        float(np.median(abs(error))),
        float(abs(error).mean()),
        float(error.mean()),
        float(np.median(abs(raw))),
        float(abs(raw).mean()),
    )


def _from_elements(entries: Iterable[Entry], zero: Mapping[str, float]) -> dict[str, float]:
    """Formula → lowest energy of a compound minus that of its elements, eV/atom."""
    lowest: dict[str, float] = {}
    for entry in entries:
        lowest[entry.formula] = min(entry.energy, lowest.get(entry.formula, np.inf))
    base = {**zero, **_elements(Entry(f, e, f) for f, e in lowest.items())}
    found = {}
    for formula, energy in lowest.items():
        amounts = formula_amounts(formula)
        if len(amounts) > 1:
            known = amounts.keys() <= base.keys()
            found[formula] = energy - _mixture(formula, base) if known else energy
    return found


def _elements(entries: Iterable[Entry]) -> dict[str, float]:
    """Symbol → lowest energy of the element, eV/atom."""
    found: dict[str, float] = {}
    for entry in entries:
        amounts = formula_amounts(entry.formula)
        if len(amounts) == 1:
            (symbol,) = amounts
            found[symbol] = min(entry.energy, found.get(symbol, np.inf))
    return found


def _fractions(formula: str) -> dict[str, float]:
    amounts = formula_amounts(formula)
    total = sum(amounts.values())
    return {symbol: n / total for symbol, n in amounts.items()}


def _mixture(formula: str, base: Mapping[str, float]) -> float:
    return sum(x * base[symbol] for symbol, x in _fractions(formula).items())


def _pairs_of(formula: str) -> list[tuple[int, int]]:
    numbers = sorted(Z_OF[symbol] for symbol in formula_amounts(formula))
    return [(a, b) for i, b in enumerate(numbers) for a in numbers[:i]]


def _first_missing(formula: str, known: Mapping[str, float]) -> str:
    return min(formula_amounts(formula).keys() - known.keys())


def _given(entries: Sequence[Entry]) -> str:
    from pigen.energy.hull.elements import ELEMENT

    n = sum(entry.id.startswith(ELEMENT) for entry in entries)
    return f"{len(entries) - n} structures and {n} of the elements"
