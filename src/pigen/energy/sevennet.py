"""SevenNet on many crystals at once: the published weights that the sevenn package carries.

Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024). The network is the package's; the graph is
built by compiled code, as CHGNet's here, and one backward pass, down to the bond vectors, gives
forces and stress.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pigen.energy.batched import GraphPotential
from pigen.energy.graph import Graph

MAX_EDGES = {"cpu": 1_000, "cuda": 20_000}
"""Directed bonds in one pass; on a CPU more of them no longer fit its caches."""


class SevenNetPotential(GraphPotential):
    """A SevenNet without a choice of level of theory, such as 7net-0 and 7net-l3i5."""

    def __init__(self, name: str, network: Any, device: torch.device) -> None:
        """Take a network over.

        Args:
            name: with the weights, as of `Potential`.
            network: as sevenn's ``SevenNetCheckpoint.build_model`` makes it.
            device: where it is to compute.
        """
        made = _Network(network.requires_grad_(False).eval().to(device), device)
        super().__init__(name, "SevenNet", made, device, MAX_EDGES[device.type])


class _Network:
    """A sevenn network from the vectors of bonds to energies."""

    angle_cutoff = 0.0

    def __init__(self, network: Any, device: torch.device) -> None:
        # Its own layer for forces adds them up for each directed bond apart.
        network.delete_module_by_key("force_output")
        network.key_grad = None
        network.set_is_batch_data(True)
        self._layers, self._device = network, device
        self.cutoff: float = float(network.cutoff)
        self.known = np.array(sorted(network.type_map), dtype=np.int64)

    def __call__(
        self, graph: Graph, atomic_numbers: NDArray[np.uint8], batch: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As `GraphNetwork.__call__`."""
        vectors = torch.as_tensor(graph.vectors, dtype=torch.float32, device=self._device)
        vectors.requires_grad_(True)
        first, second, owner = map(self._index, (graph.first, graph.second, batch))
        species = self._index(atomic_numbers.astype(np.int64))
        with torch.enable_grad():
            found = self._layers(
                {
                    "x": species,
                    "atomic_numbers": species,
                    "edge_index": torch.stack(
                        [torch.cat([first, second]), torch.cat([second, first])]
                    ),
                    "edge_vec": torch.cat([vectors, -vectors]),
                    "batch": owner,
                    "num_atoms": torch.bincount(owner),
                }
            )
            atomic = found["atomic_energy"][:, 0]
            (slope,) = torch.autograd.grad(atomic.sum(), vectors)
        # Summed in double precision: steps of a relaxation differ by little.
        energy = np.bincount(
            batch, atomic.detach().double().cpu().numpy(), minlength=len(graph.problems)
        )
        return energy.astype(np.float64), slope.double().cpu().numpy()

    def _index(self, values: NDArray[np.int64]) -> torch.Tensor:
        return torch.as_tensor(values, device=self._device)
