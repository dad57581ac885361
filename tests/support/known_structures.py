"""The known answers of the definitions, and ways to write the same crystal differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF


@dataclass(frozen=True)
class Known:
    """A crystal and what its descriptors are: C dimensionless, K in bits/atom."""

    crystals: Crystals
    c: float
    k: float


def spacegroup_crystal(
    group: str, parameters: tuple[float, ...], species: list[str], places: list[list[float]]
) -> Crystals:
    """A conventional cell by pymatgen: the group's symbol, a b c α β γ, and one place per orbit."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice.from_parameters(*parameters)
    return Crystals.from_pymatgen([Structure.from_spacegroup(group, lattice, species, places)])


def _cubic(group: str, a: float, *sites: tuple[str, list[float]]) -> Crystals:
    names, places = [s for s, _ in sites], [p for _, p in sites]
    return spacegroup_crystal(group, (a, a, a, 90, 90, 90), names, places)


@lru_cache(maxsize=1)
def known_structures() -> dict[str, Known]:
    """Conventional cells of eleven simple structures with their C and K."""
    zero, half, quarter = [0.0] * 3, [0.5] * 3, [0.25] * 3
    rutile = spacegroup_crystal(
        "P4_2/mnm", (4.594, 4.594, 2.959, 90, 90, 90), ["Ti", "O"], [zero, [0.305, 0.305, 0]]
    )
    layered = spacegroup_crystal(
        "R-3m",
        (2.816, 2.816, 14.05, 90, 90, 120),
        ["Co", "Li", "O"],
        [zero, [0, 0, 0.5], [0, 0, 0.2604]],
    )
    spinel = _cubic("Fd-3m", 8.083, ("Mg", zero), ("Al", [0.625] * 3), ("O", [0.3874] * 3))
    perovskite = _cubic("Pm-3m", 3.905, ("Sr", zero), ("Ti", half), ("O", [0.5, 0.5, 0]))
    return {
        "Cu": Known(_cubic("Fm-3m", 3.61, ("Cu", zero)), 0.8763, 0.0),
        "Fe": Known(_cubic("Im-3m", 2.87, ("Fe", zero)), 0.9724, 0.0),
        "Si": Known(_cubic("Fd-3m", 5.43, ("Si", zero)), 0.2786, 0.0),
        "MgO": Known(_cubic("Fm-3m", 4.21, ("Mg", zero), ("O", half)), 0.8063, 1.0),
        "CsCl": Known(_cubic("Pm-3m", 4.12, ("Cs", zero), ("Cl", half)), 1.1126, 1.0),
        "ZnS": Known(_cubic("F-43m", 5.41, ("Zn", zero), ("S", quarter)), 0.3662, 1.0),
        "CaF2": Known(_cubic("Fm-3m", 5.46, ("Ca", zero), ("F", quarter)), 0.6261, 0.9183),
        "SrTiO3": Known(perovskite, 0.8014, 1.3710),
        "TiO2": Known(rutile, 0.4261, 0.9183),
        "LiCoO2": Known(layered, 0.7737, 1.5),
        "MgAl2O4": Known(spinel, 0.5169, 1.3788),
    }


