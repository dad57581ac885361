"""Small models and noised batches of real crystals for the tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from real_crystals import ALL

from pigen.config import DiffusionConfig, ModelConfig
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.model.checkpoint import Header
from pigen.model.data import TrainingData
from pigen.model.diffusion.state import Noised
from pigen.model.loss import Clean, Corruption, add_noise
from pigen.model.network import Denoiser
from pigen.model.spec import ModelSpec

CRYSTALS = niggli(Crystals.concatenate(ALL))
CONFIG = ModelConfig(scalars=24, vectors=12, messages=6, layers=2, radial=8)


def labels_of(crystals: Crystals, seed: int = 0) -> NDArray[np.float64]:
    """Made-up values of the four labels, some of them missing."""
    labels = np.random.default_rng(seed).normal(size=(len(crystals), 4))
    labels[::3, 2] = np.nan
    return labels


def header(crystals: Crystals = CRYSTALS, config: ModelConfig = CONFIG) -> Header:
    spec = ModelSpec.fit(crystals, config.labels, labels_of(crystals)[:, : len(config.labels)])
    return Header(config, DiffusionConfig(), spec, {"epochs": "0"})


def model(made: Header, dtype: torch.dtype = torch.float64, seed: int = 0) -> Denoiser:
    """Random weights, large enough that every path of the network matters."""
    torch.manual_seed(seed)
    found = Denoiser(made.model, len(made.spec.elements)).to(dtype)
    for added in (found.embed_given, found.embed_held):
        torch.nn.init.normal_(added.weight)
    return found.eval().requires_grad_(False)


def clean(made: Header, crystals: Crystals = CRYSTALS) -> tuple[Clean, torch.Tensor]:
    data = TrainingData.of(crystals, labels_of(crystals), made.spec, torch.float64)
    return data.batch(torch.arange(len(crystals)))


def noised(
    made: Header, crystals: Crystals = CRYSTALS, seed: int = 0
) -> tuple[Noised, Clean, Corruption, torch.Tensor]:
    """A float64 batch at random times, with what it was made from and its labels."""
    batch, labels = clean(made, crystals)
    draw = Corruption.draw(batch, torch.Generator().manual_seed(seed))
    return add_noise(batch, draw, made.spec.lattice, made.diffusion), batch, draw, labels


def turned(batch: Noised, by: torch.Tensor) -> Noised:
    """The same crystals in another orientation."""
    return replace(batch, lattice=batch.lattice @ by.mT)
