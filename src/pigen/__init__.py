"""PIGEN: generate crystal structures beyond known motifs and tell which are worth a calculation.

>>> import pigen
>>> bundle = pigen.read("cifs.zip")  # doctest: +SKIP
>>> kept = pigen.filter(bundle, spp=0.362, c=(0.55, 0.85))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pigen.api import export, filter, label, match, rank, read, sample, view
    from pigen.bundle import (
        Bundle,
        Column,
        Criterion,
        Reject,
        Verdict,
        count_rejects,
        write_bundle,
    )
    from pigen.crystal.crystals import Crystals
    from pigen.descriptors import (
        ColumnSpec,
        Evaluated,
        descriptor,
        load_descriptors,
        no_reasons,
    )
    from pigen.runtime.errors import PigenError, UsageError

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Column",
    "ColumnSpec",
    "Criterion",
    "Crystals",
    "Evaluated",
    "PigenError",
    "Reject",
    "UsageError",
    "Verdict",
    "__version__",
    "count_rejects",
    "descriptor",
    "energy",
    "export",
    "filter",
    "label",
    "load_descriptors",
    "match",
    "no_reasons",
    "rank",
    "read",
    "report",
    "sample",
    "view",
    "write_bundle",
]

_FOUND_IN = {
    **dict.fromkeys(
        ("export", "filter", "label", "match", "rank", "read", "sample", "view"), "api"
    ),
    **dict.fromkeys(
        ("Bundle", "Column", "Criterion", "Reject", "Verdict", "count_rejects", "write_bundle"),
        "bundle",
    ),
    "Crystals": "crystal.crystals",
    **dict.fromkeys(
        ("ColumnSpec", "Evaluated", "descriptor", "load_descriptors", "no_reasons"), "descriptors"
    ),
    **dict.fromkeys(("PigenError", "UsageError"), "runtime.errors"),
}
"""Where each public name lives: modules are imported when a name of theirs is asked for."""


class CalledPackage(ModuleType):
    """A package that is called as the function of its name in `pigen.api`: energy and report."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """What ``pigen.api.energy`` or ``pigen.api.report`` does, see there."""
        function = getattr(import_module("pigen.api"), self.__name__.rpartition(".")[2])
        return function(*args, **settings)


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name in ("energy", "report"):
        return import_module(f"pigen.{name}")
    if name not in _FOUND_IN:
        raise AttributeError(f"module 'pigen' has no attribute {name!r}")
    found = getattr(import_module(f"pigen.{_FOUND_IN[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
