"""Which training structure shares its template with a structure of a given composition?

    python benchmarks/template_prior.py --data ../shared/data

Of each structure of mp20/val, the shipped library's structures of the same size and formula type
are candidates, once for each way to exchange their elements. A candidate is right if its space
group and the element, multiplicity and freedom of each of its orbits are those of the structure. A
logit model of the candidates' chances is fitted by maximum likelihood: its weights are those of
`pigen.model.template_prior`. Then, for mp20/test, how often a template drawn with that prior is
right, at several sharpnesses, beside the likeliest and beside one drawn without the prior.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import Template, templates_of
from pigen.io import read
from pigen.model import template_prior
from pigen.runtime.resources import TEMPLATES

FEATURES = ("Mendeleev number", "other group", "other element", "largest change of radius")


class Candidates(NamedTuple):
    """Features (K, 4) of a composition's candidates, and which are right (K,)."""

    features: np.ndarray
    right: np.ndarray


def orbits(template: Template, elements: np.ndarray) -> list[tuple[int, int, int]]:
    """Element, multiplicity and free coordinates of each orbit, sorted."""
    free = np.rint(np.trace(template.projector, axis1=1, axis2=2)).astype(int)
    return sorted(
        zip(elements.tolist(), template.multiplicities.tolist(), free.tolist(), strict=True)
    )


def candidates(crystals: Crystals, library: TemplateLibrary) -> list[Candidates]:
    """Of all structures that have any."""
    found = []
    templates, _ = templates_of(crystals)
    for one, template in zip(crystals, templates, strict=True):
        counts = dict(Counter(one.atomic_numbers.tolist()))
        near = template_prior.relatives(library, counts, (1,))
        if template is None or not len(near.row):
            continue
        true = orbits(template, one.atomic_numbers[template.representative])
        right = np.zeros(len(near.row), dtype=bool)
        for place in np.flatnonzero(library.space_group[near.row] == template.space_group):
            row = int(near.row[place])
            taken = dict(zip(near.old[place].tolist(), near.new[place].tolist(), strict=True))
            elements = np.array([taken[z] for z in library.elements(row).tolist()])
            right[place] = orbits(library[row], elements) == true
        share = np.array([counts[z] for z in near.new[0].tolist()]) / len(one.atomic_numbers)
        found.append(Candidates(template_prior.exchange_features(near.old, near.new, share), right))
    return found


def fit(data: list[Candidates]) -> np.ndarray:
    """The four weights of greatest likelihood."""
    data = [one for one in data if one.right.any()]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.0, np.zeros(len(weights))
        for one in data:
            u = -one.features @ weights
            p = np.exp(u - u.max())
            total -= np.log(p[one.right].sum() / p.sum())
            slope += p[one.right] @ one.features[one.right] / p[one.right].sum()
            slope -= p @ one.features / p.sum()
        return total / len(data), slope / len(data)

    return np.asarray(minimize(loss, np.full(4, 0.2), jac=True, method="L-BFGS-B").x)


def right(data: list[Candidates], weights: np.ndarray, n: int) -> str:
    """Share of n structures, ± its standard error; what has no candidates is wrong."""
    p = np.zeros(n)
    for i, one in enumerate(data):
        u = -one.features @ weights
        chance = np.exp(u - u.max())
        p[i] = chance[one.right].sum() / chance.sum()
    return f"{100 * p.mean():.1f} ± {100 * p.std() / np.sqrt(n):.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    library = TemplateLibrary.load(TEMPLATES)
    val = candidates(niggli(read(args.data / "mp20/val.csv.gz").crystals), library)
    fitted = fit(val)
    print(f"fitted to {len(val)} structures of mp20/val:")
    for name, weight in zip(FEATURES, fitted, strict=True):
        print(f"  {name}: {weight:.2f}")
    test = niggli(read(args.data / "mp20/test.csv.gz").crystals)
    data = candidates(test, library)
    shipped = np.array(template_prior.EXCHANGE)
    print(f"right templates for {len(test)} structures of mp20/test, shipped weights:")
    print(f"  any of the candidates: {100 * np.mean([d.right.any() for d in data]):.1f} % have one")
    print(f"  without the prior: {right(data, 0 * shipped, len(test))}")
    for sharpness in (1.0, 2.0, 3.0, 100.0):
        print(f"  sharpness {sharpness:g}: {right(data, sharpness * shipped, len(test))}")


if __name__ == "__main__":
    main()
