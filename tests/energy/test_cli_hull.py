"""The verb hull from files to files, with ASE's EMT in place of CHGNet: it takes milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from pigen.bundle import Bundle, Column, bundle_info, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy.hull import Hull, load_reference
from pigen.energy.hull.build import relax_reference
from pigen.energy.hull.elements import elemental_crystals
from pigen.runtime.executor import SerialExecutor

EMT = "ase.calculators.emt:EMT"


def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    if expect:
        assert result.stderr.count("\n") == 1  # no traceback
    return result


def as_json(*args: str | Path) -> dict[str, Any]:
    found = json.loads(pigen(*args, "--json").stdout)
    assert isinstance(found, dict)
    return found


def fcc(a: float, *numbers: int) -> Crystals:
    sites = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    return Crystals.single(a * np.eye(3), sites, numbers)


@pytest.fixture(scope="module")
def alloys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ordered alloys of copper and gold, and one with tungsten, which EMT does not know."""
    path = tmp_path_factory.mktemp("data") / "alloys.h5"
    crystals = [fcc(3.8, 29, 29, 79, 79), fcc(3.7, 79, 29, 29, 29), fcc(3.7, 74, 29, 29, 29)]
    ids = strings(["CuAu", "Cu3Au", "Cu3W"])
    write_bundle(path, Bundle(crystals=Crystals.concatenate(crystals), ids=ids))
    return path


