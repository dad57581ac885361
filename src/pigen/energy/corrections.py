"""Corrections of the Materials Project: what its published energies add to those of PBE and PBE+U.

Potentials trained on its calculations mostly learned the energies without them.
A. Wang et al., Sci. Rep. 11, 15496 (2021), by pymatgen.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

MP2020 = "MP2020 corrections"
"""What a level of theory with them says of itself."""


def mp2020_corrections(
    crystals: Crystals,
) -> tuple[NDArray[np.float64], list[str]]:
    """What the Materials Project adds to the energy of each crystal.

    A Hubbard U belongs to the energy where the Materials Project's settings have one, so the
    crystal's composition says which corrections apply; its structure tells oxides from peroxides.

    Returns:
        (B,) eV/atom, NaN where there is a reason, and (B,) reasons, "" where there is none.
    """
    values, reasons = np.zeros(len(crystals)), []
    for i, structure in enumerate(crystals.to_pymatgen()):
        try:
            with warnings.catch_warnings():
                # Where no oxidation states can be guessed, the most electronegative element counts
                # as the anion: the scheme's own rule, of which pymatgen warns.
                warnings.simplefilter("ignore")
                values[i] = _correction(structure)
        except Exception as error:  # whatever a rule makes of an odd structure
            values[i] = np.nan
            reasons.append(f"no {MP2020}: {' '.join(str(error).split())[:200]}")
        else:
            reasons.append("")
    return values, reasons


def _correction(structure: Structure) -> float:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = _scheme()
    anion = max(structure.composition.elements, key=lambda element: element.X).symbol
    settings = scheme.u_settings.get(anion, {})
    u = {e.symbol: settings[e.symbol] for e in structure.composition if e.symbol in settings}
    parameters = {"run_type": "GGA+U" if u else "GGA", "hubbards": u, "software": ""}
    entry = ComputedStructureEntry(structure, 0.0, parameters=parameters)
    return float(sum(part.value for part in scheme.get_adjustments(entry)) / len(structure))


@lru_cache(maxsize=1)
def _scheme() -> MaterialsProject2020Compatibility:
    from pymatgen.entries.compatibility import MaterialsProject2020Compatibility

    return MaterialsProject2020Compatibility(check_potcar=False)
