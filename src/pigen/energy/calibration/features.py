"""What the estimate is made of: energy above the hull, chemistry, structure, nearness to the known.

All come of the relaxed structure alone. How far relaxation moved it, and what it gained, is left
out on purpose: structures with published DFT energies have been relaxed before, those that a model
has just made have not, so the number does not mean the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF, formula_amounts
from pigen.descriptors import evaluate

Array = NDArray[np.float64]

_DESCRIPTORS = ("spp", "c", "space_group")
_FIRST_ORTHORHOMBIC = 16
"""Space groups before it are triclinic or monoclinic."""
_GROUPS: dict[str, str] = {
    "oxygen": "O",
    "halogens": "F Cl Br I",
    "chalcogens": "S Se Te",
    "nitrogen": "N",
    "pnictogens": "P As Sb Bi",
    "hydrogen, carbon, boron": "H C B",
    "f elements": " ".join((*SYMBOLS[57:72], *SYMBOLS[89:95])),
    "V to Cu": " ".join(SYMBOLS[23:30]),
    "transition metals": " ".join((*SYMBOLS[21:31], *SYMBOLS[39:49], *SYMBOLS[72:81])),
    "alkaline earths": "Be Mg Ca Sr Ba",
    "alkali metals": "Li Na K Rb Cs",
}

MEAN_FEATURES = (
    "e_hull",
    "e_hull up to 250 meV/atom",
    "e_hull up to 50 meV/atom",
    *_GROUPS,
    "low symmetry",
    "low symmetry × e_hull",
    "spp",
    "c",
    "distance to a known composition",
)
"""Names of the columns of `Features.mean`."""
ERROR_FEATURES = (
    "e_hull",
    "depth below the hull",
    "low symmetry",
    "transition metals",
    "V to Cu",
    "f elements",
    "oxygen and halogens",
    "c",
    "spp",
    "log n_atoms",
)
"""Names of the columns of `Features.error`."""
JUDGE_MEAN_FEATURES = (
    "e_hull_judge",
    "e_hull_judge up to 250 meV/atom",
    "e_hull_judge up to 50 meV/atom",
)
"""What `Features.mean` holds more where a second potential has judged."""
JUDGE_ERROR_FEATURES = ("e_hull_judge", "difference of both")
"""What `Features.error` holds more there."""


class Features:
    """Features of B structures.

    Attributes:
        mean: (B, `MEAN_FEATURES`), of the expected value; `JUDGE_MEAN_FEATURES` after them.
        error: (B, `ERROR_FEATURES`), of its error; `JUDGE_ERROR_FEATURES` after them.
        elements: (B, 104) fraction of each element.
    """

    def __init__(self, mean: Array, error: Array, elements: Array) -> None:
        """The arrays, NaN where a descriptor has no value."""
        self.mean, self.error, self.elements = mean, error, elements

    def __getitem__(self, rows: NDArray[np.bool_]) -> Features:
        """Some of the structures."""
        return Features(self.mean[rows], self.error[rows], self.elements[rows])


def features_of(
    bundle: Bundle, e_hull: Array, known: KnownCompositions, judge: Array | None = None
) -> Features:
    """Features of relaxed structures.

    Args:
        bundle: B structures.
        e_hull: (B,) energies above the hull, eV/atom.
        known: compositions.
        judge: (B,) energies above the hull by the potential that judged, eV/atom.
    """
    wanted: dict[str, dict[str, object]] = {name: {} for name in _DESCRIPTORS}
    labelled, _ = evaluate(bundle, wanted, wanted)
    # A rejected structure has NaN, or 0 where the column is of whole numbers.
    spp = np.clip(labelled.columns["spp"].values.astype(np.float64), -2.0, 3.0)
    compactness = labelled.columns["c"].values.astype(np.float64)
    group = labelled.columns["space_group"].values.astype(np.float64)
    low = (group < _FIRST_ORTHORHOMBIC).astype(np.float64)
    formulas = bundle.crystals.reduced_formulas()
    x = element_fractions(formulas)
    share = {name: x[:, [Z_OF[s] for s in text.split()]].sum(1) for name, text in _GROUPS.items()}
    e = np.clip(e_hull, -0.3, 2.5)
    size = np.log(np.maximum(bundle.crystals.n_atoms, 1))
    distance = known.distances(formulas)
    mean = [*_hinged(e), *share.values()]
    mean += [low, low * np.clip(e, 0.0, 0.3), spp, compactness, distance]
    polar = share["oxygen"] + share["halogens"]
    error = [np.clip(e, 0.0, 0.6), -np.clip(e_hull, -0.5, 0.0), low, share["transition metals"]]
    error += [share["V to Cu"], share["f elements"], polar, compactness]
    error += [np.clip(spp, -0.5, 1.0), size]
    if judge is not None:
        mean += _hinged(np.clip(judge, -0.3, 2.5))
        error += [np.clip(judge, 0.0, 0.6), np.clip(np.abs(judge - e_hull), 0.0, 0.5)]
    return Features(np.stack(mean, axis=1), np.stack(error, axis=1), x)


def _hinged(e: Array) -> list[Array]:
    """Of which a linear function of energies (B,) in three pieces is made."""
    return [e, np.minimum(e, 0.25), np.minimum(e, 0.05)]


class KnownCompositions:
    """How far a composition lies from the nearest that is known.

    The distance is the least work that turns one into the other if elements lie in a row, in the
    order of Pettifor's scale (his Mendeleev numbers): 1 where every atom moves by one element.
    """

    def __init__(self, formulas: Sequence[str]) -> None:
        """``formulas``: reduced, of the known compounds."""
        self._cumulative = _cumulative(sorted(set(formulas)))

    def distances(self, formulas: Sequence[str]) -> Array:
        """(B,) distance of each reduced formula to the nearest known one."""
        found = np.zeros(len(formulas))
        for i, one in enumerate(_cumulative(formulas)):
            found[i] = np.abs(self._cumulative - one).sum(axis=1).min()
        return found


def element_fractions(formulas: Sequence[str]) -> Array:
    """(B, 104) fraction of each element, by atomic number."""
    found = np.zeros((len(formulas), MAX_Z + 1))
    for row, formula in zip(found, formulas, strict=True):
        amounts = formula_amounts(formula)
        for symbol, n in amounts.items():
            row[Z_OF[symbol]] = n / sum(amounts.values())
    return found


def _cumulative(formulas: Sequence[str]) -> NDArray[np.float32]:
    ordered = element_fractions(formulas)[:, _pettifor_order()]
    found: NDArray[np.float32] = ordered.cumsum(axis=1).astype(np.float32)
    return found


@lru_cache(maxsize=1)
def _pettifor_order() -> NDArray[np.int64]:
    from pymatgen.core import Element

    scale = [0.0, *(float(Element(symbol).mendeleev_no or 0) for symbol in SYMBOLS[1:])]
    return np.argsort(scale, kind="stable")
