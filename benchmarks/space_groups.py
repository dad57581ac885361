"""How often known crystals have each space group: writes src/pigen/data/space_groups.json.

    python benchmarks/space_groups.py SRC... > src/pigen/data/space_groups.json

SRC: structures as `pigen import` reads them. What is shipped is counted over the training split of
the project's data set, 14,585 structures of the Materials Project with up to 20 atoms in the cell.
Groups and primitive cells are moyo's, symprec 0.1 Å.
"""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
from moyopy import Cell, MoyoDataset

from pigen.io import read_chunks

logging.getLogger("moyo").setLevel(logging.ERROR)
LARGEST, ATOMS_A_ROW = 20, 2


def main() -> None:
    counts, failed = np.zeros((LARGEST // ATOMS_A_ROW, 231), dtype=int), 0
    for chunk in read_chunks(sys.argv[1:]):
        for crystal in chunk.crystals:
            frac, numbers = crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist()
            try:
                found = MoyoDataset(Cell(crystal.lattice[0].tolist(), frac, numbers), symprec=0.1)
            except ValueError:
                failed += 1
                continue
            row = (len(found.prim_std_cell.numbers) - 1) // ATOMS_A_ROW
            counts[min(row, len(counts) - 1), found.number] += 1
    rows = [json.dumps(row.tolist(), separators=(",", ":")) for row in counts[:, 1:]]
    listed = ",\n  ".join(rows)
    print(f'{{\n "atoms_a_row": {ATOMS_A_ROW},\n "counts": [\n  {listed}\n ]\n}}')
    print(f"{counts.sum()} structures, {failed} without a group", file=sys.stderr)


if __name__ == "__main__":
    main()
