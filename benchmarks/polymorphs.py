"""Known polymorphs of the compounds that benchmarks search for."""

from __future__ import annotations

from typing import Any

from pymatgen.core import Lattice

GARNET = "Y3Al5O12"
THIRD, HALF = 1 / 3, 0.5
POLYMORPHS: dict[str, tuple[int, list[tuple[Any, ...]]]] = {
    # formula → atoms in a cell of the search, at most; space group, cell, elements and their sites
    "MgO": (8, [("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [HALF] * 3])]),
    "NaCl": (8, [("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [HALF] * 3])]),
    "ZnS": (
        8,
        [
            ("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
            (
                "P6_3mc",
                Lattice.hexagonal(3.82, 6.26),
                ["Zn", "S"],
                [[THIRD, 2 * THIRD, 0], [THIRD, 2 * THIRD, 0.375]],
            ),
        ],
    ),
    "CaF2": (6, [("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25] * 3])]),
    "TiO2": (
        6,
        [
            (
                "P4_2/mnm",
                Lattice.tetragonal(4.594, 2.959),
                ["Ti", "O"],
                [[0] * 3, [0.305] * 2 + [0]],
            ),
            ("I4_1/amd", Lattice.tetragonal(3.785, 9.514), ["Ti", "O"], [[0] * 3, [0, 0, 0.2081]]),
        ],
    ),
    "SrTiO3": (
        10,
        [
            (
                "Pm-3m",
                Lattice.cubic(3.905),
                ["Sr", "Ti", "O"],
                [[HALF] * 3, [0, 0, 0], [HALF, 0, 0]],
            ),
            (
                "I4/mcm",
                Lattice.tetragonal(5.51, 7.8),
                ["Sr", "Ti", "O", "O"],
                [[0, HALF, 0.25], [0, 0, 0], [0, 0, 0.25], [0.235, 0.735, 0]],
            ),
        ],
    ),
    "LiCoO2": (
        8,
        [
            (
                "R-3m",
                Lattice.hexagonal(2.816, 14.05),
                ["Co", "Li", "O"],
                [[0, 0, 0], [0, 0, HALF], [0, 0, 0.2604]],
            )
        ],
    ),
    "Al2O3": (
        10,
        [("R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]])],
    ),
    "ZrSiO4": (
        12,
        [
            (
                "I4_1/amd",
                Lattice.tetragonal(6.607, 5.982),
                ["Zr", "Si", "O"],
                [[0, 0, 0], [0, 0, HALF], [0, 0.316, 0.07]],
            )
        ],
    ),
    "MgAl2O4": (
        14,
        [("Fd-3m", Lattice.cubic(8.083), ["Mg", "Al", "O"], [[0] * 3, [0.625] * 3, [0.3874] * 3])],
    ),
    "Li3PO4": (
        16,
        [
            (
                "Pmn2_1",
                Lattice.orthorhombic(6.115, 5.239, 4.855),
                ["Li", "Li", "P", "O", "O", "O"],
                [
                    [0.248, 0.328, 0.986],
                    [0, 0.157, 0.489],
                    [0, 0.824, 0],
                    [0.209, 0.686, 0.896],
                    [0, 0.105, 0.894],
                    [0, 0.819, 0.319],
                ],
            )
        ],
    ),
    GARNET: (20, []),
}
