"""Elemental crystals: without one of each element there is no hull.

From ASE: the ground states of its ``dcdft`` collection (71 elements of the Δ-codes benchmark,
Lejaeghere et al., Crit. Rev. Solid State Mater. Sci. 39, 1, 2014; molecular crystals of H, N, O, F
and Cl among them) and, for the others, what its ``reference_states`` give in full. The rest is
listed here with its lattice constants at room temperature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pigen.bundle import Bundle, strings
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF

if TYPE_CHECKING:
    from ase import Atoms

ELEMENT = "element-"
"""What the ids of elemental crystals begin with."""

_UNSEEN = ("Po", "At", "Rn", "Fr", "Ra")
_SIMPLE = ("fcc", "bcc", "hcp")
_DHCP = {"La": (3.774, 12.171), "Ce": (3.681, 11.857), "Pr": (3.672, 11.833),
         "Nd": (3.658, 11.797), "Pm": (3.65, 11.65)}  # fmt: skip
"""Double hexagonal close packed: a and c in Å."""


def elemental_crystals() -> Bundle:
    """Crystals of the elements up to Pu, ids like ``element-Fe-dcdft``; some elements have two.

    Po, At, Rn, Fr and Ra are left out: CHGNet has seen none, and what it says of them means
    nothing.
    """
    from ase.build import bulk
    from ase.collections import dcdft
    from ase.data import reference_states

    found: dict[str, Any] = {}  # Atoms, which has no types
    for z in range(1, Z_OF["Pu"] + 1):
        symbol = SYMBOLS[z]
        if symbol in _UNSEEN:
            continue
        if symbol in dcdft.names:
            found[f"{ELEMENT}{symbol}-dcdft"] = dcdft[symbol]
        elif (reference_states[z] or {}).get("symmetry") in _SIMPLE:
            found[f"{ELEMENT}{symbol}-reference_states"] = bulk(symbol)
    found |= _measured()
    crystals = [
        Crystals.single(atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
        for atoms in found.values()
    ]
    return Bundle(crystals=Crystals.concatenate(crystals), ids=strings(found))


def _measured() -> dict[str, Atoms]:
    """Cells that ASE does not have."""
    from ase.build import bulk

    found: dict[str, Atoms] = {}
    for symbol, (a, c) in _DHCP.items():
        found[f"{ELEMENT}{symbol}-dhcp"] = _cell(
            symbol,
            [a, a, c, 90, 90, 120],
            [(0, 0, 0), (1 / 3, 2 / 3, 1 / 4), (0, 0, 1 / 2), (2 / 3, 1 / 3, 3 / 4)],
        )
    # Sm: R-3m, 3a and 6c. Pa: I4/mmm (Zachariasen 1952). U: Cmcm, 4c (Barrett 1963). Np: Pnma, 4c
    # twice (Zachariasen 1952). Pu: the cubic delta phase; the stable one has 16 atoms.
    centring = ((0, 0, 0), (2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3))
    found[ELEMENT + "Sm-alpha"] = _cell(
        "Sm",
        [3.629, 3.629, 26.207, 90, 90, 120],
        [(x, y, z + shift) for x, y, z in centring for shift in (0, 0.2222, -0.2222)],
    )
    found[ELEMENT + "Pu-delta"] = bulk("Pu", "fcc", 4.637)
    found[ELEMENT + "Pa-bct"] = _cell(
        "Pa", [3.92, 3.92, 3.24, 90, 90, 90], [(0, 0, 0), (1 / 2, 1 / 2, 1 / 2)]
    )
    y = 0.1025
    found[ELEMENT + "U-alpha"] = _cell(
        "U",
        [2.854, 5.869, 4.955, 90, 90, 90],
        [(0, y, 1 / 4), (0, -y, 3 / 4), (1 / 2, 1 / 2 + y, 1 / 4), (1 / 2, 1 / 2 - y, 3 / 4)],
    )
    found[ELEMENT + "Np-alpha"] = _cell(
        "Np",
        [6.663, 4.723, 4.887, 90, 90, 90],
        [
            site
            for x, z in ((0.036, 0.208), (0.319, 0.842))
            for site in (
                (x, 1 / 4, z),
                (1 / 2 - x, 3 / 4, z + 1 / 2),
                (-x, 3 / 4, -z),
                (x + 1 / 2, 1 / 4, 1 / 2 - z),
            )
        ],
    )
    return found


def _cell(symbol: str, parameters: list[float], sites: list[tuple[float, ...]]) -> Atoms:
    from ase import Atoms

    return Atoms(symbol * len(sites), scaled_positions=sites, cell=parameters, pbc=True)
