"""CHGNet on many crystals at once: its published weights, evaluated for relaxation.

B. Deng et al., Nature Machine Intelligence 5, 1031 (2023). The weights are those that the chgnet
package carries (version 0.3.0). The function computed is the same, the way is not: chgnet builds a
graph of Python objects for each structure and differentiates twice, keeping what training would
need. Here the graph of a batch is built by compiled code; a layer's first matrix, which chgnet
applies to features gathered for every bond, is applied to atoms and bonds before gathering; only
bonds that take part in angles are updated; and one backward pass, down to the bond vectors, gives
forces and stress.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pigen.energy.batched import GraphPotential
from pigen.energy.graph import Graph
from pigen.runtime.device import resolve_device

MAX_EDGES = {"cpu": 8_000, "cuda": 200_000}
"""Directed bonds and angles in one pass, 10 to 20 kB each: what bounds the memory."""


class CHGNetPotential(GraphPotential):
    """CHGNet 0.3.0.

    A crystal with an atom without neighbours within 6 Å has the problem "isolated atom": CHGNet has
    learned nothing of such atoms. Elements beyond Pu (Z = 94) are unknown to it.
    """

    def __init__(
        self,
        device: str | torch.device = "auto",
        *,
        dtype: torch.dtype = torch.float32,
        max_edges: int | None = None,
    ) -> None:
        """Load the weights.

        Args:
            device: "auto", "cpu", "cuda", or a torch device.
            dtype: of the network's arithmetic.
            max_edges: directed bonds and angles in one pass; None for what suits the device.
        """
        from chgnet.model.model import CHGNet

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its size
            network = CHGNet.load(use_device="cpu", verbose=False)
        device = resolve_device(device) if isinstance(device, str) else device
        super().__init__(
            f"chgnet {network.version}",
            "CHGNet",
            _Network(network.requires_grad_(False).eval().to(device, dtype)),
            device,
            max_edges or MAX_EDGES[device.type],
        )


class _Gate:
    """A gated perceptron, silu(core) ⊙ σ(gate), taken apart.

    Its first matrix acts on a concatenation of features; ``inner`` holds one (64, 128) block for
    each part of it, core and gate side by side, so a part may be multiplied before it is gathered.
    """

    def __init__(self, gated: Any, n_parts: int) -> None:
        core, gate = (_linears(side) for side in (gated.mlp_core, gated.mlp_gate))
        first = torch.cat([core[0].weight, gate[0].weight])
        self.inner = [block.T.contiguous() for block in first.chunk(n_parts, dim=1)]
        self.bias = torch.cat([core[0].bias, gate[0].bias])
        self._outer = [core[1], gate[1]] if len(core) > 1 else []
        self._norms = [gated.bn1, gated.bn2]

    def __call__(self, hidden: Tensor) -> Tensor:
        """From the sum of all parts, bias included, (n, 128), to the output (n, 64)."""
        if self._outer:
            hidden = F.silu(hidden)
        core, gate = hidden.chunk(2, dim=1)
        if self._outer:
            core, gate = self._outer[0](core), self._outer[1](gate)
        product: Tensor = F.silu(self._norms[0](core)) * torch.sigmoid(self._norms[1](gate))
        return product


class _Network:
    """The layers of a CHGNet in the form they are computed in here."""

    def __init__(self, network: Any) -> None:
        self._layers = network
        self.cutoff: float = network.graph_converter.atom_graph_cutoff
        self.angle_cutoff: float = network.graph_converter.bond_graph_cutoff
        self.known = np.arange(1, network.atom_embedding.embedding.num_embeddings + 1)
        self._atom_gates = [_Gate(x.twoBody_atom, 3) for x in network.atom_conv_layers]
        self._bond_gates = [_Gate(x.twoBody_bond, 4) for x in network.bond_conv_layers]
        # The last update of the angles feeds nothing.
        self._angle_gates = [_Gate(x.twoBody_bond, 4) for x in network.angle_layers[:-1]]
        self._atom_out = [_linears(x.mlp_out)[0] for x in network.atom_conv_layers]
        self._bond_out = [_linears(x.mlp_out)[0] for x in network.bond_conv_layers]

    def __call__(
        self, graph: Graph, atomic_numbers: NDArray[np.uint8], batch: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As `GraphNetwork.__call__`."""
        references: Tensor = self._layers.composition_model.fc.weight[0]
        vectors = torch.as_tensor(graph.vectors, dtype=references.dtype, device=references.device)
        vectors.requires_grad_(True)
        species = _index(atomic_numbers.astype(np.int64) - 1, vectors)
        with torch.enable_grad():
            energies = self._atomic_energies(graph, species, vectors)
            (slope,) = torch.autograd.grad(energies.sum(), vectors)
        # Summed in double precision: steps of a relaxation differ by little.
        atomic = energies.detach().double() + references[species].double()
        energy = np.bincount(batch, atomic.cpu().numpy(), minlength=len(graph.problems))
        return energy.astype(np.float64), slope.double().cpu().numpy()

    def _atomic_energies(self, graph: Graph, species: Tensor, vectors: Tensor) -> Tensor:
        """What the network adds to the reference energy of each atom, (N,) eV."""
        net, n_short = self._layers, graph.n_short
        first, second = _index(graph.first, vectors), _index(graph.second, vectors)
        lengths = vectors.norm(dim=1)
        basis = net.bond_basis_expansion.rbf_expansion_ag(lengths)
        bonds, bond_weights = net.bond_embedding(basis), net.bond_weights_ag(basis)
        # Bonds without angles keep their features.
        short, long = bonds[:n_short], bonds[n_short:]
        short_basis = net.bond_basis_expansion.rbf_expansion_bg(lengths[:n_short])
        short_weights = net.bond_weights_bg(short_basis)
        unit = vectors[:n_short] / lengths[:n_short, None]
        directed = torch.cat([unit, -unit])
        centre, leg = _index(graph.centre, vectors), _index(graph.leg, vectors)
        angle_basis = net.angle_basis_expansion(_take(directed, leg[0]), _take(directed, leg[1]))
        angles = net.angle_embedding(angle_basis)
        leg = leg % max(n_short, 1)  # a bond's features have no direction
        atoms = net.atom_embedding(species)
        for k, gate in enumerate(self._atom_gates):
            as_centre, as_neighbour = atoms @ gate.inner[0], atoms @ gate.inner[2]
            from_bonds = torch.addmm(gate.bias, torch.cat([short, long]), gate.inner[1])
            forth = gate(_take(as_centre, first) + _take(as_neighbour, second) + from_bonds)
            back = gate(_take(as_centre, second) + _take(as_neighbour, first) + from_bonds)
            messages = torch.zeros_like(atoms).index_add(0, first, forth * bond_weights)
            messages = messages.index_add(0, second, back * bond_weights)
            atoms = atoms + self._atom_out[k](messages)
            if k < len(self._bond_gates):
                gate = self._bond_gates[k]
                update = gate(_at_angles(gate, short, angles, atoms, leg, centre))
                update = update * _take(short_weights, leg[1])
                summed = torch.zeros_like(short).index_add(0, leg[0], update)
                short = short + self._bond_out[k](summed * short_weights)
            if k < len(self._angle_gates):
                gate = self._angle_gates[k]
                angles = angles + gate(_at_angles(gate, short, angles, atoms, leg, centre))
        energies: Tensor = net.mlp(net.readout_norm(atoms))
        return energies[:, 0]


def _at_angles(
    gate: _Gate, short: Tensor, angles: Tensor, atoms: Tensor, leg: Tensor, centre: Tensor
) -> Tensor:
    """What enters a gate at every angle, (A, 128)."""
    inner = gate.inner
    hidden = torch.addmm(gate.bias, angles, inner[2])
    hidden = hidden + _take(short @ inner[0], leg[0])
    hidden = hidden + _take(short @ inner[1], leg[1])
    return hidden + _take(atoms @ inner[3], centre)


def _take(features: Tensor, rows: Tensor) -> Tensor:
    # The gradient of advanced indexing sorts; that of index_select does not.
    return features.index_select(0, rows)


def _linears(perceptron: Any) -> list[Any]:
    return [layer for layer in perceptron.layers if isinstance(layer, torch.nn.Linear)]


def _index(values: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.as_tensor(values, device=like.device)
