"""The denoiser: predicts types, coordinates and lattice jointly from a noised crystal."""

from __future__ import annotations

from functools import lru_cache
from math import log, sqrt

import torch
from e3nn import o3
from torch import Tensor, nn

from pigen.config import ModelConfig
from pigen.model.diffusion.lattice import polar, traceless_basis
from pigen.model.diffusion.state import Noised, Prediction
from pigen.model.diffusion.types import MASK
from pigen.model.layers import (
    LabelEmbedding,
    Layer,
    PairMatrices,
    TimeEmbedding,
    vector_rms_norm,
)
from pigen.model.nodes import Nodes
from pigen.model.pairs import pair_basis

_TYPICAL_VOLUME = 19.0  # Å^3 per atom, centres the volume feature
_LATTICE_BOUND = 8.0  # in deviations; keeps a bad step from exploding the cell


class Denoiser(nn.Module):
    """Equivariant under O(3), translation and permutation; see the module tests for the proof.

    Coordinates and the traceless part of the lattice leave the network as Cartesian vectors and a
    Cartesian l = 2 tensor (a "virial" over all pairs); the lattice itself turns both into
    frame-independent numbers: vectors by L⁻¹, the tensor by the orthogonal factor of L.
    """

    def __init__(self, config: ModelConfig, n_elements: int) -> None:
        """For a vocabulary of ``n_elements`` elements (class 0 is the mask)."""
        super().__init__()
        self.config = config
        self.n_elements = n_elements
        s, v, m = config.scalars, config.vectors, config.messages
        self.embed_type = nn.Embedding(n_elements + 1, s)
        self.embed_time = TimeEmbedding(64)
        self.embed_labels = LabelEmbedding(len(config.labels), s)
        self.condition = nn.Sequential(
            nn.Linear(64 + s + 2, s), nn.SiLU(), nn.Linear(s, s), nn.SiLU()
        )
        self.embed_given = nn.Linear(3, s, bias=False)
        self.embed_held = nn.Linear(1, s, bias=False)
        self.guess_types = nn.Linear(n_elements, s)
        self.guess_lattice = nn.Linear(6, s)
        self.guess_coords = nn.Linear(1, v, bias=False)
        self.layers = nn.ModuleList(
            Layer(scalars=s, vectors=v, messages=m, radial=config.radial, condition=s)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(s)
        self.type_head = nn.Sequential(nn.Linear(2 * s, s), nn.SiLU(), nn.Linear(s, n_elements))
        self.copy_query = nn.Linear(s, 32)
        self.copy_key = nn.Linear(s, 32)
        self.coord_gate = nn.Linear(s, v)
        self.coord_head = nn.Linear(v, 1, bias=False)
        self.tensor_send = nn.Linear(s, m // 2)
        self.tensor_weight = nn.Linear(s, config.radial * (m // 2))
        self.lattice_head = nn.Sequential(nn.Linear(2 * s, s), nn.SiLU(), nn.Linear(s, 3))
        for module in (self.guess_types, self.guess_lattice, self.guess_coords):
            nn.init.normal_(module.weight, std=0.02)
        for module in (self.embed_given, self.embed_held):
            nn.init.zeros_(module.weight)

    def geometry(self, noised: Noised) -> PairMatrices:
        """What the network sees of coordinates and lattice; no gradient flows through it."""
        basis = pair_basis(
            noised.frac,
            noised.lattice,
            noised.mask,
            cutoff=self.config.cutoff,
            radial=self.config.radial,
        )
        device = basis.device.type
        lower = torch.is_autocast_enabled(device)
        # Sums in the basis' own precision; lower it once here, not in each product of each layer.
        dtype = torch.get_autocast_dtype(device) if lower else basis.dtype
        with torch.no_grad(), torch.autocast(device, enabled=False):
            # 0.3: about unit variance of a summed message
            return PairMatrices.of(basis * 0.3, Nodes.of(noised), dtype)

    def forward(
        self,
        noised: Noised,
        labels: Tensor,
        guess: Prediction | None = None,
        pairs: PairMatrices | None = None,
    ) -> Prediction:
        """Predict from a noised batch.

        Args:
            noised: the batch.
            labels: (B, n_labels) standardised, NaN where not given.
            guess: an earlier prediction for (almost) the same batch: self-conditioning.
            pairs: `geometry` of the batch, where the caller has it already.
        """
        config, mask, lattice = self.config, noised.mask, noised.lattice
        n_atoms = mask.sum(1).to(lattice.dtype)
        pairs = self.geometry(noised) if pairs is None else pairs
        length = torch.linalg.det(lattice).abs() ** (1 / 3)
        size = torch.stack(
            [3 * (length.log() - n_atoms.log() / 3) - log(_TYPICAL_VOLUME), n_atoms / 10], dim=1
        )
        nodes = pairs.nodes
        known, held = _given(noised)
        query = self.embed_labels(labels) + self.embed_given(known)
        time = self.embed_time(noised.t * (1 - known[:, 1]))  # that of the coordinates
        condition = self.condition(torch.cat([time, query, size], dim=1))

        types = nodes.take(noised.types)
        s = self.embed_type(types) + self.embed_held(nodes.take(held)[..., None])
        v = s.new_zeros(*s.shape[:2], 3, config.vectors)
        if guess is not None:
            s = s + self.guess_types(torch.softmax(nodes.take(guess.logits), -1))
            s = s + self.guess_lattice(guess.lattice)[:, None]
            cartesian = nodes.take(guess.coords) @ lattice / length[:, None, None]
            v = v + nodes.project(self.guess_coords(cartesian[..., None]))
        real = nodes.real[..., None].to(s.dtype)
        s, v = s * real, v * real[..., None]
        for layer in self.layers:
            s, v = layer(s, v, pairs, condition)
        s = self.norm(s)
        pooled = nodes.mean(s)
        return Prediction(
            logits=nodes.scalars(self._types(s, pooled, types, nodes.weights * n_atoms[:, None])),
            coords=self._coords(s, v, nodes, lattice, length),
            lattice=self._lattice(s, pooled, pairs, noised),
        )

    def _types(self, s: Tensor, pooled: Tensor, types: Tensor, atoms: Tensor) -> Tensor:
        """Element logits; a copy head raises those of elements the crystal has already revealed.

        ``atoms``: (B, m) of each node.
        """
        logits: Tensor = self.type_head(torch.cat([s, pooled[:, None].expand_as(s)], dim=-1))
        affinity = self.copy_query(s) @ self.copy_key(s).mT / sqrt(32)
        weight = torch.exp(affinity.clamp(max=8.0))
        shown = nn.functional.one_hot(types, self.n_elements + 1)[..., 1:].to(s.dtype)
        copied: Tensor = torch.log1p(weight @ (shown * atoms[..., None].to(s.dtype)))
        return logits + copied

    def _coords(
        self, s: Tensor, v: Tensor, nodes: Nodes, lattice: Tensor, length: Tensor
    ) -> Tensor:
        """Fractional coordinates' prediction, with the mean over each crystal taken out."""
        gated = vector_rms_norm(v) * self.coord_gate(s)[:, :, None]
        cartesian = nodes.vectors(self.coord_head(gated)[..., 0].to(lattice.dtype))
        inverse = torch.linalg.inv(lattice)
        frac: Tensor = (cartesian @ inverse) * length[:, None, None]
        real = nodes.mask[..., None].to(frac.dtype)
        frac = frac - (frac * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        return frac * real

    def _lattice(self, s: Tensor, pooled: Tensor, pairs: PairMatrices, noised: Noised) -> Tensor:
        """Velocity of y: volume from pooled scalars, shape from the virial over all pairs."""
        b, m, _ = s.shape
        received = torch.bmm(pairs.tensor_rows, self.tensor_send(s)).view(b, m, 5, -1)
        virial = torch.einsum("bimc,bic->bim", received, self.tensor_weight(s))
        virial = virial / sqrt(received.shape[-1])
        coupling = _coupling(virial.dtype, virial.device)
        cartesian = pairs.nodes.tensor_mean(torch.einsum("bim,mxy->bixy", virial, coupling))
        _, frame = polar(noised.lattice)
        in_frame = frame @ cartesian @ frame.mT
        shape = torch.einsum("bij,kij->bk", in_frame, traceless_basis(s))
        spread = torch.cat([pooled, pairs.nodes.mean(s**2)], dim=1)
        volume, gain, keep = self.lattice_head(spread).split([1, 1, 1], dim=1)
        velocity = torch.cat([volume, shape * (1 + gain) + keep * noised.shape], dim=1)
        norm = velocity.norm(dim=1, keepdim=True) + 1e-6
        bounded: Tensor = velocity * (_LATTICE_BOUND * torch.tanh(norm / _LATTICE_BOUND) / norm)
        return bounded


def _given(noised: Noised) -> tuple[Tensor, Tensor]:
    """Whether all types, all coordinates and the cell are known, (B, 3); atoms in place, (B, n)."""
    like, mask = noised.lattice, noised.mask
    all_types = ((noised.types != MASK) | ~mask).all(1)
    if noised.given is None:
        none = torch.zeros_like(all_types)
        return torch.stack([all_types, none, none], dim=1).to(like.dtype), like.new_zeros(
            mask.shape
        )
    held = noised.given.coords & mask
    known = torch.stack([all_types, (held | ~mask).all(1), noised.given.cell], dim=1)
    return known.to(like.dtype), held.to(like.dtype)


@lru_cache(maxsize=4)
def _coupling(dtype: torch.dtype, device: torch.device) -> Tensor:
    """From the five l = 2 components to a symmetric traceless matrix, (5, 3, 3)."""
    coupling: Tensor = o3.wigner_3j(2, 1, 1, dtype=torch.float64).to(device, dtype) * sqrt(5)
    return coupling
