"""The stage and the verb: relaxed bundles that name their parents, resumed without a trace."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from known_structures import displaced, known_structures

from pigen.bundle import (
    Bundle,
    Criterion,
    Reject,
    Verdict,
    bundle_info,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy import stage
from pigen.energy.stage import relax_bundle
from pigen.runtime.errors import UsageError

EMT = "ase.calculators.emt:EMT"  # copper takes milliseconds


def coppers(n: int) -> Crystals:
    copper = known_structures()["Cu"].crystals
    return Crystals.concatenate([displaced(copper, 0.1, seed) for seed in range(n)])


def judged(crystals: Crystals, passed: list[bool]) -> Bundle:
    """A bundle with a criterion in sequence, and one that is only counted alone."""
    ids = strings(f"c{i}" for i in range(len(crystals)))
    reasons = strings("" if ok else "spp not below 0.362: 1" for ok in passed)
    nobody = np.zeros(len(crystals), dtype=bool)
    return Bundle(
        crystals=crystals,
        ids=ids,
        verdicts={
            "spp": Verdict(np.array(passed), reasons, Criterion("spp", high=0.362)),
            "k": Verdict(
                nobody,
                strings(["k not above 3.9: 0"] * len(crystals)),
                Criterion("k", low=3.9, in_sequence=False),
            ),
        },
        rejects=(Reject("broken", "no cell"),),
    )


def run(*args: str | Path) -> Any:
    return CliRunner().invoke(main, ["energy", *map(str, args)])


def test_relaxed_bundle_names_its_parents() -> None:
    odd = Crystals.single(2.5 * np.eye(3), np.zeros((1, 3)), [92])  # EMT knows no uranium
    none = Crystals(
        lattice=np.eye(3)[None], frac_coords=np.zeros((0, 3)), atomic_numbers=[], ptr=[0, 0]
    )
    bundle = judged(Crystals.concatenate([coppers(2), odd, none]), [True] * 4)
    found = relax_bundle(bundle, RelaxConfig(potential=EMT))
    assert list(found.ids) == ["c0-relaxed", "c1-relaxed", "c2-relaxed"]
    assert list(found.parents) == ["c0", "c1", "c2"]
    assert found.rejects == (Reject("broken", "no cell"), Reject("c3", "no atoms"))
    columns = {name: column.values for name, column in found.columns.items()}
    assert list(columns) == [
        "e_relaxed",
        "converged",
        "n_steps",
        "max_force",
        "rmsd",
        "status",
        "rattle_gain",
        "symmetry_lost",
    ]
    assert list(columns["converged"]) == [True, True, False]
    assert columns["status"][2].startswith("potential failed: ")
    assert np.isnan(columns["e_relaxed"][2])
    np.testing.assert_allclose(columns["e_relaxed"][:2], -0.0070, atol=2e-3)
    assert (columns["max_force"][:2] < 0.05).all()
    assert (columns["rmsd"][:2] > 0.01).all()
    assert EMT in found.columns["e_relaxed"].source
    assert "fmax=0.05" in found.columns["e_relaxed"].source


def test_only_what_passed_in_sequence() -> None:
    bundle = judged(coppers(3), [True, False, True])
    settings = RelaxConfig(potential=EMT)
    found = relax_bundle(bundle, settings, only_passed=True)
    assert list(found.parents) == ["c0", "c2"]
    assert found.rejects == (
        Reject("broken", "no cell"),
        Reject("c1", "spp not below 0.362: 1"),
    )
    with pytest.raises(UsageError, match="no verdicts"):
        relax_bundle(replace(bundle, verdicts={}), settings, only_passed=True)


def test_a_cause_that_all_share_is_the_message(tmp_path: Path) -> None:
    uranium = Crystals.single(2.5 * np.eye(3), np.zeros((1, 3)), [92])
    write_bundle(tmp_path / "u.h5", judged(Crystals.concatenate([uranium] * 3), [True] * 3))
    output = tmp_path / "out.h5"
    done = run(tmp_path / "u.h5", "-o", output, "--model", EMT, "--executor", "local:1")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"pigen: error: {output}: none of 3 structures has an energy; 3: potential failed: "
        "No EMT-potential for U"
    )
    assert (
        list(read_bundle(output).columns["status"].values)
        == ["potential failed: No EMT-potential for U"] * 3
    )


def test_statuses_that_differ_are_counted_by_their_first_words() -> None:
    counts: Counter[str] = Counter()
    for i in range(50):
        stage.count_status(counts, f"potential failed: atom {i}")
        stage.count_status(counts, f"implausible: {i} eV/atom below the hull is no crystal")
    assert counts["implausible"] == 50
    assert counts["potential failed"] == 50 - (stage.MAX_STATUSES - 1)


@pytest.mark.parametrize("wrong", [("--fmax", "0"), ("--max-steps", "0"), ("--device", "tpu")])
def test_settings_are_checked(tmp_path: Path, wrong: tuple[str, str]) -> None:
    write_bundle(tmp_path / "a.h5", judged(coppers(1), [True]))
    done = run(tmp_path / "a.h5", *wrong)
    assert done.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in done.stderr


def content(path: Path) -> dict[str, Any]:
    """Every dataset of a bundle, as bytes."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[()]
            found[name] = list(values) if values.dtype == object else values.tobytes()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.slow
def test_resumed_run_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, whole, broken = (tmp_path / name for name in ("in.h5", "whole.h5", "broken.h5"))
    write_bundle(source, judged(coppers(7), [True] * 7))
    monkeypatch.setattr(stage, "CHUNK", {"cpu": 2})
    options = ("--model", EMT, "--executor", "local:1", "--device", "cpu", "--json")
    done = run(source, "-o", whole, *options)
    assert done.exit_code == 0, done.output
    counts = json.loads(done.output)
    assert {key: counts[key] for key in ("read", "relaxed", "rejected", "resumed_after")} == {
        "read": 8,
        "relaxed": 7,
        "rejected": 1,
        "resumed_after": 0,
    }
    assert counts["status"] == {"converged": 7}
    take, calls = stage.RelaxStage.take, iter(range(9))

    def killed(self: stage.RelaxStage, result: Bundle) -> Bundle:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return take(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(stage.RelaxStage, "take", killed)
        assert run(source, "-o", broken, *options).exit_code != 0
    assert bundle_info(broken).n_crystals == 4
    again = run(source, "-o", broken, *options, "--resume")
    assert json.loads(again.output)["resumed_after"] == 5
    assert json.loads(again.output)["status"] == {"converged": 7}
    assert content(broken) == content(whole)
    other = run(source, "-o", broken, *options, "--resume", "--fmax", "0.1")
    assert other.exit_code == 2
    assert "cannot resume" in other.output


@pytest.mark.slow
def test_verb_relaxes_any_source_with_chgnet(tmp_path: Path) -> None:
    poscar = tmp_path / "POSCAR"
    (copper,) = coppers(1).to_pymatgen()
    copper.to(filename=str(poscar), fmt="poscar")
    output = tmp_path / "relaxed.h5"
    done = run(poscar, "-o", output, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[1].split() == ["1", "converged"]
    found = read_bundle(output)
    assert found.provenance["relaxed_by"] == found.columns["e_relaxed"].source
    assert "chgnet 0.3.0" in found.provenance["relaxed_by"]
    np.testing.assert_allclose(found.crystals.volume / 4, 11.9, atol=0.5)
    refused = run(poscar, "-o", output)
    assert refused.exit_code == 2
    assert "--force" in refused.output
