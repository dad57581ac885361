"""Criteria as data: in memory, in a file, and in the files of older versions."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from known_structures import known_structures
from real_crystals import ALL

from pigen.bundle import (
    KEEPS,
    SURVIVORS,
    Bundle,
    BundleWriter,
    Column,
    Criterion,
    Verdict,
    bundle_info,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import compositions, read_experiment
from pigen.runtime.errors import PigenError, UsageError
from pigen.screening.criteria import paper_criteria
from pigen.screening.filter import apply_filters

EVERY_KIND = (
    *paper_criteria(),
    Criterion("prototype", absent=True),
    Criterion("e_hull", high=0.1 + 0.2, unit="eV/atom"),
    Criterion("density", low=-1e-5, high=3.25, in_sequence=False),
    Criterion("n_elements", low=3, high=4, inclusive=True),
    Criterion("elements", among=("O", "Ti", "Å")),
    Criterion("elements", holding=(("Li",), ("O", "S")), without=("Pb", "U")),
    Criterion("charge_balanced"),
    Criterion("theirs", wording="whatever they asked"),
)


def judged_by(*criteria: Criterion, passed: tuple[bool, ...] = (True,) * len(ALL)) -> Bundle:
    why = strings("" if ok else "no" for ok in passed)
    return Bundle(
        crystals=Crystals.concatenate(ALL),
        ids=strings("abcd"),
        columns={one.name: Column(np.ones(len(ALL)), one.unit, "made") for one in criteria},
        verdicts={one.name: Verdict(np.array(passed), why, one) for one in criteria},
    )


def as_version_1(path: Path, **lists: str) -> None:
    """What an older PIGEN wrote: a text for each criterion, and those in sequence as one text."""
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 1
        for verdict in file["verdicts"].values():
            for name in set(verdict.attrs) - {"source"}:
                del verdict.attrs[name]
        file["provenance"].attrs.update(lists)


def test_a_file_keeps_every_criterion_to_the_last_digit(tmp_path: Path) -> None:
    bundle = judged_by(*EVERY_KIND)
    write_bundle(tmp_path / "b.h5", bundle)
    assert read_bundle(tmp_path / "b.h5").criteria == bundle.criteria
    with h5py.File(tmp_path / "b.h5") as file:  # as docs/bundle.md shows it
        attributes = file["verdicts/c"].attrs
        assert (attributes["source"], attributes["low"]) == ("0.55 < c < 0.85", 0.55)


def test_an_older_file_has_the_same_criteria(tmp_path: Path) -> None:
    texts_alone = [
        one for one in EVERY_KIND if not (one.inclusive or one.is_on_names or one.wording)
    ]
    bundle = judged_by(*texts_alone)
    write_bundle(tmp_path / "b.h5", bundle)
    in_sequence = "; ".join(one.text for one in texts_alone if one.in_sequence)
    as_version_1(tmp_path / "b.h5", kept_by=in_sequence)
    found = read_bundle(tmp_path / "b.h5")
    expected = {name: one for name, one in bundle.criteria.items() if name != "e_hull"}
    assert expected.items() <= found.criteria.items()
    assert found.criteria["e_hull"].high == 0.3  # a text had six digits
    assert found.are_survivors
    assert not judged_by(*texts_alone).are_survivors


@pytest.mark.parametrize("text", ["", "c", "nan < c < inf", "1 < c > 2", "1e999 < c", "(.*)"])
def test_another_text_of_an_older_file_is_kept_as_it_is(tmp_path: Path, text: str) -> None:
    write_bundle(tmp_path / "b.h5", judged_by(Criterion("c", wording=text)))
    as_version_1(tmp_path / "b.h5")
    found = read_bundle(tmp_path / "b.h5").criteria["c"]
    assert not found.has_window
    assert found.text == (text or "c")
    assert found.in_sequence  # nothing says otherwise


def test_an_older_file_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "b.h5"
    with contextlib.suppress(ZeroDivisionError), BundleWriter(path, {}) as writer:
        writer.append(judged_by(Criterion("c", low=0.5)))
        raise ZeroDivisionError
    as_version_1(path)
    with pytest.raises(UsageError, match="begun by an older PIGEN"):
        BundleWriter(path, {}, resume=True)
    assert len(read_bundle(path)) == len(ALL)


@pytest.mark.parametrize(
    ("key", "value"), [("low", np.nan), ("high", "x"), ("unit", None), ("among", ["x" * 99999])]
)
def test_a_forged_criterion_is_refused(tmp_path: Path, key: str, value: object) -> None:
    write_bundle(tmp_path / "b.h5", judged_by(Criterion("c", low=0.5)))
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        if value is None:
            del file["verdicts/c"].attrs[key]
        else:
            file["verdicts/c"].attrs[key] = value
    with pytest.raises(PigenError, match="damaged"):
        bundle_info(tmp_path / "b.h5")


def test_structures_judged_by_different_criteria_are_not_mixed(tmp_path: Path) -> None:
    one, other = judged_by(Criterion("c", low=0.5)), judged_by(Criterion("c", low=0.6))
    with pytest.raises(ValueError, match=r"by 'c > 0.5' on some structures and by 'c > 0.6'"):
        Bundle.concatenate([one, other])
    with BundleWriter(tmp_path / "b.h5", {}) as writer:
        writer.append(one)
        with pytest.raises(PigenError, match=r"'c > 0.5' .* 'c > 0.6'"):
            writer.append(other)
    for name, bundle in (("one", one), ("other", other)):
        write_bundle(tmp_path / f"{name}.h5", bundle)
    sources = [str(tmp_path / f"{name}.h5") for name in ("one", "other")]
    done = CliRunner().invoke(main, ["import", *sources, "-o", str(tmp_path / "both.h5")])
    assert done.exit_code == 0, done.stderr
    both = read_bundle(tmp_path / "both.h5")
    assert not both.verdicts
    assert set(both.columns["verdict_c"].values) == {"passed"}


def test_who_passed() -> None:
    failing = (True, False, True, False)
    bundle = judged_by(Criterion("c", low=0.5), passed=failing).with_verdicts(
        judged_by(Criterion("k", low=9, in_sequence=False), passed=(False,) * 4).verdicts
    )
    assert tuple(bundle.passed()) == failing
    assert [(one.id, one.reason) for one in bundle.failed()] == [("b", "no"), ("d", "no")]
    with pytest.raises(UsageError, match="no verdicts; run `pigen filter` first"):
        replace(bundle, verdicts={}).passed()
    survivors = replace(bundle, verdicts={}, provenance={KEEPS: SURVIVORS})
    assert survivors.passed().all()
    assert len(Bundle.empty().passed()) == 0


def test_windows_with_their_ends_sets_and_truths() -> None:
    bundle = Bundle(
        crystals=Crystals.concatenate(ALL[:3]),
        ids=strings("abc"),
        columns={"n_elements": Column(np.array([2, 1, 3]), "", "made")},
    )
    window = Criterion("n_elements", low=2, high=3, inclusive=True)
    verdict = apply_filters(bundle, [window]).verdicts["n_elements"]
    assert verdict.reasons.tolist() == ["", "n_elements below 2: 1", ""]
    open_window = Criterion("n_elements", low=2, high=3)
    assert not apply_filters(bundle, [open_window]).verdicts["n_elements"].passed.any()


def test_csp_seeds_are_what_passed_all_that_was_asked(tmp_path: Path) -> None:
    """K is only counted alone in the paper, but takes structures out where somebody asks for it."""
    known = known_structures()
    source = Bundle(
        crystals=Crystals.concatenate([one.crystals for one in known.values()]),
        ids=strings(known),
    )
    write_bundle(tmp_path / "all.h5", source)

    def pigen(*args: str | Path) -> str:
        done = CliRunner().invoke(main, list(map(str, args)))
        assert done.exit_code == 0, done.output + done.stderr
        return done.output

    pigen("filter", tmp_path / "all.h5", "--k", "0.95", "--keep-all", "-o", tmp_path / "k.h5")
    judged = read_bundle(tmp_path / "k.h5")
    passed = {str(i) for i in judged.ids[judged.verdicts["k"].passed]}
    assert passed
    assert len(passed) < len(source)
    pigen("csp-seed", tmp_path / "k.h5", "--select", "filtered", "-o", tmp_path / "csp", "--n", 99)
    found = compositions(tmp_path / "csp", read_experiment(tmp_path / "csp"))
    assert found
    assert {one.id for one in found} <= passed
