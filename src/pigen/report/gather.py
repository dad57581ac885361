"""One pass over judged structures: counts, the values to draw, and the survivors to list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, Criterion, count_rejects
from pigen.crystal.crystals import Crystals
from pigen.screening.criteria import in_paper_order
from pigen.screening.funnel import Funnel

_ABSURD = 1e100
"""No quantity comes near it; sums of such numbers overflow."""
_TEXTS = ("prototype", "e_hull_reason")


@dataclass(frozen=True)
class Quantity:
    """A number that reports draw and list.

    Attributes:
        name: of the column.
        title, symbol, unit: for people; what follows a "_" in the symbol is its index.
        digits: after the decimal point.
        scale: from the column's unit to the one shown.
        error: column of its standard error.
        computed: whether it is computed where it lacks, by the descriptor of its name.
    """

    name: str
    title: str
    symbol: str
    unit: str = ""
    digits: int = 2
    scale: float = 1.0
    error: str = ""
    computed: bool = False

    def text(self, value: float, error: float = np.nan) -> str:
        """A value of the column as it is shown, with its error where there is one."""
        said = f"{self.scale * value:.{self.digits}f}".replace("-", "−")
        return said if np.isnan(error) else f"{said} ± {self.scale * error:.{self.digits}f}"


N_ATOMS = Quantity("n_atoms", "Atoms in the cell", "N", "atoms", 0)
ESTIMATE = Quantity(
    *("e_hull_est", "Energy above the hull, estimate of DFT's", "E_hull_est", "meV/atom", 0, 1e3),
    error="e_hull_est_sd",
)
E_HULL = Quantity("e_hull", "Energy above the hull", "E_hull", "meV/atom", 0, 1e3)
CHANCE = Quantity("p_hull_050", "Chance to be below 50 meV/atom", "P_50", "%", 0, 1e2)
MLED = Quantity("mled", "Local environment diversity", "M_LED", "bits", computed=True)
ENERGIES = (ESTIMATE, CHANCE, E_HULL)
"""What a run has of its relaxed survivors alone."""
QUANTITIES = (
    Quantity("c", "Compactness", "C", digits=3, computed=True),
    MLED,
    Quantity("spp", "Statistical proxy potential", "SPP", digits=3, computed=True),
    Quantity("k", "Crystallographic complexity", "K", "bits/atom", computed=True),
    *ENERGIES,
    N_ATOMS,
)


@dataclass(frozen=True, eq=False)
class Survivor:
    """A structure that passed: a batch of one, its values by column (NaN if missing) and texts.

    Where it was relaxed, its energies are those of ``relaxed``.
    """

    id: str
    crystal: Crystals
    values: Mapping[str, float]
    texts: Mapping[str, str]
    relaxed: Survivor | None = None

    @property
    def merit(self) -> tuple[float, float]:
        """Smaller is better: low above the hull, else of diverse environments."""
        energies = [self.values.get(one.name, np.nan) for one in (ESTIMATE, E_HULL)]
        known = [energy for energy in energies if not np.isnan(energy)]
        mled = self.values.get("mled", np.nan)
        return (*known, np.inf)[0], np.inf if np.isnan(mled) else -mled


@dataclass
class Gathered:
    """What `gather` found.

    Attributes:
        funnel: the counts.
        provenance: of the first chunk. are_survivors: as of a `Bundle`.
        earlier: why a filter before this one rejected entries → how many.
        judged: column → values of all crystals, NaN where there is none.
        passed: the same of the survivors.
        survivors: the best first.
        sources: column → how it was made.
    """

    funnel: Funnel = field(default_factory=lambda: Funnel(()))
    provenance: dict[str, str] = field(default_factory=dict)
    are_survivors: bool = False
    earlier: Counter[str] = field(default_factory=Counter)
    judged: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    passed: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    survivors: list[Survivor] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def gather(chunks: Iterable[Bundle], most: int, relaxed: Bundle | None = None) -> Gathered:
    """Go through judged chunks once.

    Args:
        chunks: with verdicts and columns; the first says which criteria there are.
        most: survivors to keep for the list.
        relaxed: the survivors after relaxation, each naming its parent, with their energies.
    """
    found: Gathered | None = None
    after = (
        {} if relaxed is None else dict(zip(relaxed.parents, survivors_of(relaxed), strict=True))
    )
    judged: dict[str, list[NDArray[np.float64]]] = {}
    passed: dict[str, list[NDArray[np.float64]]] = {}
    for chunk in chunks:
        if found is None:
            funnel = Funnel(criteria_of(chunk))
            found = Gathered(funnel, dict(chunk.provenance), chunk.are_survivors)
        if chunk.are_survivors:
            found.earlier.update(count_rejects(chunk.rejects))
        survivors = found.funnel.add(chunk)
        for store, bundle in ((judged, chunk), (passed, survivors)):
            for name, values in values_of(bundle).items():
                store.setdefault(name, []).append(values)
        for name, column in chunk.columns.items():
            if len(chunk):
                found.sources.setdefault(name, column.source)
        found.survivors += (_with(one, after.get(one.id)) for one in survivors_of(survivors))
        found.survivors = sorted(found.survivors, key=lambda one: one.merit)[:most]
    if found is None:
        return Gathered()
    found.judged = {name: np.concatenate(parts) for name, parts in judged.items()}
    found.passed = {name: np.concatenate(parts) for name, parts in passed.items()}
    if relaxed is not None:
        energies = values_of(relaxed)
        energies = {one.name: energies[one.name] for one in ENERGIES if one.name in energies}
        found.judged |= energies
        found.passed |= energies
    return found


def _with(survivor: Survivor, relaxed: Survivor | None) -> Survivor:
    if relaxed is None:
        return survivor
    energies = {name: value for name, value in relaxed.values.items() if name != N_ATOMS.name}
    return replace(
        survivor,
        values={**survivor.values, **energies},
        texts={**survivor.texts, **relaxed.texts},
        relaxed=relaxed,
    )


def numbers(column: Column | None) -> NDArray[np.float64] | None:
    """Values (B,) of a column of numbers, absurd ones as NaN; None if it is no such column."""
    if column is None or column.per_atom or column.kind == "str":
        return None
    values = column.values.astype(np.float64)
    return np.where(np.abs(values) < _ABSURD, values, np.nan)


def criteria_of(bundle: Bundle) -> tuple[Criterion, ...]:
    """The criteria behind a bundle's verdicts, in the paper's order."""
    return in_paper_order(map(_drawable, bundle.criteria.values()))


def _drawable(criterion: Criterion) -> Criterion:
    """A criterion without the ends of a window that are no quantity."""
    ends = (criterion.low, criterion.high)
    if all(end is None or abs(end) < _ABSURD for end in ends):
        return criterion
    return replace(criterion, low=None, high=None, wording=criterion.text)


def values_of(bundle: Bundle) -> dict[str, NDArray[np.float64]]:
    """Column → values (B,) of what reports draw and list."""
    found = {N_ATOMS.name: bundle.crystals.n_atoms.astype(np.float64)}
    for name in (*(one.name for one in QUANTITIES), ESTIMATE.error):
        values = numbers(bundle.columns.get(name))
        if values is not None:
            found[name] = values
    return found


def survivors_of(bundle: Bundle) -> Iterator[Survivor]:
    """Each crystal with its values and texts."""
    values = values_of(bundle)
    texts = {
        name: column.values
        for name in _TEXTS
        if (column := bundle.columns.get(name)) and column.kind == "str" and not column.per_atom
    }
    for i, crystal in enumerate(bundle.crystals):
        yield Survivor(
            id=bundle.ids[i],
            crystal=crystal,
            values={name: float(column[i]) for name, column in values.items()},
            texts={name: column[i] for name, column in texts.items()},
        )
