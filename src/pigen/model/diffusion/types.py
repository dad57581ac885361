"""Atom types A: absorbing categorical diffusion. Each atom is masked with probability t.

Types are class indices: 0 is the mask, 1 … E are the elements of the model's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Steer = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From types (…,), logits (…, E) and which atoms are revealed (…,) to types with these drawn."""

MASK = 0
"""Class of an atom whose element is not known yet."""


def corrupt(types: Tensor, t: Tensor, uniform: Tensor) -> Tensor:
    """Mask each type with probability t; ``uniform`` in [0, 1) has the shape of ``types``."""
    return torch.where(uniform < t, torch.full_like(types, MASK), types)


def reverse_step(
    types: Tensor,
    logits: Tensor,
    t: Tensor,
    t_next: Tensor,
    reveal: Tensor,
    choose: Tensor,
    steer: Steer | None = None,
) -> Tensor:
    """Reveal each masked atom with probability (t − t_next)/t and draw its element.

    Args:
        types: (…,) classes, 0 where masked. ``logits``: (…, E) over classes 1 … E.
        t: time, ``t_next`` < t: the next one; they broadcast against ``types``.
        reveal: uniforms in [0, 1), shape of ``types``; ``choose`` likewise, inverted through the
            cumulated probabilities, so that the draw is a function of the number alone.
        steer: draws in their place, if given.
    """
    shown = (types == MASK) & (reveal * t < t - t_next)
    if steer is not None:
        return steer(types, logits, shown)
    cumulated = torch.softmax(logits.double(), dim=-1).cumsum(-1)
    drawn = (cumulated <= choose.double()[..., None] * cumulated[..., -1:]).sum(-1)
    drawn = drawn.clamp(max=logits.shape[-1] - 1) + 1
    return torch.where(shown, drawn.to(types.dtype), types)
