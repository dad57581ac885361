"""Elements exchanged in known frameworks: the floor that a model has to rise above.

A framework is a known crystal. Some of its elements give way to similar ones (`alike`: ions of
their group, or metals beside them on Pettifor's scale), and the cell takes the size of the new
radii. Such exchange into known structures outdoes many generators in the share of stable ones
(Szymanski and Bartel, arXiv 2501.02144).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from pigen.bundle import Bundle, strings
from pigen.config import SubstitutionConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.crystal.similar import alike, exchanged
from pigen.runtime.errors import UsageError


class Substitution:
    """Draws crystals from frameworks."""

    def __init__(self, config: SubstitutionConfig, frameworks: Crystals, seed: int) -> None:
        """The frameworks that the settings allow.

        Args:
            config: which frameworks, how many elements, which may come in.
            frameworks: known crystals.
            seed: of what is drawn.

        Raises:
            UsageError: no framework holds an element that has one to be exchanged with.
        """
        present = set(frameworks.atomic_numbers.tolist())
        allowed = {Z_OF[symbol] for symbol in config.elements} or present
        self._alike = {
            z: [other for other in others if other in allowed]
            for z, others in alike(present | allowed).items()
        }
        low, high = config.n_atoms
        fits = (frameworks.n_atoms >= low) & (frameworks.n_atoms <= high)
        fits &= np.array([self._can(one.atomic_numbers) for one in frameworks], dtype=bool)
        if not fits.any():
            raise UsageError(
                f"substitution: none of {len(frameworks)} frameworks has {low} to {high} atoms and "
                "an element that can be exchanged; change substitution.n_atoms or .elements"
            )
        self._frameworks = frameworks[fits]
        self._config, self._seed = config, seed

    def crystal(self, index: int) -> Crystals:
        """One crystal, a batch of one, drawn from the stream of (seed, index)."""
        rng = default_rng(SeedSequence([self._seed, index]))
        framework = self._frameworks[int(rng.integers(len(self._frameworks)))]
        return exchanged(framework, self._partners(framework.atomic_numbers, rng))

    def bundles(self, n: int, *, start: int = 0, chunk_size: int = 500) -> Iterator[Bundle]:
        """Chunks of crystals ``start … n - 1``, named ``substitution-<i>``.

        Crystal i depends on the frameworks, the seed and i alone, whatever the chunks.
        """
        for first in range(start, n, chunk_size):
            rows = range(first, min(first + chunk_size, n))
            yield Bundle(
                crystals=Crystals.concatenate([self.crystal(i) for i in rows]),
                ids=strings(f"substitution-{i:06d}" for i in rows),
            )

    def _can(self, numbers: NDArray[np.uint8]) -> bool:
        present = set(numbers.tolist())
        return any(set(self._alike.get(z, ())) - present for z in present)

    def _partners(self, numbers: NDArray[np.uint8], rng: Generator) -> dict[int, int]:
        """Element → what takes its place: as many as the settings say, as far as there are any."""
        present = sorted(set(numbers.tolist()))
        taken, partners = set(present), dict[int, int]()
        for z in rng.permutation(present).tolist():
            free = [other for other in self._alike.get(z, ()) if other not in taken]
            if free and len(partners) < self._config.exchanged:
                partners[z] = free[int(rng.integers(len(free)))]
                taken.add(partners[z])
        return partners
