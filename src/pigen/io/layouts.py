"""One structure as a JSON object, in the layouts of pymatgen, JARVIS, OPTIMADE, ASE and CDVAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.io.entry import (
    Refused,
    Structure,
    check_number,
    check_occupancy,
    check_periodic,
    check_size,
    lattice_from_parameters,
    to_fractional,
)
from pigen.io.species import atomic_number

Layout = tuple[frozenset[str], Callable[[Mapping[str, Any], Limits], Structure]]
"""Keys that tell a layout, and its reader."""


def _pymatgen(data: Mapping[str, Any], limits: Limits) -> Structure:
    cell, sites = data["lattice"], data["sites"]
    check_size(len(sites), limits)
    if not isinstance(cell, dict):
        raise Refused("no cell: lattice is no JSON object")
    check_periodic(cell.get("pbc") or (True, True, True))
    if "matrix" in cell:
        lattice = np.array(cell["matrix"], dtype=float).reshape(3, 3)
    else:
        lattice = lattice_from_parameters(
            [cell[key] for key in ("a", "b", "c")], [cell[k] for k in ("alpha", "beta", "gamma")]
        )
    frac, numbers = [], []
    for site in sites:
        species = site["species"]
        if len(species) != 1:
            raise Refused(f"disordered: {len(species)} species on one site")
        check_occupancy(float(species[0]["occu"]), str(species[0]["element"]))
        numbers.append(atomic_number(str(species[0]["element"])))
        if site.get("abc") is not None:
            frac.append(np.array(site["abc"], dtype=float))
        else:
            frac.append(to_fractional(np.array(site["xyz"], dtype=float), lattice))
    return _structure(lattice, frac, numbers)


def _jarvis(data: Mapping[str, Any], limits: Limits) -> Structure:
    symbols = data["elements"]
    check_size(len(symbols), limits)
    lattice = np.array(data["lattice_mat"], dtype=float).reshape(3, 3)
    coords = np.array(data["coords"], dtype=float).reshape(-1, 3)
    if data.get("cartesian"):
        coords = to_fractional(coords, lattice)
    return _structure(lattice, coords, [atomic_number(str(symbol)) for symbol in symbols])


_FEATURES = {
    "disorder": "disordered",
    "implicit_atoms": "implicit atoms",
    "site_attachments": "missing hydrogen",
    "assemblies": "disordered",
}


def _optimade(data: Mapping[str, Any], limits: Limits) -> Structure:
    names, vectors = data["species_at_sites"], data["lattice_vectors"]
    positions = data.get("cartesian_site_positions")
    if not isinstance(vectors, Sequence) or not isinstance(names, Sequence) or not positions:
        raise Refused("no structure: an OPTIMADE entry without cell, species or positions")
    check_size(len(names), limits)
    check_periodic(data.get("dimension_types") or (1, 1, 1))
    for feature in data.get("structure_features") or ():
        if kind := _FEATURES.get(str(feature)):
            raise Refused(f"{kind}: structure feature {str(feature)[:30]!r} of OPTIMADE")
    symbols = {str(s["name"]): _optimade_symbol(s) for s in data.get("species") or ()}
    numbers = [atomic_number(symbols.get(str(name), str(name))) for name in names]
    lattice = np.array(vectors, dtype=float).reshape(3, 3)
    cartesian = np.array(positions, dtype=float).reshape(-1, 3)
    return _structure(lattice, to_fractional(cartesian, lattice), numbers)


def _optimade_symbol(species: Mapping[str, Any]) -> str:
    symbols = [str(symbol) for symbol in species["chemical_symbols"]]
    if len(symbols) != 1 or symbols == ["vacancy"]:
        raise Refused(f"disordered: OPTIMADE species of {', '.join(symbols)[:60]}")
    concentration = species.get("concentration")
    check_occupancy(float(concentration[0]) if concentration else 1.0, symbols[0])
    if any(species.get("nattached") or ()):
        raise Refused(f"missing hydrogen: atoms attached to {symbols[0]} without coordinates")
    return symbols[0]


def _ase(data: Mapping[str, Any], limits: Limits) -> Structure:
    numbers = _array(data["numbers"]).reshape(-1)
    check_size(len(numbers), limits)
    check_periodic(_array(data.get("pbc", [True] * 3)).reshape(-1).tolist())
    cell = data["cell"]
    if isinstance(cell, dict) and "array" in cell:
        cell = cell["array"]
    lattice = _array(cell).reshape(3, 3).astype(float)
    positions = _array(data["positions"]).reshape(-1, 3).astype(float)
    checked = [check_number(int(z)) for z in numbers]
    return _structure(lattice, to_fractional(positions, lattice), checked)


def _array(value: Any) -> NDArray[Any]:
    """A list, or what ASE writes for an array."""
    if isinstance(value, dict):
        shape, _, flat = value["__ndarray__"]
        return np.array(flat, dtype=np.float64).reshape(shape)
    return np.array(value, dtype=np.float64)


def _cdvae(data: Mapping[str, Any], limits: Limits) -> Structure:
    check_size(len(data["atom_types"]), limits)
    lattice = lattice_from_parameters(
        [float(x) for x in data["lengths"]], [float(x) for x in data["angles"]]
    )
    numbers = [check_number(int(z)) for z in data["atom_types"]]
    return _structure(lattice, np.array(data["frac_coords"], dtype=float), numbers)


def _structure(lattice: NDArray[Any], frac: Any, numbers: Sequence[int]) -> Structure:
    coords = np.array(frac, dtype=np.float64).reshape(-1, 3)
    return Structure(lattice, coords, np.array(numbers, dtype=np.int64))


LAYOUTS: tuple[Layout, ...] = (
    (frozenset(("lattice", "sites")), _pymatgen),
    (frozenset(("lattice_mat", "coords", "elements")), _jarvis),
    (frozenset(("lattice_vectors", "species_at_sites")), _optimade),
    (frozenset(("numbers", "positions", "cell")), _ase),
    (frozenset(("frac_coords", "atom_types", "lengths", "angles")), _cdvae),
)
"""In the order in which they are tried."""
