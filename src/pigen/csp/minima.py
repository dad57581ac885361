"""The lowest structure of each search, as a bundle, and which of them are new frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column, Reject, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import usual_formula
from pigen.csp.folder import MODES
from pigen.csp.outcome import Outcome
from pigen.csp.results import Search
from pigen.descriptors.prototypes.library import Library, match
from pigen.energy.hull import E_HULL, Hull, Reference
from pigen.energy.hull.stage import E_HULL_REASON, IMPLAUSIBLE, source_of

SOURCE = "lowest energy that the search reached"


@dataclass(frozen=True)
class Novelty:
    """Frameworks of the lowest structure of each composition.

    Attributes:
        minima: compositions with a structure that could be compared.
        new: ids of those that match no prototype, with their energies above the hull, eV/atom
            (NaN where there is none), from the lowest on.
        implausible: ids of the minima more than `IMPLAUSIBLE` below the hull.
    """

    minima: int
    new: tuple[tuple[str, float], ...]
    implausible: tuple[str, ...]


def minima(
    outcomes: Sequence[Outcome], libraries: Mapping[str, Library], reference: Reference
) -> Bundle:
    """The lowest structure of every search, and a reject with its status for one that has none.

    Args:
        outcomes: of the compositions.
        libraries: name → library of known frameworks; the first that has one names it.
        reference: of the hull. Only energies of its level of theory are compared with it; FUSE's,
            which do not name theirs, are taken to be of the CHGNet that input.py asks for.
    """
    kept: list[tuple[Outcome, str, Search, float, Crystals]] = []
    rejects = []
    for outcome in outcomes:
        for mode, search in zip(MODES, (outcome.seeded, outcome.unseeded), strict=True):
            found = search.minimum()
            if found is None:
                why = search.reason or ("" if search.status == "never started" else "no structure")
                reason = f"{search.status}: {why}" if why else search.status
                rejects.append(Reject(_id(outcome, mode), reason))
                continue
            kept.append((outcome, mode, search, found[0].energy, found[1]))
    crystals = Crystals.concatenate([crystal for *_, crystal in kept])
    labels, ranks = _frameworks(crystals, libraries.values())
    source = f"prototypes of {', '.join(libraries)}"
    generated = [o.generated if math.isfinite(o.generated) else math.nan for o, *_ in kept]
    energies = np.array([e for *_, e, _ in kept], dtype=float)
    columns = {
        "e_relaxed": Column(energies, "eV/atom", SOURCE),
        "e_generated": Column(
            np.array(generated, dtype=float), "eV/atom", "the seed, relaxed in the seeded search"
        ),
        "formula": Column(
            strings(usual_formula(o.composition.formula) for o, *_ in kept), "", SOURCE
        ),
        "mode": Column(strings(mode for _, mode, *_ in kept), "", SOURCE),
        "search_status": Column(strings(search.status for _, _, search, *_ in kept), "", SOURCE),
        "search_parts": Column(
            np.array([search.n_parts for _, _, search, *_ in kept], dtype=np.int64), "", SOURCE
        ),
        "engine": Column(strings(search.engine for _, _, search, *_ in kept), "", SOURCE),
        "potential": Column(strings(search.potential for _, _, search, *_ in kept), "", SOURCE),
        "prototype": Column(strings(labels), "", source),
        "prototype_rank": Column(ranks, "", source),
    }
    heights, reasons = Hull(reference).above(crystals.reduced_formulas(), energies)
    for row, (_, _, search, *_) in enumerate(kept):
        level = search.potential or "chgnet"
        if not reference.level.startswith(level):
            heights[row], reasons[row] = np.nan, f"no hull: energies of {level}"
    columns[E_HULL] = Column(heights, "eV/atom", source_of(reference))
    columns[E_HULL_REASON] = Column(strings(reasons), "", source_of(reference))
    return Bundle(
        crystals=crystals,
        ids=strings(_id(outcome, mode) for outcome, mode, *_ in kept),
        parents=strings(outcome.composition.id for outcome, *_ in kept),
        columns=columns,
        rejects=tuple(rejects),
    )


def novelty(found: Bundle) -> Novelty:
    """Which compositions' lowest structures match no prototype.

    Args:
        found: from `minima`.
    """
    energies, ranks = found.columns["e_relaxed"].values, found.columns["prototype_rank"].values
    lowest: dict[str, int] = {}
    for row, name in enumerate(found.ids):
        composition = str(Path(name).parent)
        if composition not in lowest or energies[row] < energies[lowest[composition]]:
            lowest[composition] = row
    rows = [row for row in lowest.values() if ranks[row] >= 0]
    heights = found.columns[E_HULL].values
    new = [(found.ids[row], float(heights[row])) for row in rows if ranks[row] == 0]
    new.sort(key=lambda one: (one[1] != one[1], one[1]))  # NaN, no energy above the hull, last
    return Novelty(len(rows), tuple(new), tuple(found.ids[heights < -IMPLAUSIBLE]))


def _frameworks(
    crystals: Crystals, libraries: Iterable[Library]
) -> tuple[list[str], NDArray[np.int64]]:
    """Labels and ranks, (B,), by the first library with a match; "" and 0 without any."""
    labels, ranks = [""] * len(crystals), np.zeros(len(crystals), dtype=np.int64)
    for library in libraries:
        left = np.flatnonzero(ranks == 0)
        matched = match(crystals[left], library)
        ranks[left] = matched.ranks
        for i, label in zip(left.tolist(), matched.labels, strict=True):
            labels[i] = label
    return labels, ranks


def _id(outcome: Outcome, mode: str) -> str:
    return f"{outcome.composition.folder}/{mode}"
