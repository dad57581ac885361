"""Samples that begin from a known structure: what is held stays, the rest is generated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
from real_crystals import PEROVSKITE, QUARTZ

from pigen.config import SampleConfig
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.io.export import to_cif
from pigen.model.diffusion.reverse import reverse_chain
from pigen.model.diffusion.state import Noised, Prediction
from pigen.model.guidance import guided
from pigen.model.request import Plan, check_request, plan
from pigen.model.sample import _draws, sample
from pigen.runtime.errors import UsageError

HEADER = models.header()
MODEL = models.model(HEADER, torch.float32)


@pytest.fixture
def perovskite(tmp_path: Path) -> str:
    path = tmp_path / "known.cif"
    path.write_text(to_cif(PEROVSKITE, "known"))
    return str(path)


def asked(path: str, **settings: Any) -> SampleConfig:
    return SampleConfig(start=path, steps=5, device="cpu", **settings)


def drawn(config: SampleConfig, n: int = 3) -> tuple[Crystals, list[Plan]]:
    plans = [plan(i, 0, config, HEADER) for i in range(n)]
    return sample(MODEL, HEADER, config, plans), plans


def distances(crystals: Crystals, row: int, atoms: list[int]) -> np.ndarray:
    structure = crystals[row].to_pymatgen()[0]
    return structure.distance_matrix[np.ix_(atoms, atoms)]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_atoms_held_keep_elements_places_and_cell(perovskite: str, noise: float) -> None:
    config = asked(perovskite, fixed=("Sr", 2), noise=noise)
    found, plans = drawn(config)
    held = np.flatnonzero(plans[0].start.held).tolist()  # type: ignore[union-attr]
    assert held == [0, 2]
    known = niggli(PEROVSKITE)
    for row in range(len(found)):
        one = found[row]
        assert one.atomic_numbers[held].tolist() == [38, 8]
        assert one.volume[0] == pytest.approx(known.volume[0])
        np.testing.assert_allclose(
            distances(found, row, held), distances(known, 0, held), atol=1e-6
        )
    free = found.frac_coords.reshape(3, 5, 3)[:, 1]
    assert np.ptp(free, axis=0).max() > 1e-3


def test_the_cell_alone_may_be_held(perovskite: str) -> None:
    found, plans = drawn(asked(perovskite, fixed="cell"))
    np.testing.assert_allclose(found.volume, PEROVSKITE.volume[0])
    assert not plans[0].elements.any()


def test_a_rigid_shift_of_the_prediction_moves_nothing_that_is_held(perovskite: str) -> None:
    config = asked(perovskite, fixed=("Sr", "Ti"))
    plans = [plan(i, 0, config, HEADER) for i in range(2)]
    begin = plans[0].start
    assert begin is not None
    draws = _draws(plans, 5, config.steps, torch.device("cpu"), HEADER)
    predict = guided(MODEL, HEADER, config, plans)

    def shifted(noised: Noised, guess: Prediction | None) -> Prediction:
        there = predict(noised, None)
        return replace(there, coords=there.coords + 0.3)

    types = torch.from_numpy(np.stack([one.classes(HEADER.spec) for one in plans]))
    results = [
        reverse_chain(
            how,
            types,
            torch.ones_like(types, dtype=torch.bool),
            draws,
            scale=HEADER.spec.lattice,
            config=HEADER.diffusion,
            eta=0.0,
            given=begin.given(draws.frac),
        )
        for how in (lambda noised, guess: predict(noised, None), shifted)
    ]
    torch.testing.assert_close(results[0].frac, results[1].frac, atol=1e-4, rtol=0)
    torch.testing.assert_close(results[0].frac[:, begin.held], draws.frac[:, begin.held])


def test_little_strength_changes_little(perovskite: str) -> None:
    def changed(strength: float) -> float:
        begins = [plan(i, 0, asked(perovskite, strength=strength), HEADER) for i in range(20)]
        return float(np.mean([one.elements == 0 for one in begins]))

    assert changed(0.1) < 0.05 < changed(0.5) < 0.5 < changed(0.9)
    found, _ = drawn(asked(perovskite, strength=1e-3), 2)
    known = niggli(PEROVSKITE)
    for row in range(2):
        assert found[row].atomic_numbers.tolist() == known.atomic_numbers.tolist()
        np.testing.assert_allclose(
            distances(found, row, [0, 1, 2, 3, 4]), distances(known, 0, [0, 1, 2, 3, 4]), atol=0.3
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing of it would be left"),
        ({"fixed": "Mg"}, "'Mg' names nothing of .*known.cif .O3Sr1Ti1, 5 atoms counted from 0"),
        ({"fixed": 5}, "5 names nothing"),
        ({"fixed": "cell", "n_atoms": 5}, "sample.start says the size"),
        ({"fixed": "cell", "symmetry": "training"}, "goes with sample.symmetry"),
        ({"fixed": "cell", "composition": "SrTiO3"}, "without sample.composition"),
    ],
)
def test_what_cannot_be_is_refused(perovskite: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_request(asked(perovskite, **settings), HEADER, "model")


def test_what_is_no_start_is_refused(tmp_path: Path, perovskite: str) -> None:
    with pytest.raises(UsageError, match=r"give sample\.start"):
        check_request(SampleConfig(strength=0.5), HEADER, "model")
    both = tmp_path / "two.cif"
    both.write_text(to_cif(PEROVSKITE, "a") + "\n" + to_cif(QUARTZ, "b"))
    with pytest.raises(UsageError, match="expected one structure, got 2"):
        check_request(asked(str(both), strength=0.5), HEADER, "model")
    text = Path(perovskite).read_text("utf-8").replace("Sr", "Cs")
    strange = tmp_path / "strange.cif"
    strange.write_text(text)
    with pytest.raises(UsageError, match="doesn't know element 'Cs'"):
        check_request(asked(str(strange), strength=0.5), HEADER, "model")
