"""Guidance: predictions that lean towards targets, and away from elements that are not allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from pigen.config import SampleConfig
from pigen.model.checkpoint import Header
from pigen.model.diffusion.state import Noised, Prediction
from pigen.model.network import Denoiser
from pigen.model.request import Plan


def guided(
    model: Denoiser, header: Header, config: SampleConfig, plans: list[Plan]
) -> Callable[[Noised, Prediction | None], Prediction]:
    """The predictor ε* = (1 + g) ε(z|q) − g ε(z), both passes in one call of the network.

    Guidance acts on types (logits), coordinates and lattice alike. Without targets, at g = 0, and
    outside the guidance interval (Kynkäänniemi et al., arXiv:2404.07724), one pass is enough.
    """
    parameter = next(model.parameters())
    raw = np.stack([p.targets for p in plans])
    labels = torch.as_tensor(
        header.spec.standardise(raw), dtype=parameter.dtype, device=parameter.device
    )
    banned = _banned(header, config, parameter)
    g = config.guidance if bool((~torch.isnan(labels)).any()) else 0.0
    first, last = config.guidance_interval

    def predict(noised: Noised, guess: Prediction | None) -> Prediction:
        if g == 0.0 or not first <= float(noised.t[0]) <= last:
            found = model(noised, labels, guess)
        else:
            both = model(
                _twice(noised),
                torch.cat([labels, torch.full_like(labels, float("nan"))]),
                None if guess is None else _twice(guess),
                _twice(model.geometry(noised)),
            )
            found = Prediction(
                *(
                    (1 + g) * x[: len(labels)] - g * x[len(labels) :]
                    for x in (both.logits, both.coords, both.lattice)
                )
            )
        return Prediction(found.logits + banned, found.coords, found.lattice)

    return predict


_Batch = TypeVar("_Batch")


def _twice(batch: _Batch) -> _Batch:
    """Tensors, None, or dataclasses of them, each beside itself."""
    twice: Any = batch
    if isinstance(batch, Tensor):
        twice = torch.cat([batch, batch])
    elif batch is not None:
        twice = type(batch)(**{k: _twice(x) for k, x in vars(batch).items()})
    return cast(_Batch, twice)


def _banned(header: Header, config: SampleConfig, like: Tensor) -> Tensor:
    """Added to logits: 0 for the elements allowed, a large negative number for the others."""
    values = torch.zeros(len(header.spec.elements), dtype=like.dtype, device=like.device)
    allowed = config.chemistry().allowed
    for place, z in enumerate(header.spec.elements):
        if z not in allowed:
            values[place] = -1e4
    return values
