"""Invariant noise in, invariant states out: corruption, network and sampler step, in float64."""

from __future__ import annotations

from dataclasses import replace

import models
import numpy as np
import pytest
import torch
from symmetric_crystals import SYMMETRIC, farthest

from pigen.crystal.crystals import Crystals
from pigen.crystal.templates import Template, templates_of
from pigen.model.data import SymmetricData, TrainingData
from pigen.model.diffusion import lattice
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.reverse import Draws, reverse_chain
from pigen.model.diffusion.state import Given, Noised
from pigen.model.layers import PairMatrices
from pigen.model.loss import (
    Clean,
    Corruption,
    GivenShares,
    NoisedBatch,
    losses,
    noised_vector,
)
from pigen.model.nodes import Nodes
from pigen.model.pairs import pair_basis

CRYSTALS = Crystals.concatenate(list(SYMMETRIC.values()))
TEMPLATES, IDEAL = templates_of(CRYSTALS)
HEADER = models.header(CRYSTALS)
MODEL = models.model(HEADER)
ROWS = torch.arange(len(CRYSTALS))


def clean(symmetric: bool = True) -> tuple[Clean, torch.Tensor]:
    labels = models.labels_of(CRYSTALS)
    data = TrainingData.of(CRYSTALS, labels, HEADER.spec, torch.float64)
    symmetry = SymmetricData.of(CRYSTALS, TEMPLATES, IDEAL, HEADER.spec, torch.float64)
    chosen = torch.full((len(CRYSTALS),), symmetric)
    return replace(data, symmetry=symmetry).batch(ROWS, chosen)


def noised(shares: GivenShares | None = None, seed: int = 0) -> tuple[NoisedBatch, torch.Tensor]:
    batch, labels = clean()
    generator = torch.Generator().manual_seed(seed)
    made = NoisedBatch.make(batch, labels, HEADER.spec.lattice, HEADER.diffusion, generator, shares)
    return made, labels


def asymmetry(types: torch.Tensor, frac: torch.Tensor, cells: torch.Tensor) -> tuple[float, float]:
    """Largest departure of a batch from the templates' groups: coordinates, relative metric."""
    coords = metrics = 0.0
    for row, template in enumerate(TEMPLATES):
        assert template is not None
        n = template.n_atoms
        kinds = types[row, :n].numpy().astype(np.uint8)
        coords = max(coords, farthest(template, frac[row, :n].numpy(), kinds))
        metric = (cells[row] @ cells[row].T).numpy()
        for rotation in template.rotations.astype(float):
            step = np.abs(rotation.T @ metric @ rotation - metric).max() / np.abs(metric).max()
            metrics = max(metrics, float(step))
    return coords, metrics


@pytest.mark.parametrize("seed", range(3))
def test_noise_keeps_the_group(seed: int) -> None:
    batch, _ = noised(seed=seed)
    state = batch.noised
    assert max(asymmetry(state.types, state.frac, state.lattice)) < 1e-9
    moved = (state.frac - batch.clean.frac)[batch.clean.mask]
    assert float((moved - moved.round()).abs().max()) > 0.1


def test_noise_with_parts_given_keeps_the_group_and_the_parts() -> None:
    for seed in range(6):
        batch, _ = noised(GivenShares(0.3, 0.3, 0.4), seed)
        state, true = batch.noised, batch.clean
        assert state.given is not None
        assert max(asymmetry(state.types, state.frac, state.lattice)) < 1e-9
        held = state.given.coords
        step = (state.frac - true.frac)[held]
        torch.testing.assert_close(step, step.round(), rtol=0, atol=1e-12)
        torch.testing.assert_close(state.types[state.given.types], true.types[state.given.types])
        torch.testing.assert_close(state.shape[state.given.cell], true.y[state.given.cell, 1:])


def test_the_volume_is_as_drawn_and_the_noise_leads_to_the_state() -> None:
    batch, labels = noised()
    free = Corruption.draw(clean()[0], torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.draw.lattice[:, 0], free.lattice[:, 0])
    scale, config = HEADER.spec.lattice, HEADER.diffusion
    tau = (batch.draw.t**config.time_power)[:, None]
    velocity = lattice.velocity(batch.clean.y, batch.draw.lattice, tau)
    back = lattice.clean_estimate(noised_vector(batch.noised, scale), velocity, tau)
    torch.testing.assert_close(back, batch.clean.y)
    found = losses(
        MODEL(batch.noised, labels),
        batch.noised,
        batch.clean,
        batch.draw,
        scale=scale,
        cubed_radii=HEADER.spec.cubed_radii(batch.clean.frac),
        config=config,
    )
    assert all(bool(torch.isfinite(part)) for part in vars(found).values())


def test_the_network_keeps_the_group() -> None:
    batch, labels = noised(GivenShares(0.2, 0.2, 0.2))
    symmetry = batch.clean.symmetry
    assert symmetry is not None
    first = MODEL(batch.noised, labels)
    found = MODEL(batch.noised, labels, first)
    mask = batch.clean.mask
    torch.testing.assert_close(
        found.logits[mask], symmetry.shared(found.logits)[mask], rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        found.coords[mask], symmetry.steps(found.coords)[mask], rtol=0, atol=1e-9
    )
    assert float(found.coords.abs().max()) > 1e-3


