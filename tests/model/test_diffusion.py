"""Corruption processes against known answers; none of these tests needs a network."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from real_crystals import PEROVSKITE, QUARTZ

from pigen.config import DiffusionConfig
from pigen.model.diffusion import coords, lattice, types
from pigen.model.diffusion.lattice import UNSCALED, LatticeScale
from pigen.model.diffusion.reverse import Draws, reverse_chain
from pigen.model.diffusion.state import Noised, Prediction

SCALE = LatticeScale(mean=1.0, volume_sd=0.12, shape_sd=0.26)


def rotation(seed: int, improper: bool = False) -> torch.Tensor:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.linalg.det(q))
    return torch.from_numpy(-q if improper else q)


# -- coordinates ---------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [0.02, 0.2, 0.6, 1.2])
def test_wrapped_score_is_the_gradient_of_the_log_density(width: float) -> None:
    x = torch.linspace(-1.4, 1.4, 41, dtype=torch.float64, requires_grad=True)
    images = torch.arange(-20, 21, dtype=torch.float64)
    density = torch.exp(-0.5 * ((x[:, None] + images) / width) ** 2).sum(1)
    (gradient,) = torch.autograd.grad(density.log().sum(), x)
    found = coords.wrapped_score(x.detach(), torch.full_like(x, width))
    torch.testing.assert_close(found, width * gradient, rtol=1e-9, atol=1e-9)


def test_score_rms_in_both_limits() -> None:
    narrow = coords.score_rms(torch.tensor([0.001, 0.03], dtype=torch.float64))
    torch.testing.assert_close(narrow, torch.ones_like(narrow), rtol=1e-6, atol=1e-6)
    width = 0.9  # the density is 1 + 2 exp(-2π²σ²) cos(2πx), to leading order
    leading = width * 4 * pi * np.exp(-2 * pi**2 * width**2) / sqrt(2)
    wide = float(coords.score_rms(torch.tensor([width], dtype=torch.float64)))
    assert wide == pytest.approx(leading, rel=1e-3)


def test_noise_is_about_as_many_angstrom_in_small_and_large_cells() -> None:
    t = torch.tensor([0.5, 0.5])
    n = torch.tensor([1, 20])
    width = coords.sigma(t, n, 0.012, 0.65)
    edge = (19.0 * n) ** (1 / 3)
    assert float(width[0] * edge[0]) == pytest.approx(float(width[1] * edge[1]), rel=1e-5)


# -- lattice -------------------------------------------------------------------------------------
@pytest.mark.parametrize("improper", [False, True])
def test_lattice_vector_ignores_orientation_and_gives_the_cell_back(improper: bool) -> None:
    cell = torch.from_numpy(QUARTZ.lattice.copy())
    n = torch.tensor([9])
    y = lattice.to_vector(cell, n, SCALE)
    turned = lattice.to_vector(cell @ rotation(3, improper).mT, n, SCALE)
    torch.testing.assert_close(turned, y)
    back = lattice.to_lattice(y, n, SCALE)
    torch.testing.assert_close(back, back.mT)
    torch.testing.assert_close(back @ back.mT, cell @ cell.mT)
    volume = torch.exp(lattice.log_volume(y, n, SCALE))
    torch.testing.assert_close(volume, torch.from_numpy(QUARTZ.volume.copy()))


def test_lattice_scale_standardises() -> None:
    rng = np.random.default_rng(0)
    cells = np.eye(3) * 5 + rng.normal(size=(500, 3, 3))
    n = rng.integers(1, 20, 500)
    scale = LatticeScale.fit(cells, n)
    y = lattice.to_vector(torch.from_numpy(cells), torch.from_numpy(n), scale)
    assert float(y[:, 0].mean()) == pytest.approx(0, abs=1e-9)
    assert float(y[:, 0].std()) == pytest.approx(1, abs=1e-9)
    assert float(y[:, 1:].std()) == pytest.approx(1, abs=1e-9)


def test_velocity_gives_the_clean_lattice_back_at_every_time() -> None:
    y0, noise = torch.randn(2, 7, 6, dtype=torch.float64)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    a, s = lattice.signal(t)
    v = lattice.velocity(y0, noise, t)
    torch.testing.assert_close(lattice.clean_estimate(a * y0 + s * noise, v, t), y0)


def test_lattice_signal_is_exact_near_zero_in_single_precision() -> None:
    _, s = lattice.signal(torch.tensor([1e-5]))
    assert float(s) == pytest.approx(pi / 2 * 1e-5, rel=1e-5)


# -- types ---------------------------------------------------------------------------------------
def test_types_are_masked_at_the_rate_of_their_time() -> None:
    clean = torch.full((20000,), 3)
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    masked = types.corrupt(clean, torch.tensor(0.3), uniform) == types.MASK
    assert float(masked.double().mean()) == pytest.approx(0.3, abs=0.01)


def test_types_are_drawn_with_the_probabilities_predicted_and_all_revealed_at_zero() -> None:
    n = 20000
    logits = torch.tensor([0.5, 0.2, 0.0, 0.3]).log().expand(n, 4)
    generator = torch.Generator().manual_seed(1)
    u, w = torch.rand(2, n, generator=generator)
    start = torch.zeros(n, dtype=torch.long)
    half = types.reverse_step(start, logits, torch.tensor(0.8), torch.tensor(0.2), u, w)
    assert float((half != 0).double().mean()) == pytest.approx(0.75, abs=0.01)
    drawn = types.reverse_step(start, logits, torch.tensor(0.5), torch.tensor(0.0), u, w)
    frequency = torch.bincount(drawn, minlength=5).double() / n
    expected = torch.tensor([0, 0.5, 0.2, 0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(frequency, expected, atol=0.01, rtol=0)
    assert frequency[0] == frequency[3] == 0


def test_revealed_types_stay() -> None:
    start = torch.tensor([0, 2, 1])
    zeros = torch.zeros(3)
    logits = torch.zeros(3, 4)
    after = types.reverse_step(start, logits, torch.tensor(0.5), torch.tensor(0.1), zeros, zeros)
    assert after[1:].tolist() == [2, 1]


# -- the chain -----------------------------------------------------------------------------------
class Analytic:
    """Exact predictor for data of independent parts.

    Types: probabilities p. Coordinates: wrapped normal about a centre. Lattice vector: normal.
    """

    centre, spread = 0.3, 0.06
    p = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    mean, sd = 0.4, 0.5

    def __init__(self, config: DiffusionConfig, scale: LatticeScale) -> None:
        self.config, self.scale = config, scale

    def __call__(self, noised: Noised, guess: Prediction | None) -> Prediction:
        n = noised.mask.sum(1)
        width = coords.sigma(noised.t, n, self.config.sigma_min, self.config.sigma_max)
        total = torch.sqrt(width**2 + self.spread**2)[:, None, None].expand_as(noised.frac)
        score = coords.wrapped_score(noised.frac - self.centre, total) / total
        scaled = -score * (width / coords.score_rms(width))[:, None, None]
        tau = noised.t**self.config.time_power
        y_t = lattice.to_vector(noised.lattice, n, self.scale)
        a, s = (x[:, None] for x in lattice.signal(tau))
        variance = a**2 * self.sd**2 + s**2
        y0 = self.mean + a * self.sd**2 / variance * (y_t - a * self.mean)
        noise = s / variance * (y_t - a * self.mean)
        logits = self.p.log().expand(*noised.types.shape, 3)
        return Prediction(logits, scaled, a * noise - s * y0)


def draws(b: int, n: int, steps: int, seed: int = 0) -> Draws:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    return Draws(
        uniform(b, n, 3),
        normal(b, 6),
        normal(steps, b, n, 3),
        normal(steps, b, 6),
        uniform(steps, b, n),
        uniform(steps, b, n),
    )


def test_the_chain_with_an_analytic_predictor_samples_the_data() -> None:
    b, n, config = 1500, 3, DiffusionConfig()
    mask = torch.ones(b, n, dtype=torch.bool)
    sampled = reverse_chain(
        Analytic(config, SCALE),
        torch.zeros(b, n, dtype=torch.long),
        mask,
        draws(b, n, 150),
        scale=SCALE,
        config=config,
        eta=1.0,
    )
    assert (sampled.types > 0).all()
    offset = sampled.frac - Analytic.centre
    offset = offset - torch.round(offset)
    assert float(offset.mean()) == pytest.approx(0, abs=0.003)
    assert float(offset.std()) == pytest.approx(Analytic.spread, rel=0.05)
    y = lattice.to_vector(sampled.lattice, mask.sum(1), SCALE)
    np.testing.assert_allclose(y.mean(0).numpy(), Analytic.mean, atol=0.05)
    np.testing.assert_allclose(y.std(0).numpy(), Analytic.sd, rtol=0.06)
    frequency = torch.bincount(sampled.types.flatten(), minlength=4)[1:].double() / (b * n)
    torch.testing.assert_close(frequency, Analytic.p, atol=0.02, rtol=0)


@pytest.mark.parametrize(("eta", "sharpness"), [(0.0, 1.0), (1.0, 1.0), (0.0, 1.5)])
def test_the_chain_finds_a_single_crystal(eta: float, sharpness: float) -> None:
    class Known(Analytic):
        centre, spread = 0.3, 1e-3
        p = torch.tensor([1e-12, 1.0, 1e-12], dtype=torch.float64)
        mean, sd = 0.4, 1e-3

    config = DiffusionConfig()
    sampled = reverse_chain(
        Known(config, SCALE),
        torch.zeros(4, 2, dtype=torch.long),
        torch.ones(4, 2, dtype=torch.bool),
        draws(4, 2, 60),
        scale=SCALE,
        config=config,
        eta=eta,
        sharpness=sharpness,
    )
    assert (sampled.types == 2).all()
    np.testing.assert_allclose(np.mod(sampled.frac.numpy(), 1.0), 0.3, atol=0.01)
    y = lattice.to_vector(sampled.lattice, torch.full((4,), 2), SCALE)
    np.testing.assert_allclose(y.numpy(), 0.4, atol=0.02)


def test_polar_factors() -> None:
    cell = torch.from_numpy(PEROVSKITE.lattice @ np.array([[1, 0.2, 0], [0, 1, 0.1], [0, 0, 1]]))
    log_p, frame = lattice.polar(cell)
    torch.testing.assert_close(frame @ frame.mT, torch.eye(3, dtype=torch.float64)[None])
    torch.testing.assert_close(torch.linalg.matrix_exp(log_p) @ frame, cell)
    assert lattice.to_vector(cell, torch.tensor([5]), UNSCALED).shape == (1, 6)
