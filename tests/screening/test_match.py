"""What is known of structures: verdicts as pymatgen gives them, and the nearest entries."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from real_crystals import COPPER, NACL, PEROVSKITE

from pigen.bundle import Bundle, Reject, divide, read_bundle, strings, write_bundle
from pigen.cli import main
from pigen.crystal.crystals import Crystals, wrap
from pigen.io import read
from pigen.runtime.executor import SerialExecutor
from pigen.screening.match import (
    FAILED,
    NEW,
    NONE,
    OTHER,
    SAME,
    Known,
    NearestStage,
    match,
)


def moved(crystals: Crystals, rng: np.random.Generator, amount: float) -> Crystals:
    """The same atoms, strained and displaced."""
    frac = crystals.frac_coords + amount * rng.normal(size=crystals.frac_coords.shape) / 5
    strain = np.eye(3) + amount * rng.normal(size=(len(crystals), 3, 3)) / 3
    return Crystals(
        lattice=crystals.lattice @ strain,
        frac_coords=wrap(frac),
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )


def bundle_of(crystals: Crystals, prefix: str) -> Bundle:
    return Bundle(crystals=crystals, ids=strings(f"{prefix}{i}" for i in range(len(crystals))))


def test_each_kind_of_answer() -> None:
    wide = Crystals.single(1.3 * NACL.lattice[0], NACL.frac_coords, NACL.atomic_numbers)
    layered = Crystals.single(
        [[3.0, 0, 0], [0, 3.0, 0], [0, 0, 9.0]], [[0, 0, 0], [0.5, 0.5, 0.1]], [11, 17]
    )
    more_chlorine = Crystals.single(
        4.0 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]], [11, 17, 17]
    )
    twice = Crystals.single(4.0 * np.eye(3), [[0, 0, 0], [0, 0, 0]], [11, 17])
    candidates = bundle_of(
        Crystals.concatenate([wide, layered, more_chlorine, PEROVSKITE, twice]), "c"
    )
    candidates = Bundle(
        crystals=candidates.crystals, ids=candidates.ids, rejects=(Reject("odd", "why"),)
    )
    known = bundle_of(Crystals.concatenate([COPPER, NACL]), "k")
    found, counts = match(candidates, divide(known, 1), SerialExecutor())
    values = {name: column.values.tolist() for name, column in found.columns.items()}
    assert values["nearest"] == ["k1", "k1", "k1", "", "k1"]
    assert values["nearest_formula"] == ["NaCl"] * 3 + ["", "NaCl"]
    assert values["same_composition"] == [True, True, False, False, True]
    assert values["same_structure"] == [True, False, False, False, False]
    assert values["rmsd"][0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(values["rmsd"][1:]).all()
    assert counts == {SAME: 1, OTHER: 1, NEW: 1, NONE: 1, FAILED: 1}
    assert found.rejects == candidates.rejects


def test_nothing_against_nothing() -> None:
    found, counts = match(Bundle.empty(), [], SerialExecutor())
    assert (len(found), counts.total()) == (0, 0)
    found, counts = match(bundle_of(NACL, "c"), [], SerialExecutor())
    assert counts == {SAME: 0, OTHER: 0, NEW: 0, NONE: 1, FAILED: 0}


@pytest.mark.slow
def test_verdicts_are_pymatgens(shared_data: Path) -> None:
    """600 real structures, moved more and more, against all real ones of their compositions."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    known = read(shared_data / "mp20" / "test.csv.gz")
    formulas = known.crystals.reduced_formulas()
    of_formula = defaultdict(list)
    for row, formula in enumerate(formulas):
        of_formula[formula].append(row)
    # Compositions of several structures first: there is something to tell apart.
    rows = sorted(range(len(known)), key=lambda row: -len(of_formula[formulas[row]]))[:600]
    rng = np.random.default_rng(0)
    parts = [
        moved(known.crystals[np.array(rows[k::4])], rng, amount)
        for k, amount in enumerate((0.0, 0.2, 0.5, 1.0))
    ]
    order = [row for k in range(4) for row in rows[k::4]]
    found, counts = match(bundle_of(Crystals.concatenate(parts), "c"), [known], SerialExecutor())
    matcher = StructureMatcher()
    structures = found.crystals.to_pymatgen()
    same, rmsd = found.columns["same_structure"].values, found.columns["rmsd"].values
    for i, row in enumerate(order):
        others = known.crystals[np.array(of_formula[formulas[row]])].to_pymatgen()
        fitting = [other for other in others if matcher.fit(structures[i], other)]
        distances = [matcher.get_rms_dist(structures[i], other)[0] for other in fitting]
        least = min(distances, default=None)
        assert same[i] == (least is not None), known.ids[row]
        if least is not None:
            assert rmsd[i] == pytest.approx(least, abs=1e-3), known.ids[row]
    assert counts[SAME] > 200
    assert counts[OTHER] > 50


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """What is there of the output stays, and the counts are those of a run in one go."""
    candidates, known = tmp_path / "candidates.h5", tmp_path / "known.h5"
    crystals = Crystals.concatenate([NACL, PEROVSKITE, COPPER, NACL])
    write_bundle(candidates, bundle_of(crystals, "c"))
    write_bundle(known, bundle_of(NACL, "k"))
    stage = NearestStage(Known([bundle_of(NACL, "k")]), SerialExecutor())
    parts = divide(read(candidates), 2)
    whole, half = tmp_path / "whole.h5", tmp_path / "half.h5"
    stage.write(parts, whole, {})
    stopped = NearestStage(stage.known, SerialExecutor())

    def then_killed() -> Iterator[Bundle]:
        yield parts[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.write(then_killed(), half, {})
    assert stopped.counts[SAME] == 1
    resumed = NearestStage(stage.known, SerialExecutor())
    assert resumed.write(parts, half, {}, resume=True).resumed_after == 2
    assert resumed.counts == stage.counts == Counter({SAME: 2, NONE: 2})
    columns = [read_bundle(path).columns["nearest"].values.tolist() for path in (whole, half)]
    assert columns == [["k0", "", "", "k0"]] * 2
    out = tmp_path / "out.h5"
    arguments = ["match", str(candidates), "--to", str(known), "-o", str(out), "--resume"]
    for _ in range(2):  # the second finds it complete
        said = CliRunner().invoke(main, arguments)
        assert said.exit_code == 0, said.output
        assert re.search(r"same structure +2 / 4 \(50\.0", said.stdout)


def test_the_verb(tmp_path: Path) -> None:
    candidates, known = tmp_path / "candidates.h5", tmp_path / "known.h5"
    write_bundle(candidates, bundle_of(Crystals.concatenate([NACL, PEROVSKITE]), "c"))
    write_bundle(known, bundle_of(Crystals.concatenate([COPPER, NACL]), "k"))
    out = tmp_path / "matched.h5"
    arguments = ["match", str(candidates), "--to", str(known), "-o", str(out)]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert "2 structures against 2 of known.h5" in said.stdout
    assert re.search(r"same structure +1 / 2 \(50\.0", said.stdout)
    assert read_bundle(out).columns["nearest"].values.tolist() == ["k1", ""]
    again = CliRunner().invoke(main, [*arguments, "--force", "--json"])
    assert json.loads(again.stdout)["same structure"] == 1
    assert (
        CliRunner()
        .invoke(main, [*arguments[:3], str(tmp_path / "no.csv"), "-o", str(out)])
        .exit_code
        == 2
    )