# -- the same crystal, written otherwise ----------------------------------------------------------
def displaced(crystals: Crystals, sigma: float, seed: int = 0) -> Crystals:
    """Every atom moved by a normal deviate of ``sigma`` Å per axis."""
    steps = np.random.default_rng(seed).normal(0, sigma, crystals.frac_coords.shape)
    inverse = np.linalg.inv(crystals.lattice)[crystals.batch]
    return Crystals(
        lattice=crystals.lattice,
        frac_coords=crystals.frac_coords + np.einsum("ni,nij->nj", steps, inverse),
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def rebased(crystal: Crystals, matrix: NDArray[np.int64]) -> Crystals:
    """One crystal in the cell ``matrix @ lattice``, the matrix unimodular."""
    frac = crystal.frac_coords @ np.rint(np.linalg.inv(matrix))
    return Crystals.single(matrix @ crystal.lattice[0], frac, crystal.atomic_numbers)


def repeated(crystal: Crystals, times: tuple[int, int, int]) -> Crystals:
    """The supercell of one crystal, that many cells along a, b, c."""
    cells = np.stack(np.meshgrid(*map(range, times), indexing="ij"), -1).reshape(-1, 1, 3)
    frac = (crystal.frac_coords + cells) / times
    numbers = np.tile(crystal.atomic_numbers, len(cells))
    return Crystals.single(np.diag(times) @ crystal.lattice[0], frac, numbers)


def permuted(crystal: Crystals, rng: np.random.Generator) -> Crystals:
    """One crystal with its atoms in another order and its origin somewhere else."""
    order = rng.permutation(len(crystal.atomic_numbers))
    frac = crystal.frac_coords[order] + rng.random(3)
    return Crystals.single(crystal.lattice[0], frac, crystal.atomic_numbers[order])


def unimodular(rng: np.random.Generator, steps: int = 6) -> NDArray[np.int64]:
    """A random integer matrix of determinant ±1."""
    matrix = np.eye(3, dtype=np.int64)[rng.permutation(3)]
    for _ in range(steps):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.integers(-2, 3) * matrix[j]
    return matrix


Change = Callable[[Crystals, np.random.Generator], Crystals]

CHANGES: dict[str, Change] = {
    "order and origin": permuted,
    "unimodular": lambda crystal, rng: rebased(crystal, unimodular(rng)),
    "2x1x1": lambda crystal, rng: permuted(repeated(crystal, (2, 1, 1)), rng),
    "2x2x2": lambda crystal, rng: permuted(repeated(crystal, (2, 2, 2)), rng),
}
"""Ways to write a crystal that no descriptor may see."""


def nasty_crystals() -> dict[str, Crystals]:
    """Input at which software of this kind hangs or dies."""
    rng = np.random.default_rng(0)
    pair, places = [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]]
    needle = np.cos(np.radians(1.0))
    grid = np.stack(np.meshgrid(range(5), range(5), range(8), indexing="ij"), -1).reshape(-1, 3)
    one_degree = [[5, 0, 0], [5 * needle, 5 * np.sqrt(1 - needle**2), 0], [0, 0, 5]]
    obtuse = [[5, 0, 0], [-5 * needle, 5 * np.sqrt(1 - needle**2), 0], [0, 0, 5]]
    return {
        "coplanar cell": Crystals.single([[5, 0, 0], [0, 5, 0], [3, 4, 0]], places, pair),
        "no volume": Crystals.single(np.diag([5, 5, 1e-9]), places, pair),
        "thin cell": Crystals.single(np.diag([5, 5, 0.05]), places, pair),
        "angle of 1°": Crystals.single(one_degree, places, pair),
        "angle of 179°": Crystals.single(obtuse, places, pair),
        "skewed": Crystals.single([[3, 0, 0], [3000, 3, 0], [-2997, 6000, 3]], places, pair),
        "coincident atoms": Crystals.single(np.eye(3) * 5, np.zeros((4, 3)), pair * 2),
        "200 coincident atoms": Crystals.single(np.eye(3) * 5, np.zeros((200, 3)), [11] * 200),
        "one atom": Crystals.single(np.eye(3) * 2.5, [[0, 0, 0]], [29]),
        "tiny cell": Crystals.single(np.eye(3) * 0.02, [[0, 0, 0]], [29]),
        "200 atoms": Crystals.single(
            np.eye(3) * 14, rng.random((200, 3)), rng.integers(1, 84, 200)
        ),
        "200 atoms of a grid": Crystals.single(np.diag([15, 15, 24]), grid / [5, 5, 8], [29] * 200),
        "200 atoms about a grid": Crystals.single(
            np.diag([15, 15, 24]), grid / [5, 5, 8] + rng.normal(0, 0.003, (200, 3)), [29] * 200
        ),
        "void of 60 Å": Crystals.single(
            np.eye(3) * 60, [[0, 0, 0], [0.01, 0.01, 0.02], [0.03, 0, 0]], [8, 1, 1]
        ),
        "slab in a void": Crystals.single(
            np.diag([3, 3, 60]), rng.random((8, 3)), rng.integers(1, 84, 8)
        ),
        "huge cell": Crystals.single(np.eye(3) * 1e6, [[0, 0, 0]], [29]),
        "left-handed": Crystals.single(-np.eye(3) * 4, places, [55, 17]),
    }


def every_element() -> Crystals:
    """A cell of each element with oxygen."""
    return Crystals.concatenate(
        [
            Crystals.single(np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5]], [z, 8])
            for z in Z_OF.values()
        ]
    )


@lru_cache(maxsize=4)
def mp20_crystals(shared_data: Path, split: str, n: int | None = None) -> Crystals:
    """The first n structures of a split."""
    from pigen.io import read

    crystals = read(shared_data / "mp20" / f"{split}.csv.gz").crystals
    return crystals if n is None else crystals[:n]
