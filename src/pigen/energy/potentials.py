"""Potentials of other packages by name: which package, which weights, which ASE calculator."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pigen.runtime.device import resolve_device
from pigen.runtime.errors import PigenError, UsageError


@dataclass(frozen=True, slots=True)
class Named:
    """A potential that ``--model`` knows by name.

    Attributes:
        package: what pip installs, quoted for a shell.
        module: of the package, which has what `make` needs.
        weights: as the package names them. They are fixed, since energies of different weights
            never meet.
        make: from the module, the weights and the device ("cpu" or "cuda") to an ASE calculator,
            or a potential that works in batches.
    """

    package: str
    module: str
    weights: str
    make: Callable[[Any, str, str], Any]


def _mace(module: Any, weights: str, device: str) -> Any:
    # In single precision, forces are too rough for the last steps of a relaxation.
    return module.mace_mp(model=weights, device=device, default_dtype="float64")


def _orb(module: Any, weights: str, device: str) -> Any:
    pretrained = import_module("orb_models.forcefield.pretrained")
    network = pretrained.ORB_PRETRAINED_MODELS[weights](
        device=device, precision="float64", compile=False
    )
    return module.ORBCalculator(network, device=device)


def _sevennet(module: Any, weights: str, device: str) -> Any:
    from pigen.energy.sevennet import SevenNetPotential

    network = module.load_checkpoint(weights).build_model()
    return SevenNetPotential(f"sevennet {weights}", network, resolve_device(device))


def _mattersim(module: Any, weights: str, device: str) -> Any:
    return module.MatterSimCalculator(load_path=f"{weights}.pth", device=device)


NAMED = {
    "mace": Named("mace-torch", "mace.calculators", "medium-mpa-0", _mace),
    "mattersim": Named("mattersim", "mattersim.forcefield", "MatterSim-v1.0.0-5M", _mattersim),
    "orb": Named(
        "orb-models", "orb_models.forcefield.calculator", "orb-v3-conservative-inf-mpa", _orb
    ),
    "sevennet": Named("'pigen[judge]'", "sevenn.util", "7net-0", _sevennet),
    "sevennet-l3i5": Named("'pigen[judge]'", "sevenn.util", "7net-l3i5", _sevennet),
}
"""All but CHGNet, which is evaluated here (`pigen.energy.chgnet`).

The weights of SevenNet come with its package; the other packages download theirs on first use.
"""


def level_of(name: str) -> str:
    """What an energy of a named potential says of itself, such as "sevennet 7net-0"."""
    return f"{name.partition('-')[0]} {NAMED[name].weights}"


def made(name: str, device: str, option: str = "--model") -> Any:
    """What `Named.make` makes of a named potential.

    Args:
        name: of `NAMED`.
        device: "cpu" or "cuda".
        option: that names it, for errors.

    Raises:
        UsageError: its package is not installed; says how it is.
        PigenError: the package has no such weights, cannot download them or failed otherwise.
    """
    named = NAMED[name]
    try:
        module = import_module(named.module)
    except ImportError as error:
        raise UsageError(
            f"{option} {name} needs a package that is not installed ({error}); "
            f"`pip install {named.package}` brings it"
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for what a verb prints
            return named.make(module, named.weights, device)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise PigenError(
            f"{option} {name}: {named.module.partition('.')[0]} did not load {named.weights}: "
            f"{type(error).__name__}: {said}"
        ) from error
