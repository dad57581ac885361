"""Blocks of the denoiser: dense equivariant messages and gated node updates.

Node features are irreps ``S x 0e + V x 1o`` kept as two tensors: scalars (B, n, S) and vectors
(B, n, 3, V). All blocks are linear in vectors up to scalar gates, so O(3), reflections included,
acts on them as it should.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@dataclass(frozen=True)
class PairMatrices:
    """The pair basis laid out for batched products, from `pair_basis` (B, n, n, 9, K).

    Attributes:
        scalar_rows: (B, n·K, n): rows (i, k), columns j; l = 0.
        vector_rows: (B, n·3·K, n): rows (i, m, k), columns j; l = 1.
        contract_rows: (B, n·K, n·3): l = 1 contracted with a vector on j.
        tensor_rows: (B, n·5·K, n): l = 2.
        allowed: (B, n, 3, 3) projectors of vectors on atom i, None where all are allowed.
    """

    scalar_rows: Tensor
    vector_rows: Tensor
    contract_rows: Tensor
    tensor_rows: Tensor
    allowed: Tensor | None = None

    @classmethod
    def of(cls, basis: Tensor, allowed: Tensor | None = None) -> PairMatrices:
        """Lay out a basis."""
        b, n, _, _, k = basis.shape
        l0, l1, l2 = basis[..., :1, :], basis[..., 1:4, :], basis[..., 4:, :]
        return cls(
            scalar_rows=l0[..., 0, :].permute(0, 1, 3, 2).reshape(b, n * k, n),
            vector_rows=l1.permute(0, 1, 3, 4, 2).reshape(b, n * 3 * k, n),
            contract_rows=l1.permute(0, 1, 4, 2, 3).reshape(b, n * k, n * 3),
            tensor_rows=l2.permute(0, 1, 3, 4, 2).reshape(b, n * 5 * k, n),
            allowed=None if allowed is None else allowed.to(basis.dtype),
        )

    def project(self, v: Tensor) -> Tensor:
        """Vectors (B, n, 3, V) without what the atoms' sites forbid."""
        return v if self.allowed is None else self.allowed @ v


class Messages(nn.Module):
    """Sum over neighbours of (radial filter x harmonic) ⊗ sender, for l ≤ 1 in and out.

    Paths: 0⊗0→0, 1·1→0, 1⊗0→1 and 0⊗1→1; filters mix radial functions and sender channels.
    """

    def __init__(self, scalars: int, vectors: int, channels: int, radial: int) -> None:
        """``channels`` sender channels of either kind."""
        super().__init__()
        self.channels = channels
        self.send_scalar = nn.Linear(scalars, channels)
        self.send_vector = nn.Linear(vectors, channels, bias=False)
        self.to_scalar = nn.Linear(2 * radial * channels, scalars)
        self.to_vector = nn.Linear(2 * radial * channels, vectors, bias=False)

    def forward(self, s: Tensor, v: Tensor, pairs: PairMatrices) -> tuple[Tensor, Tensor]:
        """Messages (B, n, S) and (B, n, 3, V) for features s (B, n, S), v (B, n, 3, V)."""
        return self.receive(self.send_scalar(s), self.send_vector(v), pairs)

    def receive(self, x: Tensor, y: Tensor, pairs: PairMatrices) -> tuple[Tensor, Tensor]:
        """Messages from what is sent, x (B, n, M) and y (B, n, 3, M)."""
        b, n, m = x.shape
        scalar_x = torch.bmm(pairs.scalar_rows, x).view(b, n, -1)
        scalar_y = torch.bmm(pairs.contract_rows, y.reshape(b, n * 3, m)).view(b, n, -1)
        vector_x = torch.bmm(pairs.vector_rows, x).view(b, n, 3, -1)
        vector_y = torch.matmul(pairs.scalar_rows[:, None], y.transpose(1, 2)).view(b, 3, n, -1)
        # Half of the weights for each path: joining the paths would copy the largest tensors here.
        from_x, from_y = self.to_scalar.weight.chunk(2, dim=1)
        scalars = linear(scalar_x, from_x, self.to_scalar.bias) + linear(scalar_y, from_y)
        from_x, from_y = self.to_vector.weight.chunk(2, dim=1)
        vectors = linear(vector_x, from_x) + linear(vector_y, from_y).transpose(1, 2)
        return scalars, vectors


