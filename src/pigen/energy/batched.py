"""Potentials that are networks on graphs of atoms, evaluated for many crystals at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.energy.graph import Graph, build_graph, count_bonds
from pigen.energy.potential import Evaluation
from pigen.runtime.device import Halving, is_out_of_memory


class GraphNetwork(Protocol):
    """A network that gives the energy of a graph.

    Attributes:
        cutoff, angle_cutoff: Å, as of `build_graph`; an angle cutoff of 0 asks for no angles.
        known: atomic numbers of the elements that it has learned.
    """

    cutoff: float
    angle_cutoff: float
    known: NDArray[np.int64]

    def __call__(
        self, graph: Graph, atomic_numbers: NDArray[np.uint8], batch: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies (B,) eV, and their derivatives by the bond vectors (E, 3) eV/Å."""
        ...


class GraphPotential:
    """A potential of `pigen.energy.potential.Potential` that is such a network.

    Attributes:
        name: with version, as of `Potential`.
        device: where it computes.
    """

    def __init__(
        self,
        name: str,
        label: str,
        network: GraphNetwork,
        device: torch.device,
        max_edges: int,
    ) -> None:
        """A network on its device.

        Args:
            name: with version.
            label: what messages call it.
            network: in evaluation mode, on the device.
            device: of the network.
            max_edges: directed bonds and angles in one pass: what bounds the memory.
        """
        self.name, self.device = name, device
        self._label, self._network, self._max_edges = label, network, max_edges
        self._fitting = Halving("structures evaluated")

    def evaluate(self, crystals: Crystals) -> Evaluation:
        """As `Potential.evaluate`, in as many passes as `max_edges` asks for, or memory."""
        network = self._network
        known = np.ones(len(crystals), dtype=bool)
        np.logical_and.at(known, crystals.batch, np.isin(crystals.atomic_numbers, network.known))
        n_bonds, n_angles, why = count_bonds(crystals, network.cutoff, network.angle_cutoff)
        problems = [
            reason if ok else f"element unknown to {self._label}"
            for reason, ok in zip(why, known, strict=True)
        ]
        energy = np.full(len(crystals), np.nan)
        forces = np.full((len(crystals.atomic_numbers), 3), np.nan)
        stress = np.full((len(crystals), 3, 3), np.nan)
        good = np.array([not problem for problem in problems], dtype=bool)
        work = 2 * n_bonds + n_angles

        def run(rows: Sequence[int]) -> Sequence[None]:
            atoms = np.isin(crystals.batch, rows)
            try:
                energy[rows], forces[atoms], stress[rows] = self._pass(crystals[np.array(rows)])
            except Exception as error:
                if len(rows) > 1 or not is_out_of_memory(error):
                    raise
                problems[rows[0]] = "out of memory"
            return [None] * len(rows)

        for rows in _groups(np.flatnonzero(good), work, self._max_edges):
            self._fitting(run, rows.tolist())
        return Evaluation(energy, forces, stress, tuple(problems))

    def _pass(
        self, crystals: Crystals
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Energy, forces and stress of crystals that fit one pass of the network."""
        network = self._network
        graph = build_graph(crystals, network.cutoff, network.angle_cutoff)
        energy, slope = network(graph, crystals.atomic_numbers, crystals.batch)
        forces = np.zeros((len(crystals.atomic_numbers), 3))
        virial = np.zeros((len(crystals), 3, 3))
        np.add.at(forces, graph.first, slope)
        np.subtract.at(forces, graph.second, slope)
        # Under a strain ε each vector v becomes v (1 + ε).
        np.add.at(virial, graph.owner, graph.vectors[:, :, None] * slope[:, None, :])
        stress = 0.5 * (virial + virial.transpose(0, 2, 1)) / crystals.volume[:, None, None]
        return energy / crystals.n_atoms, forces, stress


def _groups(
    rows: NDArray[np.int64], work: NDArray[np.int64], limit: int
) -> Iterator[NDArray[np.int64]]:
    """Rows in order, in groups whose work stays below the limit; one that exceeds it goes alone."""
    start, total = 0, 0
    for k, row in enumerate(rows):
        if k > start and total + work[row] > limit:
            yield rows[start:k]
            start, total = k, 0
        total += work[row]
    if len(rows):
        yield rows[start:]
