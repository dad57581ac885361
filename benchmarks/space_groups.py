"""How often known crystals have each space group: the counts in pigen/csp/space_groups.py.

    python benchmarks/space_groups.py SRC...

SRC: structures as `pigen import` reads them; the shipped counts are of the training split of the
project's data set, 14,585 structures of the Materials Project. Groups are moyo's, symprec 0.1 Å.
"""

from __future__ import annotations

import logging
import sys

import numpy as np
from moyopy import Cell, MoyoDataset

from pigen.io import read_chunks

logging.getLogger("moyo").setLevel(logging.ERROR)


def main() -> None:
    counts, failed = np.zeros(231, dtype=int), 0
    for chunk in read_chunks(sys.argv[1:]):
        for crystal in chunk.crystals:
            frac, numbers = crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist()
            try:
                cell = Cell(crystal.lattice[0].tolist(), frac, numbers)
                counts[MoyoDataset(cell, symprec=0.1).number] += 1
            except ValueError:
                failed += 1
    for row in counts[1:].reshape(-1, 10):
        print("    " + ", ".join(map(str, row)) + ",")
    print(f"{counts.sum()} structures, {failed} without a group")


if __name__ == "__main__":
    main()
