"""Compounds added to a reference with energies of another level: what the fit recovers."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.cli import main
from pigen.crystal.elements import formula_amounts
from pigen.energy.hull import Hull, Reference, load_reference
from pigen.energy.hull.fitted import FITTED, add_fitted
from pigen.energy.hull.reference import Entry
from pigen.runtime.errors import UsageError

SYMBOLS = ["Al", "Cu", "Fe", "Li", "Mg", "O", "S", "Ti"]
ELEMENTS = dict(zip(SYMBOLS, np.linspace(-8.0, -1.0, 8), strict=True))
SHIFT = dict(zip(SYMBOLS, np.linspace(-0.1, 0.1, 8), strict=True))


def fractions(formula: str) -> dict[str, float]:
    amounts = formula_amounts(formula)
    return {symbol: n / sum(amounts.values()) for symbol, n in amounts.items()}


def compounds() -> list[str]:
    found = []
    for a, b in combinations(SYMBOLS, 2):
        found += [f"{a}{m}{b}{n}" for m, n in ((1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (2, 3))]
    return found


def two_levels() -> tuple[dict[str, float], dict[str, float]]:
    """Total energies at the reference's level, and formation energies at the other."""
    rng = np.random.default_rng(1)
    own, other = {}, {}
    for formula in compounds():
        x = fractions(formula)
        other[formula] = -0.3 - rng.random()
        shift = sum(x[s] * SHIFT[s] for s in x)
        own[formula] = other[formula] + shift + sum(x[s] * ELEMENTS[s] for s in x)
    return own, other


def reference_of(own: dict[str, float]) -> Reference:
    elements = [Entry(f"{s}1", e, f"element-{s}") for s, e in ELEMENTS.items()]
    return Reference((*elements, *(Entry(f, e, f"mp-{f}") for f, e in own.items())), "emt", "few")


def test_compounds_left_out_come_back_at_the_level_of_the_reference() -> None:
    own, other = two_levels()
    gone = compounds()[::7]
    kept = {formula: e for formula, e in own.items() if formula not in gone}
    # Five of a hundred are other polymorphs, far off: Huber's loss must not follow them.
    for formula in list(kept)[::20]:
        kept[formula] += 0.5
    others = [Entry(f, e, f) for f, e in other.items()]
    added = add_fitted(reference_of(kept), others, "all of them")
    by_id = {entry.id: entry for entry in added.reference.entries}
    assert added.n_added == len(gone)
    for formula in gone:
        assert by_id[FITTED + formula].energy == pytest.approx(own[formula], abs=0.008)
    assert added.quality.median < 0.005 < added.quality.raw_median
    assert "all of them" in added.reference.note


def test_total_energies_serve_like_formation_energies() -> None:
    own, other = two_levels()
    gone = compounds()[::7]
    kept = {formula: e for formula, e in own.items() if formula not in gone}
    base = {s: 3.0 * i - 7.0 for i, s in enumerate(SYMBOLS)}
    totals = [Entry(f"{s}1", e, s) for s, e in base.items()]
    totals += [
        Entry(f, e + sum(x * base[s] for s, x in fractions(f).items()), f) for f, e in other.items()
    ]
    formation = add_fitted(reference_of(kept), [Entry(f, e, f) for f, e in other.items()], "a")
    total = add_fitted(reference_of(kept), totals, "a")
    for one, two in zip(formation.reference.entries, total.reference.entries, strict=True):
        assert one.formula == two.formula
        assert two.energy == pytest.approx(one.energy, abs=1e-6)


def test_a_second_calculation_makes_the_error_smaller() -> None:
    own, other = two_levels()
    rng = np.random.default_rng(2)
    noise = {formula: rng.normal(0, 0.05) for formula in other}
    first = [Entry(f, e + noise[f], f) for f, e in other.items()]
    second = [Entry(f, e - noise[f], f) for f, e in other.items()]
    alone = add_fitted(reference_of(own), first, "a").quality
    both = add_fitted(reference_of(own), first, "a", second).quality
    assert both.mean < 0.5 * alone.mean


def test_own_energies_win_guesses_give_way_and_unknown_elements_are_counted() -> None:
    own, other = two_levels()
    guess, *rest = own
    reference = reference_of({formula: own[formula] for formula in rest})
    guessed = Entry(guess, -99.0, f"substituted-x-{guess}")
    reference = Reference((*reference.entries, guessed), "emt", "few")
    others = [Entry(f, e, f) for f, e in other.items()] + [Entry("Po1S1", -1.0, "PoS")]
    added = add_fitted(reference, others, "all of them")
    found = {entry.formula: entry for entry in added.reference.entries}
    assert found[guess].id == FITTED + guess
    assert [found[f].energy for f in rest] == [own[f] for f in rest]
    assert added.left_out["no element Po in the reference"] == 1
    assert added.left_out["in the reference already"] == len(rest)


