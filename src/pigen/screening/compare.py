"""How far generated structures are, as distributions, from those the model learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, Rate, divide, over_structures
from pigen.config import FilterConfig
from pigen.descriptors import evaluate
from pigen.descriptors.prototypes.known import Distinct, KnownStructures
from pigen.descriptors.prototypes.reduce import Reduced, prepare
from pigen.runtime.executor import map_ordered
from pigen.screening.composition import (
    densities,
    effective_elements,
    element_counts,
    smact_valid,
    with_anion,
)
from pigen.screening.stability import of_formulas

DESCRIPTORS = ("c", "mled", "k", "space_group")
_JUDGED = ("min_distance", "spp")
_CHUNK = 250
"""Structures in a task for a worker."""
QUANTITIES = {
    "volume per atom": "Å^3",
    "density": "g/cm3",
    "C": "",
    "M_LED": "bits",
    "K": "bits/atom",
    "atoms per cell": "",
    "elements per cell": "",
}
"""Distributions compared by their Wasserstein distance, and their units."""
FREQUENCIES = ("elements", "space groups")
"""Distributions over kinds, compared by their total variation distance."""
NO_SYMMETRY = "without symmetry (space group P1)"
SMACT = "SMACT valid (charges balance, or an alloy)"
ANION = "with an anion (N, O, F, S, Cl, Se, Br, Te or I)"
SIZES = ((1, 4), (5, 8), (9, 12), (13, 16), (17, 20), (21, None))
"""Ranges of the number of atoms that are compared separately."""
_VALID = "smact_valid"
"""Column for `SMACT`."""
_DRAWS = 20
"""Pairs of samples behind each floor."""


@dataclass(frozen=True)
class Sample:
    """What is compared of a set of structures.

    Attributes:
        values: quantity of `QUANTITIES` → (n,) values, NaN where there is none.
        counts: name of `FREQUENCIES` → (n, kinds) counts by structure.
        shares: `NO_SYMMETRY`, `SMACT` and `ANION` → (n,) whether it holds.
        formulas: reduced formulas, (n,).
    """

    values: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.int64]]
    shares: Mapping[str, NDArray[np.bool_]]
    formulas: NDArray[np.object_]

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.formulas)


@dataclass(frozen=True)
class Distance:
    """One distribution of samples against that of the reference.

    Attributes:
        quantity, unit: of the values, and of the distance where it is Wasserstein's.
        samples, reference: medians; for frequencies the commonest kind.
        distance: Wasserstein distance, or total variation distance (0 … 1) of frequencies.
        floor: the mean of the same distance when both sets, of these sizes, are drawn from the
            reference with replacement: what is left of the distance when nothing is wrong.
    """

    quantity: str
    unit: str
    samples: float
    reference: float
    distance: float
    floor: float


@dataclass(frozen=True)
class SizeClass:
    """Structures with so many atoms in their cells.

    Attributes:
        atoms: as text, like ``5–8``.
        samples, reference: name of a share → rate among these.
    """

    atoms: str
    samples: Mapping[str, Rate]
    reference: Mapping[str, Rate]


@dataclass(frozen=True)
class Fidelity:
    """Samples against a reference.

    Attributes:
        n_samples, n_reference: entries of the samples' source, and structures of the reference.
        distances: of distributions.
        rates: of all entries of the samples' source.
        reference_rates: those of them that the reference has too, of its structures.
        effective_elements: exp(H) of both, H the entropy of the elements' shares of all atoms.
        sizes: by number of atoms.
        moved: Å, median RMSD of relaxed samples to what was relaxed, and how many have one; None
            where the samples have no column ``rmsd``.
    """

    n_samples: int
    n_reference: int
    distances: tuple[Distance, ...]
    rates: Mapping[str, Rate]
    reference_rates: Mapping[str, Rate]
    effective_elements: tuple[float, float]
    sizes: tuple[SizeClass, ...]
    moved: tuple[float, int] | None

    def as_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def collect(chunks: Iterable[Bundle], executor: Executor) -> Sample:
    """Evaluate what is compared on a stream of structures."""
    return _join([_quantities(chunk) for chunk in _described(chunks, executor, DESCRIPTORS)])


def fidelity(
    samples: Bundle, reference: Iterable[Bundle], executor: Executor, *, seed: int = 0
) -> Fidelity:
    """Compare samples with a reference, usually the training set.

    A sample is unique if no earlier one is the same structure, and new if none of the reference is
    (pymatgen's StructureMatcher, elements included).

    Args:
        samples: what a sampler was asked for; its rejects count in the rates' denominators.
        reference: stream of structures, held in memory once.
        executor: where descriptors are evaluated and structures are prepared.
        seed: of the structures drawn for the floor.
    """
    known = list(reference)
    described = _described(divide(samples, _CHUNK), executor, (*DESCRIPTORS, *_JUDGED))
    samples = Bundle.concatenate(list(described))
    of_known, of_samples = collect(known, executor), _quantities(samples)
    return Fidelity(
        samples.n_read,
        len(of_known),
        tuple(_distances(of_samples, of_known, np.random.default_rng(seed))),
        _rates(samples, of_samples, known, of_known, executor),
        {name: _rate(held) for name, held in of_known.shares.items()},
        (
            effective_elements(of_samples.counts["elements"]),
            effective_elements(of_known.counts["elements"]),
        ),
        tuple(_by_size(of_samples, of_known)),
        _moved(samples),
    )


def _moved(samples: Bundle) -> tuple[float, int] | None:
    column, crystals = samples.columns.get("rmsd"), samples.crystals
    if column is None or not np.isfinite(column.values).any():
        return None
    in_angstrom = column.values * (crystals.volume / crystals.n_atoms) ** (1 / 3)
    return float(np.nanmedian(in_angstrom)), int(np.isfinite(in_angstrom).sum())


def _described(
    chunks: Iterable[Bundle], executor: Executor, names: tuple[str, ...]
) -> Iterable[Bundle]:
    """Chunks with columns; a structure that hangs or kills a worker becomes a reject."""
    return map_ordered(executor, over_structures(partial(_describe, names=names)), chunks)


def _describe(chunk: Bundle, names: tuple[str, ...]) -> Bundle:
    valid = np.array([smact_valid(f) for f in chunk.crystals.reduced_formulas()], dtype=bool)
    described = evaluate(chunk, names)[0]
    return described.with_columns({_VALID: Column(valid, "", "SMACT")})


def _quantities(bundle: Bundle) -> Sample:
    crystals, columns = bundle.crystals, bundle.columns
    n_atoms = crystals.n_atoms.astype(np.float64)
    elements = element_counts(crystals)
    groups = np.zeros((len(bundle), 231), dtype=np.int64)
    number = columns["space_group"].values
    groups[np.arange(len(bundle)), np.maximum(number, 0)] = 1
    groups[:, 0] = 0  # no group found
    values = {
        "volume per atom": crystals.volume / np.maximum(n_atoms, 1),
        "density": densities(crystals),
        "C": columns["c"].values,
        "M_LED": columns["mled"].values,
        "K": columns["k"].values,
        "atoms per cell": n_atoms,
        "elements per cell": (elements > 0).sum(1).astype(np.float64),
    }
    shares = {
        NO_SYMMETRY: groups[:, 1] > 0,
        SMACT: columns[_VALID].values.astype(bool),
        ANION: with_anion(elements),
    }
    formulas = np.array(crystals.reduced_formulas(), dtype=object)
    return Sample(values, {"elements": elements, "space groups": groups}, shares, formulas)


def _join(parts: list[Sample]) -> Sample:
    return Sample(
        {name: np.concatenate([p.values[name] for p in parts]) for name in QUANTITIES},
        {name: np.concatenate([p.counts[name] for p in parts]) for name in FREQUENCIES},
        {name: np.concatenate([p.shares[name] for p in parts]) for name in parts[0].shares},
        np.concatenate([p.formulas for p in parts]),
    )


def _rate(held: NDArray[np.bool_]) -> Rate:
    return Rate(int(held.sum()), len(held))


def _distances(samples: Sample, known: Sample, rng: np.random.Generator) -> Iterator[Distance]:
    pairs = [
        [rng.integers(len(known), size=size) for size in (len(samples), len(known))]
        for _ in range(_DRAWS)
    ]
    for name, unit in QUANTITIES.items():
        x, y = samples.values[name], known.values[name]
        if not np.isfinite(x).any() or not np.isfinite(y).any():
            continue
        floor = np.mean([_wasserstein(y[drawn], y[other]) for drawn, other in pairs])
        middles = float(np.nanmedian(x)), float(np.nanmedian(y))
        yield Distance(name, unit, *middles, _wasserstein(x, y), float(floor))
    for name in FREQUENCIES:
        p, q = samples.counts[name], known.counts[name]
        floor = np.mean([_total_variation(q[drawn], q[other]) for drawn, other in pairs])
        kinds = float(np.argmax(p.sum(0))), float(np.argmax(q.sum(0)))
        yield Distance(name, "", *kinds, _total_variation(p, q), float(floor))


def _wasserstein(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Distance between the values that are not NaN; NaN if one side has none."""
    from scipy.stats import wasserstein_distance

    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    return float(wasserstein_distance(x, y)) if len(x) and len(y) else float("nan")


def _by_size(samples: Sample, known: Sample) -> Iterator[SizeClass]:
    for low, high in SIZES:
        rates = []
        for one in (samples, known):
            atoms = one.values["atoms per cell"]
            among = (atoms >= low) & (atoms <= (high or np.inf))
            rates.append({name: _rate(held[among]) for name, held in one.shares.items()})
        if rates[0][SMACT].total:
            yield SizeClass(f"{low}–{high}" if high else f"{low} or more", *rates)


def _total_variation(x: NDArray[np.int64], y: NDArray[np.int64]) -> float:
    """Distance between the kinds in two sets, from counts by structure."""
    p, q = x.sum(0), y.sum(0)
    return float(0.5 * np.abs(p / max(p.sum(), 1) - q / max(q.sum(), 1)).sum())


def _rates(
    samples: Bundle, of_samples: Sample, known: list[Bundle], of_known: Sample, executor: Executor
) -> dict[str, Rate]:
    total, config = samples.n_read, FilterConfig()
    with np.errstate(invalid="ignore"):
        apart = samples.columns["min_distance"].values > config.min_distance
        usual = samples.columns["spp"].values < config.spp
    wanted = set(of_samples.formulas)
    seen = KnownStructures(species=True)
    for _, reduced in prepare(of_formulas(known, wanted), executor):
        for one in reduced:
            if one is not None:
                seen.add(one)
    parts = prepare(divide(samples, _CHUNK), executor)
    reduced = [one for _, part in parts for one in part]
    unique = Distinct().add((samples, reduced))
    new = np.array([_fits_none(one, seen) for one in reduced], dtype=bool)
    composition = ~np.isin(of_samples.formulas, list(set(of_known.formulas)))
    found = {
        f"A′: all atoms further than {config.min_distance} Å apart": apart,
        f"A: SPP below {config.spp}": usual,
        "unique among the samples": unique,
        "new composition, not in the reference": composition,
        "new structure, fits none of the reference": new,
        "unique and new structure": unique & new,
        **of_samples.shares,
    }
    return {name: Rate(int(passed.sum()), total) for name, passed in found.items()}


def _fits_none(one: Reduced | None, known: KnownStructures) -> bool:
    """What can't be compared is not called new."""
    try:
        return one is not None and known.first_fit(one) is None
    except ValueError:
        return False
