"""Exchange in known frameworks: similar elements, cells of their size, equal draws anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.support.real_crystals import NACL, PEROVSKITE, QUARTZ

from pigen.bundle import Bundle, read_bundle
from pigen.cli import main
from pigen.config import SubstitutionConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.crystal.similar import alike, exchanged
from pigen.model.substitution import Substitution
from pigen.runtime.errors import UsageError

FRAMEWORKS = Crystals.concatenate([NACL, PEROVSKITE, QUARTZ])
EVERY = tuple(symbol for symbol, z in Z_OF.items() if 0 < z < 84)


def draw(n: int, seed: int = 0, frameworks: Crystals = FRAMEWORKS, **settings: object) -> Bundle:
    config = SubstitutionConfig(**{"elements": EVERY, **settings})  # type: ignore[arg-type]
    made = Substitution(config, frameworks, seed)
    return Bundle.concatenate(list(made.bundles(n, chunk_size=7)))


def test_what_is_alike() -> None:
    similar = alike(Z_OF[s] for s in ("Li", "Na", "H", "F", "Cl", "O", "S", "Sr", "Ba", "Ti"))
    names = {z: s for s, z in Z_OF.items()}
    found = {names[z]: {names[other] for other in others} for z, others in similar.items()}
    assert found["Na"] == {"Li"}  # hydrogen is of the group, but no alkali metal
    assert found["O"] == {"S"}
    assert found["Cl"] == {"F"}
    assert "Ba" in found["Sr"]
    assert found["Ti"] == set()


def test_an_exchanged_cell_has_the_size_of_the_new_elements() -> None:
    from ase.data import covalent_radii

    made = exchanged(NACL, {Z_OF["Na"]: Z_OF["K"]})
    before, after = covalent_radii[[11, 17]].sum(), covalent_radii[[19, 17]].sum()
    np.testing.assert_allclose(made.lattice, NACL.lattice * after / before)
    np.testing.assert_array_equal(made.frac_coords, NACL.frac_coords)
    assert set(made.atomic_numbers.tolist()) == {19, 17}
    assert set(NACL.atomic_numbers.tolist()) == {11, 17}  # the given one stays


@pytest.mark.parametrize("most", [1, 2])
def test_so_many_elements_give_way_to_similar_ones(most: int) -> None:
    similar = alike(Z_OF[symbol] for symbol in EVERY)
    frameworks = {len(one.atomic_numbers): one for one in FRAMEWORKS}
    seen = set()
    for made in draw(60, exchanged=most).crystals:
        before = frameworks[len(made.atomic_numbers)]
        pairs = set(zip(before.atomic_numbers.tolist(), made.atomic_numbers.tolist(), strict=True))
        changed = [(old, new) for old, new in pairs if old != new]
        assert 1 <= len(changed) <= most
        assert all(new in similar[old] for old, new in changed)
        assert len(pairs) == len(set(made.atomic_numbers.tolist()))  # none twice
        seen.add(len(changed))
    assert seen == {most}


def test_a_crystal_depends_on_seed_and_number_alone() -> None:
    whole = draw(20, seed=5)
    config = SubstitutionConfig(elements=EVERY)
    parts = Substitution(config, FRAMEWORKS, 5).bundles(20, start=9, chunk_size=4)
    later = Bundle.concatenate(list(parts))
    assert list(later.ids) == list(whole.ids[9:])
    assert whole.ids[0] == "substitution-000000"
    rest = whole.select(np.arange(9, 20)).crystals
    np.testing.assert_array_equal(later.crystals.lattice, rest.lattice)
    np.testing.assert_array_equal(later.crystals.atomic_numbers, rest.atomic_numbers)
    assert draw(20, seed=6).crystals.reduced_formulas() != whole.crystals.reduced_formulas()


def test_settings_choose_frameworks_and_elements() -> None:
    made = draw(30, n_atoms=(2, 2), elements=("K", "Rb", "F")).crystals
    assert set(made.n_atoms.tolist()) == {2}
    assert {int(z) for z in made.atomic_numbers} <= {Z_OF[s] for s in ("Na", "K", "Rb", "F", "Cl")}
    with pytest.raises(UsageError, match="none of 3 frameworks has 7 to 8 atoms"):
        draw(1, n_atoms=(7, 8))
    with pytest.raises(UsageError, match="an element that can be exchanged"):
        draw(1, elements=("He",))


def test_the_run_needs_no_network(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = CliRunner().invoke(
        main, ["run", "substitution", "--set", "sample.n=12", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    samples = read_bundle(out / "samples.h5")
    assert len(samples) == 12
    assert (samples.crystals.n_atoms <= 20).all()
    assert "frameworks of the shipped stable phases" in (out / "table.md").read_text("utf-8")
