"""Seeds in the formats of other codes for crystal structure prediction.

Formats: AIRSS, SHELX .res files with its TITL line (airss-docs.github.io), written by pymatgen;
USPEX, VASP 5 POSCARs concatenated in Seeds/POSCARS (USPEX manual, "How do I use the seed
technique?"); CALYPSO and XtalOpt, a POSCAR for each structure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from pigen.crystal.crystals import Crystals
from pigen.io.export import safe_name, to_poscar

Files = dict[str, str]
"""Path in the composition's folder → text."""


def airss(cell: Crystals, name: str, energy: float | None) -> Files:
    """One .res; its TITL line gives the energy of the cell, 0 if it is not known."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.res import ResWriter

    stem = safe_name(name)
    total = (energy or 0.0) * int(cell.n_atoms[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # none is needed here
        entry = ComputedStructureEntry(cell.to_pymatgen()[0], total, data={"seed": stem})
        return {f"{stem}.res": ResWriter(entry).string}


def uspex(cell: Crystals, name: str, energy: float | None) -> Files:
    """Seeds/POSCARS, to be concatenated with others of the same run."""
    return {"Seeds/POSCARS": to_poscar(cell, safe_name(name))}


def calypso(cell: Crystals, name: str, energy: float | None) -> Files:
    """POSCAR_1, the first structure of a generation."""
    return {"POSCAR_1": to_poscar(cell, safe_name(name))}


def xtalopt(cell: Crystals, name: str, energy: float | None) -> Files:
    """POSCAR, to be named among the seeds of the first generation."""
    return {"POSCAR": to_poscar(cell, safe_name(name))}


WRITERS: dict[str, Callable[[Crystals, str, float | None], Files]] = {
    "airss": airss,
    "uspex": uspex,
    "calypso": calypso,
    "xtalopt": xtalopt,
}
"""Engine → writer of one seed, from its cell, name and energy in eV/atom."""
