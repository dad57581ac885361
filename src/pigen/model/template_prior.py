"""Which template a sample gets: p(template | targets), p(template | composition); its elements.

A target is reached only if the template allows it: how many different sites there are bounds what a
structure's diversity of local environments can be. So templates are weighted by how near the labels
of the structures they came from are to the targets. For a composition they are weighted by how like
its elements are to those of the structures of the same formula type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, permutations, product

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.elements import atomic_radii, groups, mendeleev_numbers
from pigen.crystal.template_library import TemplateLibrary
from pigen.model.checkpoint import Header

WIDTH = 0.5
"""Deviations of a label between templates whose weights differ by a factor of exp(-1/2)."""

OUTWARD: Mapping[str, float] = {"mled": 2.0}
"""How far beyond its target a label's weights are centred, as a multiple of the target's distance
to the library's median: templates with unusual labels are rare, and few samples reach an unusual
diversity with templates that just have it."""

EXCHANGE = (0.08, 3.8, 1.8, 4.4)
"""What makes an exchange of elements unlikely, for each of `exchange_features`: weights of a
logit model of which training structure shares its template with a structure of the validation
set, by maximum likelihood (``benchmarks/template_prior.py``)."""

RARE = 0.5
"""Power of an element's share of all atoms by which `first_element` prefers rare ones."""

SHARPNESS = 2.0
"""Factor on the unlikeliness. At 1 the model's own probabilities; more keeps to the likeliest."""

_UNLIKE = 10.0
"""Unlikeliness of a template whose structure had another formula type."""

_MOST_ALIKE = 6
"""Elements with as many atoms as each other of which every exchange is looked at."""


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
        sd, target = spec.label_sd[place], targets[place]
        centre = target + OUTWARD.get(label, 0.0) * (target - np.nanmedian(known))
        centre = np.clip(centre, np.nanmin(known) - sd, np.nanmax(known) + sd)
        away = np.abs(known - centre) / (WIDTH * sd)
        log_weight -= 0.5 * np.where(np.isnan(away), np.nanmax(away), away) ** 2
    return np.asarray(np.exp(log_weight - log_weight.max()))


@dataclass(frozen=True)
class Relatives:
    """Templates that can hold a composition, and the elements on their orbits, K ways in all.

    Attributes:
        row: (K,) place in the library.
        old: (K, k) elements of the template's own structure; new: those that take their places.
        unlikeliness: (K,) minus the logarithm of its weight at sharpness 1.
        others: rows whose structures had another formula type but whose orbits can be divided.
        n_templates: M, of the library.
    """

    row: NDArray[np.int64]
    old: NDArray[np.int64]
    new: NDArray[np.int64]
    unlikeliness: NDArray[np.float64]
    others: NDArray[np.int64]
    n_templates: int

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(M,) of all templates at `SHARPNESS`; 0 where the composition does not fit."""
        return self.likelihoods(SHARPNESS)

    def likelihoods(self, sharpness: float = 1.0) -> NDArray[np.float64]:
        """How likely each of the M templates is, up to a factor; the model's own at 1."""
        likely = np.zeros(self.n_templates)
        np.add.at(likely, self.row, np.exp(-sharpness * self.unlikeliness))
        likely[self.others] = np.exp(-sharpness * _UNLIKE)
        return likely


def relatives(
    library: TemplateLibrary, counts: Mapping[int, int], units: Sequence[int]
) -> Relatives:
    """The templates that can hold ``units`` of a composition, or any number of it.

    Of each size, those of structures with the same formula type (as many atoms of each element,
    whatever the elements are); where there are none, those whose orbits can be divided so.

    Args:
        library: M templates.
        counts: atoms of each element in the formula, by atomic number.
        units: how often the cell may hold it; empty: as often as it likes.
    """
    return _relatives(library, tuple(counts.items()), tuple(units))


