"""How far generated structures are, as distributions, from those the model learned from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Rate, divide, over_structures
from pigen.config import FilterConfig
from pigen.crystal.elements import MAX_Z
from pigen.descriptors import evaluate
from pigen.descriptors.prototypes.known import KnownStructures
from pigen.descriptors.prototypes.reduce import Reduced, prepare
from pigen.descriptors.prototypes.unique import Distinct
from pigen.runtime.executor import map_ordered
from pigen.screening.stability import of_formulas

DESCRIPTORS = ("c", "mled", "k", "space_group")
_JUDGED = ("min_distance", "spp")
_CHUNK = 250
"""Structures in a task for a worker."""
QUANTITIES = {
    "volume per atom": "Å^3",
    "C": "",
    "M_LED": "bits",
    "K": "bits/atom",
    "atoms per cell": "",
    "elements per cell": "",
}
"""Distributions compared by their Wasserstein distance, and their units."""
FREQUENCIES = ("elements", "space groups")
"""Distributions over kinds, compared by their total variation distance."""


@dataclass(frozen=True)
class Sample:
    """What is compared of a set of structures.

    Attributes:
        values: quantity of `QUANTITIES` → (n,) values, those that exist.
        counts: name of `FREQUENCIES` → (n, kinds) counts by structure.
        formulas: reduced formulas, (n,).
    """

    values: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.int64]]
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
        floor: the same distance for as many structures drawn from the reference, against it: what
            is left of the distance when nothing is wrong.
    """

    quantity: str
    unit: str
    samples: float
    reference: float
    distance: float
    floor: float


@dataclass(frozen=True)
class Fidelity:
    """Samples against a reference: distances, and rates over all samples."""

    n_samples: int
    n_reference: int
    distances: tuple[Distance, ...]
    rates: Mapping[str, Rate]

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
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(of_known), min(len(of_samples), len(of_known)), replace=False)
    return Fidelity(
        samples.n_entries,
        len(of_known),
        tuple(_distances(of_samples, of_known, drawn)),
        _rates(samples, of_samples, known, of_known, executor),
    )


def _described(
    chunks: Iterable[Bundle], executor: Executor, names: tuple[str, ...]
) -> Iterable[Bundle]:
    """Chunks with columns; a structure that hangs or kills a worker becomes a reject."""
    return map_ordered(executor, over_structures(partial(_describe, names=names)), chunks)


def _describe(chunk: Bundle, names: tuple[str, ...]) -> Bundle:
    return evaluate(chunk, names)[0]


def _quantities(bundle: Bundle) -> Sample:
    crystals, columns = bundle.crystals, bundle.columns
    n_atoms = crystals.n_atoms.astype(np.float64)
    elements = np.zeros((len(bundle), MAX_Z + 1), dtype=np.int64)
    np.add.at(elements, (crystals.batch, crystals.atomic_numbers), 1)
    groups = np.zeros((len(bundle), 231), dtype=np.int64)
    number = columns["space_group"].values
    groups[np.arange(len(bundle)), np.maximum(number, 0)] = 1
    groups[:, 0] = 0  # no group found
    values = {
        "volume per atom": crystals.volume / np.maximum(n_atoms, 1),
        "C": columns["c"].values,
        "M_LED": columns["mled"].values,
        "K": columns["k"].values,
        "atoms per cell": n_atoms,
        "elements per cell": (elements > 0).sum(1).astype(np.float64),
    }
    formulas = np.array(crystals.reduced_formulas(), dtype=object)
    return Sample(values, {"elements": elements, "space groups": groups}, formulas)


def _join(parts: list[Sample]) -> Sample:
    return Sample(
        {name: np.concatenate([p.values[name] for p in parts]) for name in QUANTITIES},
        {name: np.concatenate([p.counts[name] for p in parts]) for name in FREQUENCIES},
        np.concatenate([p.formulas for p in parts]),
    )


def _distances(samples: Sample, known: Sample, drawn: NDArray[np.int64]) -> Iterable[Distance]:
    from scipy.stats import wasserstein_distance

    for name, unit in QUANTITIES.items():
        x, y = samples.values[name], known.values[name]
        z = y[drawn]
        x, y, z = x[np.isfinite(x)], y[np.isfinite(y)], z[np.isfinite(z)]
        if not len(x) or not len(z):
            continue
        yield Distance(
            name,
            unit,
            float(np.median(x)),
            float(np.median(y)),
            float(wasserstein_distance(x, y)),
            float(wasserstein_distance(z, y)),
        )
    for name in FREQUENCIES:
        p, q = samples.counts[name].sum(0), known.counts[name].sum(0)
        r = known.counts[name][drawn].sum(0)
        yield Distance(
            name,
            "",
            float(np.argmax(p)),
            float(np.argmax(q)),
            _total_variation(p, q),
            _total_variation(r, q),
        )


def _total_variation(p: NDArray[np.int64], q: NDArray[np.int64]) -> float:
    return float(0.5 * np.abs(p / max(p.sum(), 1) - q / max(q.sum(), 1)).sum())


def _rates(
    samples: Bundle, of_samples: Sample, known: list[Bundle], of_known: Sample, executor: Executor
) -> dict[str, Rate]:
    total, config = samples.n_entries, FilterConfig()
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
    no_symmetry = of_samples.counts["space groups"][:, 1] > 0
    composition = ~np.isin(of_samples.formulas, list(set(of_known.formulas)))
    found = {
        f"A′: all atoms further than {config.min_distance} Å apart": apart,
        f"A: SPP below {config.spp}": usual,
        "unique among the samples": unique,
        "new composition, not in the reference": composition,
        "new structure, fits none of the reference": new,
        "unique and new structure": unique & new,
        "without symmetry (space group P1)": no_symmetry,
    }
    return {name: Rate(int(passed.sum()), total) for name, passed in found.items()}


def _fits_none(one: Reduced | None, known: KnownStructures) -> bool:
    """What can't be compared is not called new."""
    try:
        return one is not None and known.first_fit(one) is None
    except ValueError:
        return False