@pytest.mark.parametrize("shares", [None, GivenShares(0.2, 0.2, 0.2)])
@pytest.mark.parametrize("free", [(), (0, 4)])
def test_one_atom_of_each_orbit_is_enough(
    shares: GivenShares | None, free: tuple[int, ...]
) -> None:
    batch, labels = noised(shares)
    state = batch.noised
    assert state.symmetry is not None
    kept = state.symmetry.symmetric.clone()
    kept[list(free)] = False
    frac = state.frac.clone()
    frac[list(free)] += 0.05 * torch.rand(len(free), *frac.shape[1:], dtype=frac.dtype)
    place = torch.arange(state.mask.shape[1])
    source = torch.where(kept[:, None], state.symmetry.source, place)
    symmetry = replace(state.symmetry, symmetric=kept, source=source)
    state = replace(state, frac=frac, symmetry=symmetry)
    nodes = Nodes.of(state)
    assert nodes.orbits is not None
    assert nodes.weights.shape[1] < len(place)
    every = Nodes.of(replace(state, symmetry=None))
    every = replace(every, allowed=symmetry.allowed(state.lattice))
    config = MODEL.config
    basis = pair_basis(
        state.frac, state.lattice, state.mask, cutoff=config.cutoff, radial=config.radial
    )
    pairs = PairMatrices.of(0.3 * basis, every, basis.dtype)
    guess = None
    for _ in range(2):
        few, all_of_them = MODEL(state, labels, guess), MODEL(state, labels, guess, pairs)
        torch.testing.assert_close(few.logits[state.mask], all_of_them.logits[state.mask])
        torch.testing.assert_close(few.coords, all_of_them.coords, rtol=0, atol=1e-10)
        torch.testing.assert_close(few.lattice, all_of_them.lattice, rtol=0, atol=1e-10)
        guess = all_of_them


def test_without_rounding_the_sites_would_need_no_projector() -> None:
    batch, labels = noised()
    shallow = models.model(models.header(CRYSTALS, replace(models.CONFIG, layers=1)))
    with_it = shallow(batch.noised, labels)
    without = shallow(replace(batch.noised, symmetry=None), labels)
    torch.testing.assert_close(with_it.coords, without.coords, rtol=0, atol=1e-7)
    real = batch.clean.mask
    torch.testing.assert_close(with_it.logits[real], without.logits[real], rtol=0, atol=1e-7)
    torch.testing.assert_close(with_it.lattice, without.lattice, rtol=0, atol=1e-7)


def draws(steps: int, template_frac: torch.Tensor) -> Draws:
    b, n, _ = template_frac.shape
    generator = torch.Generator().manual_seed(1)
    normal = {
        "y": torch.randn(b, 6, generator=generator, dtype=torch.float64),
        "coord_noise": torch.randn(steps, b, n, 3, generator=generator, dtype=torch.float64),
        "lattice_noise": torch.randn(steps, b, 6, generator=generator, dtype=torch.float64),
    }
    reveal, choose = torch.rand(2, steps, b, n, generator=generator, dtype=torch.float64)
    return Draws(frac=template_frac, reveal=reveal, choose=choose, **normal)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_state_of_a_chain_keeps_the_group(eta: float) -> None:
    batch, labels = clean()
    symmetry = batch.symmetry
    assert symmetry is not None
    worst = [0.0]

    def predict(state: Noised, guess: object) -> object:
        worst.extend(asymmetry(state.types, state.frac, state.lattice))
        return MODEL(state, labels, guess)  # type: ignore[arg-type]

    found = reverse_chain(
        predict,  # type: ignore[arg-type]
        torch.zeros_like(batch.types),
        batch.mask,
        draws(8, batch.frac),
        scale=HEADER.spec.lattice,
        config=HEADER.diffusion,
        eta=eta,
        sharpness=1.5,
        symmetry=symmetry,
    )
    assert max(worst) < 1e-9
    assert max(asymmetry(found.types, found.frac, found.lattice)) < 1e-9
    assert bool((found.types[batch.mask] > 0).all())


def test_a_free_crystal_beside_symmetric_ones_is_as_it_is_alone() -> None:
    batch, _ = clean(symmetric=False)
    symmetric, _ = clean()
    assert symmetric.symmetry is not None
    some = replace(symmetric.symmetry, symmetric=ROWS < 3)
    mixed = replace(batch, symmetry=some)
    draw = Corruption.draw(batch, torch.Generator().manual_seed(0))
    scale, config = HEADER.spec.lattice, HEADER.diffusion
    kept = draw.keeping(mixed, None, scale, config)
    torch.testing.assert_close(kept.coords[3:], draw.coords[3:])
    torch.testing.assert_close(kept.lattice[3:], draw.lattice[3:])
    torch.testing.assert_close(kept.types[3:], draw.types[3:])


def test_nothing_given_and_no_symmetry_is_what_the_network_did_before() -> None:
    batch, labels = clean(symmetric=False)
    state = NoisedBatch.make(
        batch, labels, HEADER.spec.lattice, HEADER.diffusion, torch.Generator().manual_seed(2)
    ).noised
    plain = replace(state, symmetry=None)
    none = torch.zeros_like(plain.mask)
    given = Given(types=none, coords=none, cell=none[:, 0])
    a, b = MODEL(plain, labels), MODEL(replace(plain, given=given), labels)
    c = MODEL(state, labels)
    for one in (b, c):
        torch.testing.assert_close(one.coords, a.coords)
        torch.testing.assert_close(one.logits, a.logits)
        torch.testing.assert_close(one.lattice, a.lattice)


def test_an_invariance_of_templates_is_that_of_the_training_data() -> None:
    batch, _ = clean()
    from_data = batch.symmetry
    assert from_data is not None
    templates: list[Template | None] = list(TEMPLATES)
    made = Invariance.of(templates, batch.mask.shape[1], batch.frac)
    mask = batch.mask
    for name in ("source", "turns", "sites"):
        torch.testing.assert_close(getattr(made, name)[mask], getattr(from_data, name)[mask])
    torch.testing.assert_close(made.metric_mean, from_data.metric_mean)
