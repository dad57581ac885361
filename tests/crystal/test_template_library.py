"""A library of templates gives them back, small, and refuses what it did not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from symmetric_crystals import SYMMETRIC, farthest

from pigen.crystal.crystals import Crystals
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import templates_of
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import TEMPLATES

CRYSTALS = Crystals.concatenate(list(SYMMETRIC.values()))
FOUND = templates_of(CRYSTALS)[0]
LABELS = np.arange(2.0 * len(FOUND)).reshape(-1, 2)


@pytest.fixture
def library(tmp_path: Path) -> TemplateLibrary:
    """Written and read."""
    path = tmp_path / "templates.npz"
    TemplateLibrary.of(CRYSTALS, [*FOUND[:-1], None], LABELS, ("a", "b")).save(path)
    return TemplateLibrary.load(path)


def test_templates_and_labels_come_back(library: TemplateLibrary) -> None:
    assert len(library) == len(FOUND) - 1
    np.testing.assert_array_equal(library.labels, LABELS[:-1])
    for row, template in enumerate(FOUND[:-1]):
        assert template is not None
        for name, value in vars(template).items():
            np.testing.assert_allclose(getattr(library[row], name), value, atol=1e-12)
        assert library.n_atoms[row] == template.n_atoms
        assert library.space_group[row] == template.space_group
        assert library.multiplicities[row] == tuple(template.multiplicities)


def test_structures_are_found_by_how_many_atoms_their_elements_have(
    library: TemplateLibrary,
) -> None:
    spinel = list(SYMMETRIC).index("Fd-3m")
    rows, elements = library.of_counts[2, 4, 8]
    assert elements[rows.tolist().index(spinel)].tolist() == [12, 13, 8]  # Mg, Al, O
    layered = list(SYMMETRIC).index("I4/mmm")  # two orbits of oxygen
    assert sorted(library.multiplicities[layered]) == [1, 2, 2, 2]
    assert sorted(library.elements(layered).tolist())[:2] == [8, 8]
    assert layered in library.of_counts[1, 2, 4][0]


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    for content in (b"", b"PK\x03\x04 no archive"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not a library of templates"):
            TemplateLibrary.load(path)
    np.savez(path, format="other")
    with pytest.raises(UsageError, match="format other"):
        TemplateLibrary.load(path)


@pytest.mark.parametrize("name", ["group", "special", "atoms_ptr", "labels"])
def test_arrays_that_do_not_fit_are_refused(
    library: TemplateLibrary, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "t.npz"
    library.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = arrays[name][1:] if name != "group" else arrays[name] + 9
    if name == "special":
        arrays[name] = arrays[name] + 99
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="do not fit"):
        TemplateLibrary.load(path)


def test_the_shipped_library_is_small_and_exact() -> None:
    assert TEMPLATES.stat().st_size < 2**20
    shipped = TemplateLibrary.load(TEMPLATES)
    assert len(shipped) > 17_000
    rng = np.random.default_rng(0)
    for row in rng.choice(len(shipped), 40, replace=False):
        template = shipped[int(row)]
        frac = template.place(rng.normal(size=(template.n_atoms, 3)))
        assert farthest(template, frac, template.orbit.astype(np.uint8)) < 1e-9
