"""Pseudo-random cells: atoms dropped into a random periodic box, the baseline without a model.

The paper makes them with AIRSS: up to 20 atoms of the training set's elements in a box of random
parameters, no two closer than 1 Å. It does not say how volumes and shapes are distributed, so they
are settings here: volume per atom uniform in a range, edges with ratios up to 3, angles of 60–120°.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from pigen.bundle import Bundle, strings
from pigen.config import PseudoRandomConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.crystal.neighbours import wrapped_shifts

_EDGES = (0.5, 1.5)  # edge lengths before scaling to the volume, hence ratios up to 3
_ANGLES = (60.0, 120.0)
_FLATTEST = 0.3  # least volume of the cell of unit edges: a flatter one is drawn again
_TRIES = 200  # places tried for an atom before the box is taken as too small
_GROWTH = 1.25  # factor on the volume of a box that was too small


def pseudo_random_bundles(
    config: PseudoRandomConfig,
    n: int,
    seed: int,
    elements: Sequence[str],
    *,
    start: int = 0,
    chunk_size: int = 500,
) -> Iterator[Bundle]:
    """Chunks of pseudo-random crystals ``start … n - 1``, named ``pseudo-random-<i>``.

    Crystal i depends on (seed, i) and the settings alone, whatever the chunks or the start.
    """
    for first in range(start, n, chunk_size):
        rows = range(first, min(first + chunk_size, n))
        cells = [pseudo_random_crystal(config, seed, i, elements) for i in rows]
        yield Bundle(
            crystals=Crystals.concatenate(cells),
            ids=strings(f"pseudo-random-{i:06d}" for i in rows),
        )


def pseudo_random_crystal(
    config: PseudoRandomConfig, seed: int, index: int, elements: Sequence[str]
) -> Crystals:
    """One pseudo-random crystal, a batch of one, drawn from the stream of (seed, index).

    A box in which an atom finds no place in 200 tries is drawn again with 1.25 times the volume,
    so dense settings end with looser cells than asked for and the search always ends.
    """
    rng = default_rng(SeedSequence([seed, index]))
    n = int(rng.integers(config.n_atoms[0], config.n_atoms[1], endpoint=True))
    numbers = np.array([Z_OF[elements[k]] for k in rng.integers(len(elements), size=n)])
    volume = n * rng.uniform(*config.volume_per_atom)
    while True:
        lattice = _random_lattice(rng, volume)
        frac_coords = _place(rng, lattice, n, config.min_separation)
        if frac_coords is not None:
            return Crystals.single(lattice, frac_coords, numbers)
        volume *= _GROWTH


def _random_lattice(rng: Generator, volume: float) -> NDArray[np.float64]:
    """A (3, 3) cell of that volume, a along x and b in the xy plane."""
    a, b, c = rng.uniform(*_EDGES, size=3)
    while True:  # two draws in three are accepted
        cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(rng.uniform(*_ANGLES, size=3)))
        sin_gamma = np.sqrt(1 - cos_gamma**2)
        y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
        z_squared = 1 - cos_beta**2 - y**2
        if z_squared > 0 and np.sqrt(z_squared) * sin_gamma > _FLATTEST:
            break
    cell = np.array(
        [
            [a, 0, 0],
            [b * cos_gamma, b * sin_gamma, 0],
            [c * cos_beta, c * y, c * np.sqrt(z_squared)],
        ]
    )
    scaled: NDArray[np.float64] = cell * np.cbrt(volume / np.linalg.det(cell))
    return scaled


def _place(
    rng: Generator, lattice: NDArray[np.float64], n: int, separation: float
) -> NDArray[np.float64] | None:
    """(n, 3) fractional coordinates with all images apart, or None if an atom finds no place."""
    shifts = wrapped_shifts(lattice, separation)
    images = shifts[np.any(shifts != 0, axis=1)] @ lattice
    if len(images) and np.linalg.norm(images, axis=1).min() < separation:
        return None
    frac = np.empty((n, 3))
    for placed in range(n):
        for _ in range(_TRIES):
            point = rng.random(3)
            delta = frac[:placed] - point
            delta -= np.round(delta)
            vectors = (delta[:, None, :] + shifts) @ lattice
            if np.all((vectors**2).sum(axis=-1) >= separation**2):
                frac[placed] = point
                break
        else:
            return None
    return frac