def test_a_compound_with_metastable_forms_alone_takes_the_lower_energy() -> None:
    own, other = two_levels()
    high, low, stable, unknown, *_ = list(own)[::30]
    # Forms 0.4 eV/atom up, and one that is below what the fit can give.
    given = {**own, **{f: own[f] + 0.4 for f in (high, stable, unknown)}, low: own[low] - 0.4}
    published = {f"mp-{high}": 0.3, f"mp-{low}": 0.02, f"mp-{stable}": 0.0}
    others = [Entry(f, e, f) for f, e in other.items()]
    added = add_fitted(reference_of(given), others, "all of them", published=published)
    hull = Hull(added.reference)
    assert (added.n_added, added.n_lower) == (1, 1)
    by_id = {entry.id: entry.energy for entry in added.reference.entries}
    assert by_id[FITTED + high] == pytest.approx(own[high], abs=0.02)
    assert by_id[f"mp-{high}"] == given[high]  # its own forms stay
    assert hull.energy(high) <= by_id[FITTED + high]
    assert not by_id.keys() & {FITTED + low, FITTED + stable, FITTED + unknown}
    assert added.quality.shared == len(own) - 2  # the fit is not to them
    # One more form, on the published hull: the potential's energy of it counts.
    form = Entry(high, given[high], "mp-stable")
    more = reference_of(given)
    more = Reference((*more.entries, form), more.level, more.note)
    published["mp-stable"] = 0.0
    assert add_fitted(more, others, "all of them", published=published).n_added == 0


def test_what_was_added_before_stays_unless_it_comes_again() -> None:
    own, other = two_levels()
    first, second, third, *rest = own
    reference = reference_of({formula: own[formula] for formula in rest})
    shared = [Entry(f, other[f], f) for f in rest]
    once = add_fitted(reference, [*shared, Entry(first, -1.0, ""), Entry(second, -1.0, "")], "a")
    again = add_fitted(
        once.reference, [*shared, Entry(second, -2.0, ""), Entry(third, -2.0, "")], "b"
    )
    found = {e.formula: e.energy for e in again.reference.entries if e.id.startswith(FITTED)}
    before = {e.formula: e.energy for e in once.reference.entries}
    assert found.keys() == {first, second, third}
    assert found[first] == before[first]
    assert found[second] == pytest.approx(before[second] - 1.0, abs=1e-6)
    assert again.n_added == 2
    assert again.reference.provenance["fitted"] == "a, b"
    assert "2 compounds of b" in again.reference.note
    assert "1 of a, added before" in again.reference.note


def test_too_few_shared_compounds_are_refused() -> None:
    own, other = two_levels()
    few = {formula: own[formula] for formula in list(own)[:50]}
    with pytest.raises(UsageError, match="50 compounds of those are in the reference too"):
        add_fitted(reference_of(few), [Entry(f, e, f) for f, e in other.items()], "those")


def test_hull_add_from_file_to_folder(tmp_path: Path) -> None:
    own, other = two_levels()
    gone = compounds()[::7]
    kept = {formula: e for formula, e in own.items() if formula not in gone}
    reference_of(kept).write(tmp_path / "ref")
    with (tmp_path / "dft.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["formula", "formation_energy_per_atom"])
        rows.writerows(other.items())
    out = tmp_path / "whole"
    args = ["hull", "add", tmp_path / "dft.csv", "--to", tmp_path / "ref", "-o", out, "--json"]
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["added"] == len(gone)
    hull = Hull(load_reference(out))
    complete = Hull(reference_of(own))
    for formula in gone:
        assert hull.energy(formula) == pytest.approx(complete.energy(formula), abs=0.02)
    again = CliRunner().invoke(main, [str(arg) for arg in args])
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_import_adds_and_corrects_in_one_go(tmp_path: Path) -> None:
    own, other = two_levels()
    gone = compounds()[::7]
    kept = [*ELEMENTS.items(), *((f, e) for f, e in own.items() if f not in gone)]
    for name, rows in (("mine.csv", kept), ("dft.csv", other.items())):
        lines = [f"{formula},{energy}" for formula, energy in rows]
        (tmp_path / name).write_text("\n".join(["formula,energy", *lines]), encoding="utf-8")
    args = ["mine.csv", "--level", "emt", "--add", "dft.csv", "-o", "ref"]
    paths = [str(tmp_path / a) if "." in a or a == "ref" else a for a in args]
    result = CliRunner().invoke(main, ["hull", "import", *paths])
    assert result.exit_code == 0, result.output
    found = load_reference(tmp_path / "ref")
    added = {e.id.removeprefix(FITTED): e.energy for e in found.entries if FITTED in e.id}
    assert len(added) == len(gone)
    for formula, energy in added.items():
        expected = next(own[f] for f in gone if fractions(f) == fractions(formula))
        assert energy == pytest.approx(expected, abs=0.02)
    assert f"{len(added)} compounds of dft.csv, whose energies were brought" in found.note
