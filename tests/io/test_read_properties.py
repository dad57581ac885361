"""What pymatgen, ASE and gemmi write, in every variant they offer, is read as what was written."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pigen.crystal.crystals import Crystals
from pigen.io import read

PROPERTY = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ELEMENTS = [z for z in range(1, 95) if z not in (2, 10)]


@st.composite
def crystals(draw: st.DrawFn) -> Crystals:
    """A cell of any shape, up to eight atoms of up to three elements, none too close."""
    lengths = [draw(st.floats(5, 9)) for _ in range(3)]
    alpha, beta, gamma = (
        np.radians(draw(st.sampled_from((75, 83.21, 90, 101.7, 120)))) for _ in "abc"
    )
    gamma = min(gamma, np.radians(101.7)) if alpha + beta > np.radians(190) else gamma
    x = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    z = np.sqrt(max(1 - np.cos(beta) ** 2 - x**2, 0.05))
    rows = [[1, 0, 0], [np.cos(gamma), np.sin(gamma), 0], [np.cos(beta), x, z]]
    lattice = np.array(rows) * np.array(lengths)[:, None]
    grid = draw(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
    shift = st.floats(-0.1, 0.1).map(lambda value: round(value, 4))
    frac = [[(i >> k & 1) / 2 + 0.25 + draw(shift) for k in range(3)] for i in grid]
    kinds = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=3))
    numbers = sorted(draw(st.sampled_from(kinds)) for _ in grid)
    return Crystals.single(lattice, frac, numbers)


def assert_same_crystal(found: Crystals, written: Crystals, atol: float) -> None:
    """Equal cells up to rotation, and for each atom written one that is read in its place."""
    metrics = [c.lattice[0] @ c.lattice[0].T for c in (found, written)]
    np.testing.assert_allclose(metrics[0], metrics[1], atol=300 * atol)
    assert len(found.atomic_numbers) == len(written.atomic_numbers)
    delta = found.frac_coords[:, None] - written.frac_coords
    near = (np.abs(delta - np.round(delta)) < atol).all(axis=2)
    near &= found.atomic_numbers[:, None] == written.atomic_numbers
    assert (near.sum(axis=0) == 1).all()
    assert (near.sum(axis=1) == 1).all()


def check(path: Path, written: Crystals, atol: float = 1e-5) -> None:
    bundle = read(path)
    assert bundle.rejects == ()
    assert len(bundle) == 1
    assert_same_crystal(bundle.crystals, written, atol)


Writer = Callable[[Crystals, Path], None]


def pymatgen_cif(**options: Any) -> Writer:
    def write(crystal: Crystals, path: Path) -> None:
        from pymatgen.io.cif import CifWriter

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path.write_text(str(CifWriter(crystal.to_pymatgen()[0], **options)))

    return write


def pymatgen_poscar(vasp4: bool, **options: Any) -> Writer:
    def write(crystal: Crystals, path: Path) -> None:
        from pymatgen.io.vasp import Poscar

        structure = crystal.to_pymatgen()[0]
        flags = [[True, False, True]] * len(structure)
        poscar = Poscar(
            structure, selective_dynamics=flags if options.get("direct", True) else None
        )
        path.write_text(poscar.get_str(vasp4_compatible=vasp4, significant_figures=12, **options))

    return write


def ase_file(form: str, **options: Any) -> Writer:
    def write(crystal: Crystals, path: Path) -> None:
        from ase.io import write as ase_write

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ase_write(path, crystal.to_ase()[0], format=form, **options)

    return write


def ase_vasp_without_symbols(crystal: Crystals, path: Path) -> None:
    """ASE's VASP 4: the comment lists the elements."""
    from ase.io.vasp import write_vasp

    text = io.StringIO()
    write_vasp(text, crystal.to_ase()[0], vasp5=False)
    path.write_text(text.getvalue())


def pymatgen_json(crystal: Crystals, path: Path) -> None:
    path.write_text(json.dumps(crystal.to_pymatgen()[0].as_dict()))


def pymatgen_lines(crystal: Crystals, path: Path) -> None:
    path.write_text(crystal.to_pymatgen()[0].to_json() + "\n")


def gemmi_cif(crystal: Crystals, path: Path) -> None:
    import gemmi

    small = gemmi.SmallStructure()
    structure = crystal.to_pymatgen()[0]
    small.cell = gemmi.UnitCell(*structure.lattice.abc, *structure.lattice.angles)
    small.spacegroup_hm = "P 1"
    for i, site in enumerate(structure):
        one = gemmi.SmallStructure.Site()
        one.label, one.type_symbol = f"{site.specie.symbol}{i}", site.specie.symbol
        one.fract = gemmi.Fractional(*site.frac_coords)
        one.element = gemmi.Element(site.specie.symbol)
        small.add_site(one)
    document = gemmi.cif.Document()
    document.add_copied_block(small.make_cif_block())
    document.write_file(str(path))


WRITERS: dict[str, tuple[str, Writer, float]] = {
    "pymatgen cif": ("a.cif", pymatgen_cif(), 1e-6),
    "pymatgen cif, 4 digits": ("a.cif", pymatgen_cif(significant_figures=4), 2e-4),
    "pymatgen cif, properties": ("a.cif", pymatgen_cif(write_site_properties=True), 1e-6),
    "pymatgen poscar": ("POSCAR", pymatgen_poscar(False), 1e-6),
    "pymatgen poscar, Cartesian": ("a.vasp", pymatgen_poscar(False, direct=False), 1e-6),
    "pymatgen poscar, VASP 4": ("a.vasp", pymatgen_poscar(True), 1e-6),
    "pymatgen json": ("a.json", pymatgen_json, 1e-9),
    "pymatgen json line": ("a.jsonl", pymatgen_lines, 1e-9),
    "ase cif": ("a.cif", ase_file("cif"), 1e-4),
    "ase vasp": ("a.vasp", ase_file("vasp"), 1e-6),
    "ase vasp, direct": ("a.vasp", ase_file("vasp", direct=True), 1e-6),
    "ase vasp, VASP 4": ("a.vasp", ase_vasp_without_symbols, 1e-6),
    "ase extxyz": ("a.extxyz", ase_file("extxyz"), 1e-6),
    "ase json": ("a.json", ase_file("json"), 1e-9),
    "ase trajectory": ("a.traj", ase_file("traj"), 1e-9),
    "gemmi cif": ("a.cif", gemmi_cif, 2e-4),
}


@pytest.mark.parametrize("writer", WRITERS)
@PROPERTY
@given(crystal=crystals())
def test_what_is_written_is_read(tmp_path: Path, writer: str, crystal: Crystals) -> None:
    name, write, atol = WRITERS[writer]
    (tmp_path / name).unlink(missing_ok=True)
    write(crystal, tmp_path / name)
    check(tmp_path / name, crystal, atol)


@PROPERTY
@given(crystal=crystals())
def test_structures_in_memory_are_what_they_are(crystal: Crystals) -> None:
    import pigen

    for one in (crystal.to_pymatgen()[0], crystal.to_ase()[0]):
        bundle = pigen.read(one)
        assert bundle.rejects == ()
        assert_same_crystal(bundle.crystals, crystal, 1e-9)
