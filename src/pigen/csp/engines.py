"""Seeds in the formats of other codes for crystal structure prediction.

Formats: AIRSS, SHELX .res files with its TITL line (airss-docs.github.io), written by pymatgen;
USPEX, VASP 5 POSCARs concatenated in Seeds/POSCARS (USPEX manual, "How do I use the seed
technique?"); CALYPSO and XtalOpt, a POSCAR for each structure.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

from pigen.crystal.crystals import Crystals
from pigen.io.export import safe_name, to_poscar

Files = dict[str, str]
"""Path in the composition's folder → text."""
NamedCell = tuple[Crystals, str, float | None]
"""A seed: its cell, name and energy in eV/atom."""


def airss(seeds: Sequence[NamedCell]) -> Files:
    """A .res each; its TITL line gives the energy of the cell, 0 if it is not known."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry
    from pymatgen.io.res import ResWriter

    files = {}
    for cell, name, energy in seeds:
        stem = safe_name(name)
        total = (energy or 0.0) * int(cell.n_atoms[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No Pauling electronegativity")  # none is needed here
            entry = ComputedStructureEntry(cell.to_pymatgen()[0], total, data={"seed": stem})
            files[f"{stem}.res"] = ResWriter(entry).string
    return files


def uspex(seeds: Sequence[NamedCell]) -> Files:
    """Seeds/POSCARS, to be concatenated with others of the same run."""
    return {"Seeds/POSCARS": "".join(to_poscar(cell, safe_name(name)) for cell, name, _ in seeds)}


def calypso(seeds: Sequence[NamedCell]) -> Files:
    """POSCAR_1 and so on, the first structures of a generation."""
    return {
        f"POSCAR_{number}": to_poscar(cell, safe_name(name))
        for number, (cell, name, _) in enumerate(seeds, start=1)
    }


def xtalopt(seeds: Sequence[NamedCell]) -> Files:
    """POSCAR, and POSCAR_2 and so on, to be named among the seeds of the first generation."""
    return {
        f"POSCAR_{number}" if number > 1 else "POSCAR": to_poscar(cell, safe_name(name))
        for number, (cell, name, _) in enumerate(seeds, start=1)
    }


WRITERS: dict[str, Callable[[Sequence[NamedCell]], Files]] = {
    "airss": airss,
    "uspex": uspex,
    "calypso": calypso,
    "xtalopt": xtalopt,
}
"""Engine → writer of the seeds of one composition."""