def vector_rms_norm(v: Tensor) -> Tensor:
    """Scale each node's vectors (B, n, 3, V) to unit root mean square; unbounded ones blow up."""
    return v * torch.rsqrt((v**2).sum(-2, keepdim=True).mean(-1, keepdim=True) + 1e-4)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real atoms of (B, n, …); mask (B, n)."""
    weights = mask.to(x.dtype) / mask.sum(1, keepdim=True).clamp_min(1)
    return torch.einsum("bn...,bn->b...", x, weights)


class Layer(nn.Module):
    """Messages, then a gated update of every node under the condition (time, labels)."""

    def __init__(
        self, *, scalars: int, vectors: int, messages: int, radial: int, condition: int
    ) -> None:
        """Widths of the features and of the condition vector."""
        super().__init__()
        self.vectors = vectors
        self.norm = nn.LayerNorm(scalars, elementwise_affine=False)
        self.modulate = nn.Linear(condition, 2 * scalars)
        self.messages = Messages(scalars, vectors, messages, radial)
        self.dots_left = nn.Linear(vectors, vectors, bias=False)
        self.dots_right = nn.Linear(vectors, vectors, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(3 * scalars + vectors, 2 * scalars),
            nn.SiLU(),
            nn.Linear(2 * scalars, scalars + 2 * vectors),
        )
        self.mix = nn.Linear(vectors, vectors, bias=False)

    def forward(
        self, s: Tensor, v: Tensor, pairs: PairMatrices, condition: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New features; condition (B, condition), mask (B, n)."""
        scale, shift = self.modulate(condition)[:, None].chunk(2, dim=-1)
        # The sums over layers stay in single precision; what enters the products needn't.
        s_in = (self.norm(s) * (1 + scale) + shift).to(pairs.scalar_rows.dtype)
        v_in = vector_rms_norm(v).to(pairs.scalar_rows.dtype)
        m_s, m_v = self.messages(s_in, v_in, pairs)
        m_v = pairs.project(m_v)
        combined = v_in + m_v
        dots = (self.dots_left(combined) * self.dots_right(combined)).sum(-2) / sqrt(3)
        overall = masked_mean(s_in, mask)[:, None].expand_as(s_in)
        update = self.mlp(torch.cat([s_in, m_s, dots, overall], dim=-1))
        ds, gate, keep = update.split([s.shape[-1], self.vectors, self.vectors], dim=-1)
        dv = gate[:, :, None] * m_v + keep[:, :, None] * self.mix(v_in)
        real = mask[..., None].to(s.dtype)
        return (s + ds) * real, (v + dv) * real[..., None]


class TimeEmbedding(nn.Module):
    """Sines and cosines of t in [0, 1], (B,) → (B, size)."""

    def __init__(self, size: int) -> None:
        """``size`` must be even."""
        super().__init__()
        frequencies = torch.exp(torch.linspace(0.0, 5.5, size // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(self, t: Tensor) -> Tensor:
        """Embed times (B,)."""
        angle = t[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class LabelEmbedding(nn.Module):
    """Sum of one learned embedding per label; a missing (NaN) label uses a learned null vector."""

    def __init__(self, n_labels: int, size: int) -> None:
        """For ``n_labels`` standardised labels."""
        super().__init__()
        self.n_labels = n_labels
        self.register_buffer("centres", torch.linspace(-3.0, 3.0, 13), persistent=False)
        self.centres: Tensor
        self.weight = nn.Parameter(torch.randn(n_labels, 14, size) / sqrt(14))
        self.null = nn.Parameter(torch.randn(n_labels, size) / sqrt(14))

    def forward(self, labels: Tensor) -> Tensor:
        """Embed (B, n_labels) standardised labels, NaN where missing or dropped, to (B, size)."""
        known = ~torch.isnan(labels)
        value = torch.where(known, labels, torch.zeros_like(labels)).clamp(-4.0, 4.0)
        bumps = torch.exp(-2.0 * (value[..., None] - self.centres) ** 2)
        features = torch.cat([bumps, value[..., None]], dim=-1)
        embedded = torch.einsum("bli,lio->blo", features, self.weight)
        return torch.where(known[..., None], embedded, self.null).sum(1)