@lru_cache(maxsize=256)
def _relatives(
    library: TemplateLibrary, formula: tuple[tuple[int, int], ...], units: tuple[int, ...]
) -> Relatives:
    place = mendeleev_numbers()
    ordered = sorted(formula, key=lambda item: (item[1], place[item[0]]))
    numbers = np.array([z for z, _ in ordered])
    counts = np.array([count for _, count in ordered])
    same = [list(places) for _, places in groupby(range(len(counts)), key=counts.__getitem__)]
    ways = numbers[None]  # the order of metals and non-metals kept
    if max(map(len, same)) <= _MOST_ALIKE:
        ways = numbers[[sum(way, ()) for way in product(*map(permutations, same))]]
    none, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, len(counts)), dtype=np.int64)
    rows, old, new, unlike, others = [none], [nothing], [nothing], [np.zeros(0)], [none]
    unit = counts.sum()
    for size in np.unique(library.n_atoms):
        times = size // unit
        if size % unit or (units and times not in units):
            continue
        wanted = tuple((times * counts).tolist())
        found = library.of_counts.get(wanted)
        if found is None:
            of_size = np.flatnonzero(library.n_atoms == size)
            sites = (sorted(library.multiplicities[row], reverse=True) for row in of_size)
            fits = [_divide(tuple(each), wanted) is not None for each in sites]
            others.append(of_size[fits])
            continue
        row, elements = found
        rows.append(np.repeat(row, len(ways)))
        old.append(np.repeat(elements, len(ways), axis=0))
        new.append(np.tile(ways, (len(row), 1)))
        unlike.append(exchange_features(old[-1], new[-1], counts / unit) @ EXCHANGE)
    return Relatives(
        row=np.concatenate(rows),
        old=np.concatenate(old),
        new=np.concatenate(new),
        unlikeliness=np.concatenate(unlike),
        others=np.concatenate(others),
        n_templates=len(library),
    )


def exchange_features(
    old: NDArray[np.int64], new: NDArray[np.int64], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much an exchange of elements changes, (K, 4).

    Means over the atoms of the change of the Mendeleev number, of another group, of another
    element; and the largest change of a radius, Å.

    Args:
        old, new: (K, k) atomic numbers. share: (k,) of the atoms.
    """
    place, group, radius = mendeleev_numbers(), groups(), np.nan_to_num(atomic_radii(), nan=1.5)
    means = (np.abs(place[old] - place[new]), group[old] != group[new], old != new)
    largest = np.abs(radius[old] - radius[new]).max(axis=1)
    return np.stack([*(each @ share for each in means), largest], axis=1)


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
    library: TemplateLibrary,
    row: int,
    counts: Mapping[int, int],
    found: Relatives,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """An element for each orbit of one of a composition's `relatives`, (m,) atomic numbers.

    Args:
        library: where the template is. row: its place there.
        counts: atoms of each element in the cell, by atomic number.
        found: the composition's `relatives`.
        rng: chooses among the ways to exchange the elements of the template's own structure, or,
            where that had another formula type, among those to divide its orbits.
    """
    ways = np.flatnonzero(found.row == row)
    if len(ways):
        p = np.exp(-SHARPNESS * (found.unlikeliness[ways] - found.unlikeliness[ways].min()))
        way = rng.choice(ways, p=p / p.sum())
        taken = dict(zip(found.old[way].tolist(), found.new[way].tolist(), strict=True))
        return np.array([taken[z] for z in library.elements(row).tolist()], dtype=np.uint8)
    sizes = np.array(library.multiplicities[row])
    numbers = list(counts)
    rng.shuffle(numbers)
    shares = shared_out(sizes, [counts[z] for z in numbers], rng)
    return np.array(numbers, dtype=np.uint8)[shares]


def first_element(library: TemplateLibrary, row: int, rng: np.random.Generator) -> tuple[int, int]:
    """One of a template's orbits, and its atomic number in the structure the template is of.

    Where there are targets, and nothing is asked of the composition, a sample begins with it: few
    templates fit unusual targets, and the network alone would fill them with the likeliest
    chemistry. Rare elements are chosen more often than common ones.
    """
    elements = library.elements(row)
    weights = library.element_shares[elements] ** -RARE
    place = int(rng.choice(len(elements), p=weights / weights.sum()))
    return place, int(elements[place])


def shared_out(
    sizes: NDArray[np.int64], counts: Sequence[int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Which of some counts of atoms each orbit of a template that can hold them is part of.

    Args:
        sizes: (m,) atoms of each orbit.
        counts: atoms, as many as in all orbits.
        rng: chooses.
    """
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    divided = _divide(tuple(sizes[order].tolist()), tuple(counts))
    assert divided is not None, "no other template is let through"
    shares = np.zeros(len(sizes), dtype=np.int64)
    shares[order] = divided
    return shares


@lru_cache(maxsize=16)
def holding(library: TemplateLibrary, ratio: tuple[int, ...]) -> NDArray[np.bool_]:
    """(M,) the templates whose orbits can be divided into parts of a ratio."""
    found = np.zeros(len(library), dtype=bool)
    unit = sum(ratio)
    for row in np.flatnonzero(library.n_atoms % unit == 0).tolist():
        times = int(library.n_atoms[row]) // unit
        sizes = tuple(sorted(library.multiplicities[row], reverse=True))
        found[row] = _divide(sizes, tuple(times * part for part in ratio)) is not None
    found.setflags(write=False)
    return found
