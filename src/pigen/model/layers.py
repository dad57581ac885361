"""Blocks of the denoiser: dense equivariant messages and gated node updates.

Node features are irreps ``S x 0e + V x 1o`` kept as two tensors: scalars (B, m, S) and vectors
(B, m, 3, V). All blocks are linear in vectors up to scalar gates, so O(3), reflections included,
acts on them as it should.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pigen.model.nodes import Nodes


@dataclass(frozen=True)
class PairMatrices:
    """The pair basis laid out for batched products, from `pair_basis` (B, n, n, 9, K).

    Rows are those of the m nodes that receive, columns the m nodes that send. Where a node stands
    for an orbit, its column is the sum over the atoms of that orbit.

    Attributes:
        nodes: what is computed.
        scalar_rows: (B, m·K, m): rows (i, k), columns j; l = 0.
        vector_rows: (B, m·3·K, m): rows (i, x, k), columns j; l = 1.
        contract_rows: (B, m·K, m·3): l = 1 contracted with a vector on j.
        tensor_rows: (B, m·5·K, m): l = 2.
        carried_rows: (B, m·3·K, m·3): l = 0 times a vector on j, carried to each atom of its
            orbit; None where nodes are atoms: ``scalar_rows`` do it for each component.
    """

    nodes: Nodes
    scalar_rows: Tensor
    vector_rows: Tensor
    contract_rows: Tensor
    tensor_rows: Tensor
    carried_rows: Tensor | None = None

    @classmethod
    def of(cls, basis: Tensor, nodes: Nodes, dtype: torch.dtype) -> PairMatrices:
        """Lay out a basis, for products in ``dtype``."""
        b, n, _, _, k = basis.shape
        if nodes.orbits is None:
            m, columns, vectors = n, None, None
        else:
            basis = nodes.take(basis)
            m, columns = basis.shape[1], nodes.orbits.members
            turned = nodes.orbits.turned[..., None, :] * columns[:, :, None, :, None]
            vectors = turned.reshape(b, n * 3, m * 3)  # rows (j, x), columns (node, y)
        l0, l1, l2 = basis[..., 0, :], basis[..., 1:4, :], basis[..., 4:, :]

        def laid(rows: Tensor, summed: Tensor | None) -> Tensor:
            return (rows if summed is None else rows @ summed).to(dtype)

        scalar = l0.permute(0, 1, 3, 2).reshape(b, m * k, n)
        carried = None
        if vectors is not None:
            each = scalar @ vectors.view(b, n, 9 * m)
            ordered = each.view(b, m, k, 3, m, 3).permute(0, 1, 3, 2, 4, 5)
            carried = ordered.reshape(b, m * 3 * k, m * 3).to(dtype)
        return cls(
            nodes=nodes,
            scalar_rows=laid(scalar, columns),
            vector_rows=laid(l1.permute(0, 1, 3, 4, 2).reshape(b, m * 3 * k, n), columns),
            contract_rows=laid(l1.permute(0, 1, 4, 2, 3).reshape(b, m * k, n * 3), vectors),
            tensor_rows=laid(l2.permute(0, 1, 3, 4, 2).reshape(b, m * 5 * k, n), columns),
            carried_rows=carried,
        )


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
        """Messages (B, m, S) and (B, m, 3, V) for features s (B, m, S), v (B, m, 3, V)."""
        return self.receive(self.send_scalar(s), self.send_vector(v), pairs)

    def receive(self, x: Tensor, y: Tensor, pairs: PairMatrices) -> tuple[Tensor, Tensor]:
        """Messages from what is sent, x (B, m, M) and y (B, m, 3, M)."""
        b, m, channels = x.shape
        flat = y.reshape(b, m * 3, channels)
        scalar_x = torch.bmm(pairs.scalar_rows, x).view(b, m, -1)
        scalar_y = torch.bmm(pairs.contract_rows, flat).view(b, m, -1)
        vector_x = torch.bmm(pairs.vector_rows, x).view(b, m, 3, -1)
        # Half of the weights for each path: joining the paths would copy the largest tensors here.
        from_x, from_y = self.to_scalar.weight.chunk(2, dim=1)
        scalars = linear(scalar_x, from_x, self.to_scalar.bias) + linear(scalar_y, from_y)
        from_x, from_y = self.to_vector.weight.chunk(2, dim=1)
        if pairs.carried_rows is None:
            each = torch.matmul(pairs.scalar_rows[:, None], y.transpose(1, 2)).view(b, 3, m, -1)
            carried = linear(each, from_y).transpose(1, 2)
        else:
            carried = linear(torch.bmm(pairs.carried_rows, flat).view(b, m, 3, -1), from_y)
        return scalars, linear(vector_x, from_x) + carried


def vector_rms_norm(v: Tensor) -> Tensor:
    """Scale each node's vectors (B, m, 3, V) to unit root mean square; unbounded ones blow up."""
    return v * torch.rsqrt((v**2).sum(-2, keepdim=True).mean(-1, keepdim=True) + 1e-4)


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
        self, s: Tensor, v: Tensor, pairs: PairMatrices, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New features (B, m, S) and (B, m, 3, V); condition (B, condition)."""
        nodes = pairs.nodes
        scale, shift = self.modulate(condition)[:, None].chunk(2, dim=-1)
        # The sums over layers stay in single precision; what enters the products needn't.
        s_in = (self.norm(s) * (1 + scale) + shift).to(pairs.scalar_rows.dtype)
        v_in = vector_rms_norm(v).to(pairs.scalar_rows.dtype)
        m_s, m_v = self.messages(s_in, v_in, pairs)
        m_v = nodes.project(m_v)
        combined = v_in + m_v
        dots = (self.dots_left(combined) * self.dots_right(combined)).sum(-2) / sqrt(3)
        overall = nodes.mean(s_in)[:, None].expand_as(s_in)
        update = self.mlp(torch.cat([s_in, m_s, dots, overall], dim=-1))
        ds, gate, keep = update.split([s.shape[-1], self.vectors, self.vectors], dim=-1)
        dv = gate[:, :, None] * m_v + keep[:, :, None] * self.mix(v_in)
        real = nodes.real[..., None].to(s.dtype)
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
