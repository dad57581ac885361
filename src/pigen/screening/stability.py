"""What energies say of a run: columns E and F of Table 1, and S.U.N."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Rate, divide
from pigen.descriptors.prototypes.known import Distinct
from pigen.descriptors.prototypes.reduce import prepare

STABLE: dict[str, float] = {"E100": 0.100, "E50": 0.050, "E35": 0.035, "E25": 0.025}
"""Name of a rate → eV/atom above the hull that structures must stay below."""
SUN = "SUN"
"""Name of a rate: stable (as E100), unique, of novel structure."""
ESTIMATE = "e_hull_est"
"""Column of an estimate of DFT's energy above the hull, eV/atom."""
COMMON = "e_hull_est_common"
"""Column of the part of its error that all structures have in common, eV/atom."""
_CHUNK = 250
"""Structures in a task for a worker."""


@dataclass(frozen=True)
class Stability:
    """Figures of one run.

    Attributes:
        rates: columns of `STABLE`, and `SUN`, of all structures generated.
        largest_mled: bits, as generated, among those below 50 meV/atom; None if there is none.
        hull: what the energies rest on.
        expected: the same names → share that DFT is expected to give, and ``F`` → bits; empty
            without an estimate of DFT's energies.
        systematic: the same names → by how much the expected share moves where all estimates are
            off by their common error.
        estimate: what the estimate rests on, "" without one.
    """

    rates: Mapping[str, Rate]
    largest_mled: float | None
    hull: str
    expected: Mapping[str, float] = field(default_factory=dict)
    systematic: Mapping[str, float] = field(default_factory=dict)
    estimate: str = ""


def stability(
    relaxed: Bundle,
    mled: Mapping[str, float],
    total: int,
    known_formulas: frozenset[str],
    known: Iterable[Bundle],
    executor: Executor,
) -> Stability:
    """Count what is near the hull among relaxed survivors of the filters.

    Args:
        relaxed: survivors as `pigen energy` leaves them, with column ``e_hull``; without a value
            they count as unstable. `COMMON`, where there is one, moves all estimates together.
        mled: bits, by the id of a survivor before it was relaxed.
        total: structures generated.
        known_formulas: compositions of known structures.
        known: known structures themselves, as far as they are at hand.
        executor: where structures are prepared for comparison.
    """
    column = relaxed.columns["e_hull"]
    below = {name: column.values < threshold for name, threshold in STABLE.items()}
    near = [mled[parent] for parent in relaxed.parents[below["E50"]]]
    stable = relaxed.select(below["E100"])
    known = list(of_formulas(known, set(relaxed.crystals.reduced_formulas())))
    new = new_and_unique(stable, known_formulas, known, executor)
    rates = {name: Rate(int(passed.sum()), total) for name, passed in below.items()}
    rates[SUN] = Rate(int(new.sum()), total)
    found = Stability(rates, max(near, default=None), column.source)
    if ESTIMATE not in relaxed.columns:
        return found
    chances = {name: chance_below(relaxed, threshold) for name, threshold in STABLE.items()}
    new = new_and_unique(relaxed, known_formulas, known, executor)
    expected = {name: float(chance.sum()) / max(total, 1) for name, chance in chances.items()}
    expected[SUN] = float(chances["E100"][new].sum()) / max(total, 1)
    off = relaxed.columns[COMMON].values if COMMON in relaxed.columns else 0.0
    moved = {
        name: abs(_normal(relaxed, height + off) - _normal(relaxed, height - off)) / 2
        for name, height in STABLE.items()
    }
    systematic = {name: float(change.sum()) / max(total, 1) for name, change in moved.items()}
    systematic[SUN] = float(moved["E100"][new].sum()) / max(total, 1)
    likely = [mled[parent] for parent in relaxed.parents[chances["E50"] > 0.5]]
    if likely:
        expected["F"] = max(likely)
    source = relaxed.columns[ESTIMATE].source
    return replace(found, expected=expected, systematic=systematic, estimate=source)


def chance_below(relaxed: Bundle, threshold: float) -> NDArray[np.float64]:
    """(B,) probability that DFT puts a structure less than a height above the hull.

    From the column ``p_hull_050``, for 50 meV/atom, if there is one, else from the estimate and
    its standard error, as a normal distribution; 0 where there is neither.

    Args:
        relaxed: with the columns `ESTIMATE` and ``e_hull_est_sd``.
        threshold: eV/atom.
    """
    given = relaxed.columns.get(f"p_hull_{1000 * threshold:03.0f}")
    if given is None:
        return _normal(relaxed, threshold)
    return np.clip(np.nan_to_num(given.values.astype(np.float64)), 0.0, 1.0)


def _normal(relaxed: Bundle, threshold: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) probability of the estimate, as a normal distribution; 0 where there is none."""
    from scipy.special import ndtr

    estimate, error = (relaxed.columns[n].values for n in (ESTIMATE, f"{ESTIMATE}_sd"))
    found: NDArray[np.float64] = np.nan_to_num(ndtr((threshold - estimate) / error))
    return found


def new_and_unique(
    bundle: Bundle,
    known_formulas: frozenset[str],
    known: Iterable[Bundle],
    executor: Executor,
) -> NDArray[np.bool_]:
    """(B,) whether each structure is the first of its kind and none of the known ones.

    A structure of a known composition is compared with the known structures of it; where none of
    these is at hand, it counts as known.
    """
    formulas = np.array(bundle.crystals.reduced_formulas(), dtype=object)
    open_to_doubt = set(formulas) & known_formulas
    distinct, compared = Distinct(), set()
    if open_to_doubt:
        for prepared in prepare(of_formulas(known, open_to_doubt), executor):
            compared.update(prepared[0].crystals.reduced_formulas())
            distinct.add(prepared)
    parts = prepare(divide(bundle, _CHUNK), executor)
    unique = np.concatenate([distinct.add(prepared) for prepared in parts])
    return unique & ~np.isin(formulas, list(open_to_doubt - compared))


def of_formulas(chunks: Iterable[Bundle], wanted: set[str]) -> Iterator[Bundle]:
    """The structures of a stream that have one of the reduced formulas."""
    for chunk in chunks:
        formulas = np.array(chunk.crystals.reduced_formulas(), dtype=object)
        yield chunk.select(np.isin(formulas, list(wanted)))
