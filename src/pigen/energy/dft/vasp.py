"""VASP's files: the paper's settings in, an energy out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.io.export import to_poscar
from pigen.runtime.bounded import read_whole
from pigen.runtime.errors import UsageError
from pigen.runtime.files import write_atomically

SETTINGS: Mapping[str, Any] = {
    "ENCUT": 600,
    "KSPACING": 0.3,
    "KGAMMA": True,
    "EDIFF": 1e-6,
    "NSW": 0,
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "LWAVE": False,
    "LCHARG": False,
}
"""The paper's INCAR (its Methods), and below NSW what it leaves open.

Gaussian smearing suits metals and insulators alike; energies are read in the limit σ → 0. The
k-points come of KSPACING, so there is no KPOINTS.
"""
MUST_AGREE = ("ENCUT", "KSPACING", "NSW", "ISPIN", "GGA", "METAGGA", "LDAU")
"""Settings that make energies incomparable where a calculation differs from its export."""


MAX_XML_BYTES = 128 * 2**20
"""Of a vasprun.xml, unpacked."""
MAX_XML_MARKS = 5_000_000
"""Of beginnings and ends of elements in it: each element takes far more memory than in the file."""


@lru_cache(maxsize=1)
def _choices() -> tuple[str, dict[str, str]]:
    """The functional directory and, by element, the PAW potential that pymatgen's set takes."""
    from pymatgen.io.vasp.sets import MPScanRelaxSet

    config: dict[str, Any] = MPScanRelaxSet.CONFIG
    return str(config["POTCAR_FUNCTIONAL"]), dict(config["POTCAR"])


def potential_of(symbol: str) -> str:
    """The PAW potential for an element, e.g. ``Fe_pv``; UsageError if VASP has none."""
    try:
        return _choices()[1][symbol]
    except KeyError:
        raise UsageError(f"no PAW potential for {symbol}") from None


def incar(changes: Mapping[str, str]) -> str:
    """Text of the INCAR, with a user's changes.

    Raises:
        UsageError: a key that is no INCAR tag.
    """
    from pymatgen.io.vasp import Incar

    settings = Incar(dict(SETTINGS))
    for key, value in changes.items():
        if not key.isidentifier():
            raise UsageError(f"--incar {key}={value}: expected TAG=VALUE")
        settings[key.upper()] = Incar.proc_val(key.upper(), value)
    return settings.get_str() + "\n"


def write_inputs(folder: Path, crystal: Crystals, name: str, incar_text: str) -> bool:
    """Write INCAR, POSCAR and POTCAR, or POTCAR.spec where pymatgen finds no library.

    Returns:
        Whether a POTCAR was written.
    """
    folder.mkdir(parents=True)
    write_atomically(folder / "INCAR", incar_text, durable=False)
    write_atomically(folder / "POSCAR", to_poscar(crystal, name), durable=False)
    elements = dict.fromkeys(SYMBOLS[z] for z in crystal.atomic_numbers.tolist())
    symbols = tuple(potential_of(symbol) for symbol in elements)
    potcar = _potcar(symbols)
    if potcar:
        write_atomically(folder / "POTCAR", potcar, durable=False)
    else:
        write_atomically(folder / "POTCAR.spec", "\n".join(symbols) + "\n", durable=False)
    return bool(potcar)


@lru_cache(maxsize=64)
def _potcar(symbols: tuple[str, ...]) -> str:
    """Text of a POTCAR, "" where the user has no library, or one that lacks a potential."""
    from pymatgen.io.vasp import Potcar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of potentials whose hash pymatgen does not know
        try:
            return str(Potcar(symbols, functional=_choices()[0]))
        except (OSError, ValueError, RuntimeError):
            return ""


def read_energy(folder: Path, crystal: Crystals) -> float:
    """The energy that a finished calculation gives for a crystal, eV/atom, in the limit σ → 0.

    Raises:
        ValueError: there is none, or it is not the one that was exported; says why.
    """
    from pymatgen.io.vasp import Incar, Vasprun

    paths = [folder / name for name in ("vasprun.xml", "vasprun.xml.gz")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise ValueError("no vasprun.xml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is checked here
        try:
            _check_xml(path)
            run = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
            found, energy = run.incar, float(run.final_energy)
            formula = Crystals.from_pymatgen([run.initial_structure]).reduced_formulas()
            converged = run.converged_electronic
            expected = Incar.from_file(folder / "INCAR")
        except Exception as error:  # whatever a broken file makes the parser raise
            text = " ".join(str(error).split())[:150] or type(error).__name__
            raise ValueError(f"unreadable: {text}") from None
    if not converged:
        raise ValueError("not converged: the last electronic step is the last that NELM allows")
    n_atoms = len(run.initial_structure)
    if formula != crystal.reduced_formulas() or n_atoms != crystal.n_atoms[0]:
        raise ValueError(f"another structure: {run.initial_structure.formula}")
    for key in MUST_AGREE:
        if found.get(key) != expected.get(key):
            raise ValueError(
                f"settings differ: {key} {found.get(key)} instead of {expected.get(key)}"
            )
    for title in run.potcar_symbols:
        kind, symbol = (*title.split(), "", "")[:2]
        if kind != "PAW_PBE" or symbol != _choices()[1].get(symbol.partition("_")[0]):
            raise ValueError(f"another potential: {title}")
    if not isfinite(energy):
        raise ValueError("unreadable: no total energy")
    return energy / n_atoms


def _check_xml(path: Path) -> None:
    """Raise for an XML that is not VASP's: too large, or with a document type and its entities."""
    content = read_whole(path, MAX_XML_BYTES, "MAX_XML_BYTES")
    if content.count(b"<") > MAX_XML_MARKS:
        raise ValueError(f"more than {MAX_XML_MARKS} marks (MAX_XML_MARKS)")
    if b"\0" in content or b"<!DOCTYPE" in content:
        raise ValueError("a document type, which VASP never writes")
