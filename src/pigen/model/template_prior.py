"""Which template a sample gets: p(template | targets), and compositions that fit one.

A target is reached only if the template allows it: how many different sites there are bounds what a
structure's diversity of local environments can be. So templates are weighted by how near the labels
of the structures they came from are to the targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.elements import mendeleev_numbers
from pigen.crystal.template_library import TemplateLibrary
from pigen.model.checkpoint import Header

WIDTH = 0.5
"""Deviations of a label between templates whose weights differ by a factor of exp(-1/2)."""

BEYOND: Mapping[str, float] = {"mled": 1.0}
"""Deviations above its target at which a label's weights are centred: what is generated falls short
of what the template's own structure had."""

_UNKNOWN = 2.0
"""Widths that a template without a label counts as being away from its target."""


def weights(
    library: TemplateLibrary, header: Header, targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (M,) of a library's templates, given raw targets (n_labels,), NaN where none."""
    log_weight = np.zeros(len(library))
    spec = header.spec
    for place, label in enumerate(header.model.labels):
        if np.isnan(targets[place]) or label not in library.names:
            continue
        known = library.labels[:, library.names.index(label)]
        away = (known - targets[place]) / spec.label_sd[place] - BEYOND.get(label, 0.0)
        log_weight -= 0.5 * np.nan_to_num(away / WIDTH, nan=_UNKNOWN) ** 2
    return np.asarray(np.exp(log_weight - log_weight.max()))


def fitting(
    library: TemplateLibrary, counts: Sequence[int], units: Sequence[int]
) -> NDArray[np.bool_]:
    """(M,) the templates whose orbits can hold a composition; ``units`` of it, or any number.

    Where structures of the same formula, but for what its elements are, are among those of a size,
    only theirs are: those with the same count for each rank from metals to non-metals, else those
    with the same counts.

    Args:
        library: M templates.
        counts: atoms of each element in the formula, from metals to non-metals.
        units: how often the cell may hold it; empty: as often as it likes.
    """
    n_atoms, unit = library.n_atoms, sum(counts)
    found = np.zeros(len(library), dtype=bool)
    for size in np.unique(n_atoms):
        times = int(size) // unit
        if size % unit or (units and times not in units):
            continue
        wanted = tuple(times * count for count in counts)
        rows = np.flatnonzero(n_atoms == size).tolist()
        of_row, sites = library.compositions, library.multiplicities
        same = [row for row in rows if of_row[row] == wanted]
        same = same or [row for row in rows if sorted(of_row[row]) == sorted(wanted)]
        found[same or [row for row in rows if _fits(sites[row], wanted)]] = True
    return found


def _fits(multiplicities: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    return _divide(tuple(sorted(multiplicities, reverse=True)), counts) is not None


@lru_cache(maxsize=100_000)
def _divide(multiplicities: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...] | None:
    """Which count each multiplicity is part of, so that each is filled; None if none can be."""
    if not multiplicities:
        return () if not any(counts) else None
    first, rest = multiplicities[0], multiplicities[1:]
    tried = set()
    for place, left in enumerate(counts):
        if left < first or left in tried:
            continue
        tried.add(left)
        found = _divide(rest, (*counts[:place], left - first, *counts[place + 1 :]))
        if found is not None:
            return (place, *found)
    return None


def elements_of(
    library: TemplateLibrary, row: int, counts: Mapping[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """An element for each orbit of a template that `fitting` found, (m,) atomic numbers.

    All 0 where there are no counts.

    Args:
        library: where the template is. row: its place there.
        counts: atoms of each element in the cell, by atomic number.
        rng: chooses where the template's own structure had another formula.
    """
    sizes = np.array(library.multiplicities[row])
    if not counts:
        return np.zeros(len(sizes), dtype=np.uint8)
    places = mendeleev_numbers()
    numbers = sorted(counts, key=lambda z: places[z])
    kinds = library.kind[library.orbits_ptr[row] : library.orbits_ptr[row + 1]]
    of_kind = library.compositions[row]
    if sorted(of_kind) == sorted(counts.values()):
        elements = np.zeros(len(sizes), dtype=np.uint8)
        for kind, size in enumerate(of_kind):  # the first of the ranks that have this count
            z = next(z for z in numbers if counts[z] == size)
            numbers.remove(z)
            elements[kinds == kind] = z
        return elements
    rng.shuffle(numbers)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    found = _divide(tuple(sizes[order].tolist()), tuple(counts[z] for z in numbers))
    assert found is not None, "`fitting` lets no other template through"
    elements = np.zeros(len(sizes), dtype=np.uint8)
    elements[order] = [numbers[place] for place in found]
    return elements
