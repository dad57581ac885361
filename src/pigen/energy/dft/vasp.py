"""VASP's files: settings of the paper or of the Materials Project in, an energy out."""

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
from pigen.runtime.errors import UsageError
from pigen.runtime.files import read_whole, write_atomically

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
MUST_AGREE = ("ENCUT", "KSPACING", "NSW", "ISPIN", "GGA", "METAGGA", "LDAU", "LDAUU")
"""Settings that make energies incomparable where a calculation differs from its export."""
PAPER = "paper"
PRESETS: Mapping[str, str] = {PAPER: "", "mp": "MPStaticSet", "mp-relax": "MPRelaxSet"}
"""What settings are called → pymatgen's set of them; the paper's are `SETTINGS`."""

MAX_XML_BYTES = 128 * 2**20
"""Of a vasprun.xml, unpacked."""
MAX_XML_MARKS = 5_000_000
"""Of beginnings and ends of elements in it: each element takes far more memory than in the file."""


@lru_cache(maxsize=len(PRESETS))
def _choices(preset: str) -> tuple[str, dict[str, str]]:
    """The functional directory and, by element, the PAW potential that pymatgen's set takes."""
    from pymatgen.io.vasp import sets

    config: dict[str, Any] = getattr(sets, PRESETS[preset] or "MPScanRelaxSet").CONFIG
    return str(config["POTCAR_FUNCTIONAL"]), dict(config["POTCAR"])


def potential_of(symbol: str, preset: str = PAPER) -> str:
    """The PAW potential for an element, e.g. ``Fe_pv``; UsageError if VASP has none."""
    try:
        return _choices(preset)[1][symbol]
    except KeyError:
        raise UsageError(f"no PAW potential for {symbol}") from None


def tags_of(changes: Mapping[str, str]) -> dict[str, Any]:
    """A user's INCAR tags as pymatgen has them.

    Raises:
        UsageError: a key that is no INCAR tag.
    """
    from pymatgen.io.vasp import Incar

    for key, value in changes.items():
        if not key.isidentifier():
            raise UsageError(f"--incar {key}={value}: expected TAG=VALUE")
    return {key.upper(): Incar.proc_val(key.upper(), value) for key, value in changes.items()}


def write_inputs(
    folder: Path, crystal: Crystals, name: str, preset: str, tags: Mapping[str, Any]
) -> bool:
    """Write INCAR, POSCAR, perhaps KPOINTS, and POTCAR or, without a library of them, POTCAR.spec.

    Args:
        folder: to be made.
        crystal, name: what is calculated, and the comment of its POSCAR.
        preset: of `PRESETS`.
        tags: INCAR tags in place of, or beside, the preset's.

    Returns:
        Whether a POTCAR was written.
    """
    texts, elements = _inputs(crystal, name, preset, tags)
    symbols = tuple(potential_of(symbol, preset) for symbol in elements)
    potcar = _potcar(symbols, _choices(preset)[0])
    texts["POTCAR" if potcar else "POTCAR.spec"] = potcar or "\n".join(symbols) + "\n"
    folder.mkdir(parents=True)
    for file, text in texts.items():
        write_atomically(folder / file, text, durable=False)
    return bool(potcar)


def _inputs(
    crystal: Crystals, name: str, preset: str, tags: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """Texts by file name, without potentials, and the elements in the order of the POSCAR."""
    from pymatgen.io.vasp import Incar, Poscar, sets

    if preset == PAPER:
        incar = Incar({**SETTINGS, **tags}).get_str()
        elements = dict.fromkeys(SYMBOLS[z] for z in crystal.atomic_numbers.tolist())
        return {"INCAR": incar + "\n", "POSCAR": to_poscar(crystal, name)}, list(elements)
    (structure,) = crystal.to_pymatgen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that the Materials Project knows better
        made: Any = getattr(sets, PRESETS[preset])(structure, user_incar_settings=dict(tags))
        poscar = Poscar(made.poscar.structure, comment=" ".join(name.split()))
        texts = {
            "INCAR": made.incar.get_str() + "\n",
            "POSCAR": poscar.get_str(significant_figures=16),
        }
        if made.kpoints is not None:  # KSPACING among the tags stands for it
            texts["KPOINTS"] = f"{made.kpoints}\n"
    return texts, list(poscar.site_symbols)


@lru_cache(maxsize=64)
def _potcar(symbols: tuple[str, ...], functional: str) -> str:
    """Text of a POTCAR, "" where the user has no library, or one that lacks a potential."""
    from pymatgen.io.vasp import Potcar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of potentials whose hash pymatgen does not know
        try:
            return str(Potcar(symbols, functional=functional))
        except (OSError, ValueError, RuntimeError):
            return ""


def read_energy(folder: Path, crystal: Crystals, preset: str = PAPER) -> float:
    """The energy that a finished calculation gives for a crystal, eV/atom, in the limit σ → 0.

    It is VASP's own, without corrections; that of the last geometry, where atoms move.

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
            at_rest = run.converged_ionic
            expected = Incar.from_file(folder / "INCAR")
        except Exception as error:  # whatever a broken file makes the parser raise
            text = " ".join(str(error).split())[:150] or type(error).__name__
            raise ValueError(f"unreadable: {text}") from None
    if not converged:
        raise ValueError("not converged: the last electronic step is the last that NELM allows")
    if not at_rest:
        raise ValueError("not relaxed: the last ionic step is the last that NSW allows")
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
        if kind != "PAW_PBE" or symbol != _choices(preset)[1].get(symbol.partition("_")[0]):
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
