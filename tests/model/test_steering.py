"""Elements drawn so that compositions come out as asked, with the model's part played by logits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from real_crystals import ALL

from pigen.bundle import Bundle, write_bundle
from pigen.config import Experiment, SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.crystal.templates import template_of
from pigen.model.sample import DRAWS, MAX_DRAWS, MISSED, _draw, chains_of
from pigen.model.steering import Steering, steered, wanted_of

ELEMENTS = tuple(Z_OF[s] for s in ("Li", "O", "Na", "P", "S", "Cl", "Ti", "Mn", "Fe", "Sr"))


def chain(
    config: SampleConfig,
    n: int,
    seed: int,
    *,
    slots: list[int] | None = None,
    favourite: str = "",
) -> dict[int, int]:
    """A composition of n atoms revealed one or two at a time under random logits."""
    wanted = wanted_of(config)
    assert wanted is not None
    rng = np.random.default_rng(seed)
    where = np.array(slots or [-1] * n)
    steering = Steering(wanted, ELEMENTS, None, where, np.random.default_rng([seed, 1]))
    types = np.zeros(n, dtype=np.int64)
    while not types.all():
        logits = rng.normal(size=(n, len(ELEMENTS)))
        if favourite:
            logits[:, ELEMENTS.index(Z_OF[favourite])] += 6
        hidden = np.flatnonzero(types == 0)
        shown = np.isin(np.arange(n), rng.permutation(hidden)[: rng.integers(1, 3)])
        before = types.copy()
        types = steering(types, logits, shown)
        assert np.array_equal(types[before > 0], before[before > 0])  # what is known stays
        assert np.array_equal(types > 0, (before > 0) | shown)  # what is due is revealed, no more
    return dict(Counter(ELEMENTS[k - 1] for k in types.tolist()))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_elements": 3},
        {"n_elements": (3, 4), "elements_required": ("Li",), "elements_one_of": (("O", "S"),)},
        {"charge_balanced": True},
        {"charge_balanced": True, "n_elements": (2, 3), "elements_excluded": ("Li", "Na")},
        {"elements_one_of": (("O", "S"), ("Cl", "P"), ("Ti", "Mn"), ("Li", "Na"))},
    ],
)
def test_compositions_are_as_asked(settings: dict[str, object]) -> None:
    config = SampleConfig(**settings)  # type: ignore[arg-type]
    wanted = wanted_of(config)
    assert wanted is not None
    failures = [wanted.failure(chain(config, 4 + seed % 9, seed)) for seed in range(30)]
    assert failures.count("") >= 29, Counter(failures)


def test_without_steering_hardly_any_is() -> None:
    config = SampleConfig(n_elements=(3, 4), charge_balanced=True, elements_required=("Li",))
    wanted = wanted_of(config)
    assert wanted is not None
    rng = np.random.default_rng(0)
    free = [Counter(rng.choice(ELEMENTS, 10).tolist()) for _ in range(60)]
    assert sum(not wanted.failure(one) for one in free) < 6


def test_the_model_decides_among_what_may_be() -> None:
    config = SampleConfig(elements_required=("Li",), n_elements=(2, 3), charge_balanced=True)
    favoured = sum(chain(config, 8, seed, favourite="O").get(8, 0) for seed in range(20))
    assert favoured > 60  # of 160 atoms: O can't be all


def test_a_stoichiometry_holds_atom_by_atom() -> None:
    config = SampleConfig(stoichiometry="Sr,Na:Ti,Mn,Fe:O,S,Cl = 1:1:3", charge_balanced=True)
    wanted = wanted_of(config)
    assert wanted is not None
    for seed in range(10):
        found = chain(config, 10, seed, slots=[0, 1, 2, 2, 2] * 2)
        assert not wanted.failure(found)


def test_compositions_that_are_known_are_not_drawn() -> None:
    config = SampleConfig(known="mp", n_elements=2, charge_balanced=True)
    wanted = wanted_of(config)
    assert wanted is not None
    assert wanted.failure({Z_OF["Na"]: 3, Z_OF["Cl"]: 3}) == "novel"
    failures = Counter(wanted.failure(chain(config, 7, seed)) for seed in range(20))
    assert failures[""] >= 18


def test_atoms_of_an_orbit_have_one_element() -> None:
    perovskite = ALL[2]
    template, _ = template_of(
        perovskite.lattice[0], perovskite.frac_coords, perovskite.atomic_numbers, 0.01
    )
    config = SampleConfig(n_elements=3, charge_balanced=True)
    wanted = wanted_of(config)
    assert wanted is not None
    for seed in range(10):
        rng = np.random.default_rng(seed)
        steering = Steering(wanted, ELEMENTS, template, np.full(5, -1), rng)
        logits = np.random.default_rng(seed).normal(size=(3, len(ELEMENTS)))[template.orbit]
        types = steering(np.zeros(5, dtype=np.int64), logits, np.ones(5, dtype=bool))
        for orbit in range(3):
            assert len(set(types[template.orbit == orbit].tolist())) == 1
        assert not wanted.failure(Counter(ELEMENTS[k - 1] for k in types.tolist()))


def test_a_batch_is_its_chains() -> None:
    config = SampleConfig(n_elements=3)
    wanted = wanted_of(config)
    assert wanted is not None

    def chains() -> list[Steering]:
        streams = [np.random.default_rng(k) for k in range(2)]
        return [Steering(wanted, ELEMENTS, None, np.full(4 + k, -1), streams[k]) for k in range(2)]

    logits = torch.randn(2, 5, len(ELEMENTS), generator=torch.Generator().manual_seed(0))
    types = torch.zeros(2, 5, dtype=torch.long)
    shown = torch.tensor([[True] * 4 + [False], [True] * 5])
    found = steered(chains(), types, logits, shown)
    alone = [
        one(types[k, : 4 + k].numpy(), logits[k, : 4 + k].double().numpy(), np.ones(4 + k, bool))
        for k, one in enumerate(chains())
    ]
    assert found[0].tolist() == [*alone[0].tolist(), 0]
    assert found[1].tolist() == alone[1].tolist()


HEADER = models.header(Crystals.concatenate([*ALL] * 3))


def drawn(**settings: object) -> Bundle:
    config = SampleConfig(n=8, steps=4, **settings)  # type: ignore[arg-type]
    model = models.model(HEADER, torch.float32)
    experiment = Experiment(name="few", sample=config, seed=1)
    return _draw((model, HEADER, None), experiment, range(8))


def test_samples_are_as_asked_and_their_draws_are_counted() -> None:
    found = drawn(n_elements=(2, 3), charge_balanced=True, n_atoms=(4, 5, 6))
    assert found.n_entries == 8
    assert len(found) >= 7
    assert (found.columns[DRAWS].values >= 1).all()
    config = SampleConfig(n_elements=(2, 3), charge_balanced=True)
    chemistry = config.chemistry()
    for one in found.crystals:
        assert not chemistry.failure(Counter(one.atomic_numbers.tolist()))
    again = drawn(n_elements=(2, 3), charge_balanced=True, n_atoms=(4, 5, 6))
    assert again.crystals.reduced_formulas() == found.crystals.reduced_formulas()


def test_what_misses_again_and_again_is_a_reject(tmp_path: Path) -> None:
    metals = ("Na", "Sr", "Ti", "Cu")
    found = drawn(elements_allowed=metals, n_elements=2, charge_balanced=True, n_atoms=2)
    odd = [one.reason for one in found.rejects]
    assert all(one == f"{MISSED}: charge_balanced" for one in odd)
    assert len(odd) == 8  # metals alone are an alloy
    write_bundle(tmp_path / "none.h5", found)
    assert chains_of(tmp_path / "none.h5") == 8 * MAX_DRAWS
