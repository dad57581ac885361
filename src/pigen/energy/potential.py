"""Potentials: what turns crystals into energies, forces and stresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.energy.potentials import NAMED, level_of, made
from pigen.runtime.device import resolve_device
from pigen.runtime.errors import PigenError, UsageError


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of B crystals with N atoms in all.

    Attributes:
        energy: (B,) eV/atom.
        forces: (N, 3) eV/Å, Cartesian.
        stress: (B, 3, 3) eV/Å^3, symmetric, positive where the cell wants to shrink (as in ASE).
        problems: (B,) why a crystal has no energy, "" where it has one; the numbers of the others
            are NaN.
    """

    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    problems: tuple[str, ...]


class Potential(Protocol):
    """An interatomic potential.

    Attributes:
        name: what made an energy, with version, e.g. "chgnet 0.3.0". Energies of different names
            never meet.
    """

    name: str

    def evaluate(self, crystals: Crystals) -> Evaluation:
        """Energies, forces and stresses; a crystal it can't evaluate is a problem, no error."""
        ...


class AsePotential:
    """Any ASE calculator as a potential, one structure at a time."""

    def __init__(self, name: str, calculator: Any) -> None:
        """Args: the name in provenance, and an ASE calculator of energy, forces and stress."""
        self.name = name
        self._calculator = calculator

    def evaluate(self, crystals: Crystals) -> Evaluation:
        """As `Potential.evaluate`; what the calculator raises becomes the problem's text."""
        energy = np.full(len(crystals), np.nan)
        forces = np.full((len(crystals.atomic_numbers), 3), np.nan)
        stress = np.full((len(crystals), 3, 3), np.nan)
        problems = []
        listed: list[Any] = list(crystals.to_ase())  # ase is half typed
        for i, atoms in enumerate(listed):
            atoms.calc = self._calculator
            try:
                found = (
                    atoms.get_potential_energy() / len(atoms),
                    atoms.get_forces(),
                    atoms.get_stress(voigt=False),
                )
            except Exception as error:  # a calculator may raise anything on an odd structure
                text = " ".join(str(error).split())[:200]
                problems.append(f"potential failed: {text or type(error).__name__}")
                if hasattr(self._calculator, "reset"):
                    self._calculator.reset()  # or it takes the next equal structure as done
                continue
            start, stop = crystals.ptr[i : i + 2]
            energy[i], forces[start:stop], stress[i] = found
            problems.append("")
        return Evaluation(energy, forces, stress, tuple(problems))


def load_potential(
    model: str = "chgnet", device: str = "auto", option: str = "--model"
) -> Potential:
    """The potential that ``--model`` names.

    Args:
        model: "chgnet", a name of `pigen.energy.potentials.NAMED`, or ``MODULE:CALLABLE``, whose
            call without arguments returns an ASE calculator.
        device: "auto", "cpu" or "cuda"; a callable chooses its own.
        option: that names it, for errors.

    Raises:
        UsageError: no such name, package, module or callable, or no such device.
        PigenError: the callable raised, or a package could not load its weights.
    """
    if model == "chgnet":
        from pigen.energy.chgnet import CHGNetPotential

        return CHGNetPotential(device)
    if model in NAMED:
        found = made(model, resolve_device(device).type, option)
        return found if hasattr(found, "evaluate") else AsePotential(level_of(model), found)
    module, colon, attribute = model.partition(":")
    if not (module and colon and attribute):
        known = ", ".join(["chgnet", *NAMED])
        raise UsageError(f"{option} {model}: expected {known} or MODULE:CALLABLE")
    try:
        make: Callable[[], Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{option} {model}: {error}") from error
    try:
        found = make()
    except Exception as error:
        raise PigenError(f"{option} {model}: {type(error).__name__}: {error}") from error
    if not hasattr(found, "get_potential_energy"):
        raise UsageError(f"{option} {model} made {type(found).__name__}, no ASE calculator")
    return AsePotential(model, found)