@pytest.fixture(scope="module")
def built(alloys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("refs") / "emt"
    result = pigen("hull", "build", alloys, "--model", EMT, "--origin", "all alloys", "-o", out)
    assert "2 structures of all alloys and " in result.stdout
    return out


def test_build_relaxes_structures_and_elements(built: Path) -> None:
    reference = load_reference(built)
    by_id = {entry.id: entry for entry in reference.entries}
    assert {"CuAu", "Cu3Au", "element-Cu-dcdft", "element-Au-dcdft"} <= by_id.keys()
    assert "Cu3W" not in by_id
    assert reference.level == EMT
    relaxed = read_bundle(built / "relaxed.h5")
    row = relaxed.parents.tolist().index("Cu3Au")
    assert by_id["Cu3Au"].energy == pytest.approx(
        relaxed.columns["e_relaxed"].values[row], abs=1e-6
    )
    assert relaxed.columns["status"].values[relaxed.parents.tolist().index("Cu3W")] != "converged"


def test_built_phases_are_those_on_the_hull(built: Path) -> None:
    reference = load_reference(built)
    assert reference.phases is not None
    phases = read_bundle(reference.phases)
    assert bundle_info(reference.phases).complete
    stable = [entry.id for entry in Hull(reference).stable("Au1Cu3")]
    assert set(stable) <= set(phases.ids)
    assert all(i.startswith("element-") or i in ("CuAu", "Cu3Au") for i in phases.ids)
    relaxed = read_bundle(built / "relaxed.h5")
    for id_, one in zip(phases.ids, phases.crystals, strict=True):
        exact = relaxed.crystals[relaxed.parents.tolist().index(id_)]
        np.testing.assert_allclose(one.lattice, exact.lattice, atol=1e-6)


def test_build_goes_on_only_where_it_is_told_to(alloys: Path, built: Path) -> None:
    args = ("hull", "build", alloys, "--model", EMT, "--origin", "all alloys", "-o", built)
    assert "--resume goes on" in pigen(*args, expect=2).stderr
    before = (built / "entries.csv.gz").read_bytes()
    counts = as_json(*args, "--resume")
    assert (built / "entries.csv.gz").read_bytes() == before
    assert counts["entries"] == len(load_reference(built).entries)
    assert sum(counts["without_energy"].values()) + counts["entries"] == 3 + len(
        elemental_crystals()
    )


def test_energy_above_the_hull_of_what_was_built(alloys: Path, built: Path, tmp_path: Path) -> None:
    relaxed, out = tmp_path / "relaxed.h5", tmp_path / "out.h5"
    counts = as_json("energy", alloys, "--model", EMT, "--reference", built, "-o", relaxed)
    assert counts["hull"] == load_reference(built).note
    columns = read_bundle(relaxed).columns
    assert columns["e_hull"].values[:2].min() > -1e-4
    assert np.isnan(columns["e_hull"].values[2])
    assert columns["e_hull_reason"].values[2].startswith("not relaxed: ")
    again = as_json("hull", "evaluate", relaxed, "--reference", built, "-o", out)
    assert again["with_e_hull"] == 2
    np.testing.assert_array_equal(
        read_bundle(out).columns["e_hull"].values, columns["e_hull"].values
    )
    kept = tmp_path / "kept.h5"
    said = pigen("filter", out, "--ehull", "0.050", "-o", kept).stdout
    assert "E  e_hull < 50 meV/atom" in said
    assert "structures of all alloys" in said
    assert len(read_bundle(kept)) >= 1


def test_other_levels_of_theory_do_not_mix(alloys: Path, built: Path, tmp_path: Path) -> None:
    """EMT energies have no place on a hull of CHGNet's, the shipped one."""
    relaxed = tmp_path / "relaxed.h5"
    said = pigen("energy", alloys, "--model", EMT, "-o", relaxed).stdout
    assert "no e_hull" in said
    assert "e_hull" not in read_bundle(relaxed).columns
    args = ("hull", "evaluate", relaxed, "-o", tmp_path / "out.h5")
    assert "do not mix" in pigen(*args, expect=2).stderr
    assert "run `pigen energy` first" in pigen("filter", relaxed, "--ehull", "0.1", expect=2).stderr


def test_imported_energies_make_a_reference(tmp_path: Path) -> None:
    table, ref = tmp_path / "mine.csv", tmp_path / "ref"
    table.write_text("formula,energy\nCu,-3.7\nAu,-3.2\nCu3Au,-3.7\n", encoding="utf-8")
    said = pigen("hull", "import", table, "-o", ref).stdout
    assert said == f"{ref}: imported from mine.csv: 3 entries, as complete as that file\n"
    assert "is not empty" in pigen("hull", "import", table, "-o", ref, expect=2).stderr
    pigen("hull", "import", table, "-o", ref, "--force")
    bundle = Bundle(
        crystals=Crystals.concatenate([fcc(3.8, 29, 29, 79, 79), fcc(3.8, 29, 29, 79, 47)]),
        ids=strings("ab"),
        columns={"e_relaxed": Column(np.array([-3.5, -3.5]), "eV/atom", "anything")},
    )
    write_bundle(tmp_path / "b.h5", bundle)
    out = tmp_path / "out.h5"
    counts = as_json("hull", "evaluate", tmp_path / "b.h5", "--reference", ref, "-o", out)
    assert counts["without"] == {"no hull: Ag": 1}
    # CuAu = 2/3 Cu3Au and 1/3 Au, by atoms
    expected = -3.5 - (2 / 3 * -3.7 + 1 / 3 * -3.2)
    assert read_bundle(out).columns["e_hull"].values[0] == pytest.approx(expected, abs=1e-9)


def test_formation_energies_count_from_elements(tmp_path: Path) -> None:
    table, elements, ref = tmp_path / "mine.csv", tmp_path / "elements.csv", tmp_path / "ref"
    table.write_text("formula,formation_energy_per_atom\nCu,0\nCu3Au,-0.05\nHe,0\n", "utf-8")
    elements.write_text("element,energy_per_atom\nCu,-3.7\nAu,-3.2\n", "utf-8")
    pigen("hull", "import", table, "--elements", elements, "--origin", "alloys", "-o", ref)
    found = load_reference(ref)
    energies = {entry.formula: entry.energy for entry in found.entries}
    expected = {"Au1": -3.2, "Au1Cu3": -0.05 + (3 * -3.7 - 3.2) / 4, "Cu1": -3.7}
    assert energies == pytest.approx(expected)  # helium has no energy to count from
    assert found.note == "imported from alloys: 3 entries, as complete as that file"
    assert [entry.id for entry in found.entries] == [entry.formula for entry in found.entries]
    table.write_text("formula,formation_energy_per_atom\nCu3Pt,-0.1\n", "utf-8")
    args = ("hull", "import", table, "--elements", elements, "-o", tmp_path / "other")
    assert "mine.csv: Cu3Pt1: no energy of Pt (--elements)" in pigen(*args, expect=2).stderr


def test_a_stopped_build_goes_on_where_it_was(alloys: Path, built: Path, tmp_path: Path) -> None:
    chunks = [read_bundle(alloys).select([i]) for i in range(3)]
    settings, serial = RelaxConfig(potential=EMT), SerialExecutor()

    def stopped() -> Iterator[Bundle]:
        yield chunks[0]
        raise KeyboardInterrupt

    path = tmp_path / "relaxed.h5"
    with pytest.raises(KeyboardInterrupt):
        relax_reference(stopped(), path, settings, serial, {})
    assert not bundle_info(path).complete
    relax_reference(chunks, path, settings, serial, {}, resume=True)
    resumed, whole = read_bundle(path), read_bundle(built / "relaxed.h5")
    assert resumed.ids.tolist() == whole.ids.tolist()
    np.testing.assert_array_equal(
        resumed.columns["e_relaxed"].values, whole.columns["e_relaxed"].values
    )
