"""Descriptors: named functions from Crystals to columns, each with its unit.

The same function labels training data, filters samples and fills reports. To add one, write a
function that takes `Crystals` and returns `Evaluated`, and decorate it with `descriptor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.crystals import Crystals
from pigen.errors import UsageError


@dataclass(frozen=True)
class ColumnSpec:
    """What a column is: its name, unit, one-line meaning, and whether it has a value per atom."""

    name: str
    unit: str
    meaning: str
    per_atom: bool = False


@dataclass(frozen=True)
class Evaluated:
    """Values of a descriptor over a batch of B crystals.

    Attributes:
        values: column name → (B,) or, for per-atom columns, (N,) array. Where a structure has a
            reason, its values are NaN (floats), False (bools), -1 (integers) or "" (texts).
        reasons: (B,) object array of str, empty where the structure was evaluated.
    """

    values: Mapping[str, NDArray[Any]]
    reasons: NDArray[np.object_]


class DescriptorFunction:
    """A registered descriptor. Call it with `Crystals` (and its own keyword settings)."""

    def __init__(
        self, name: str, columns: tuple[ColumnSpec, ...], compute: Callable[..., Evaluated]
    ) -> None:
        """Wrap ``compute``; `descriptor` is the public way to make one."""
        self.name = name
        self.columns = columns
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __call__(self, crystals: Crystals, **settings: Any) -> Evaluated:
        """Evaluate a batch; any crystal may end with a reason instead of a value."""
        return self.compute(crystals, **settings)


_REGISTRY: dict[str, DescriptorFunction] = {}


def descriptor(
    name: str, *columns: ColumnSpec
) -> Callable[[Callable[..., Evaluated]], DescriptorFunction]:
    """Register the decorated function under ``name``; the first column is its main value.

    The decorator raises ValueError if the name is taken.
    """

    def register(compute: Callable[..., Evaluated]) -> DescriptorFunction:
        if name in _REGISTRY:
            raise ValueError(f"descriptor {name!r} is registered twice")
        _REGISTRY[name] = DescriptorFunction(name, columns, compute)
        return _REGISTRY[name]

    return register


def get_descriptor(name: str) -> DescriptorFunction:
    """The descriptor of that name; UsageError listing the known ones otherwise."""
    _load_all()
    try:
        return _REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(_REGISTRY))
        raise UsageError(f"no descriptor named {name!r}; known: {known}") from None


def descriptor_names() -> list[str]:
    """Names of all registered descriptors."""
    _load_all()
    return sorted(_REGISTRY)


@lru_cache(maxsize=1)
def _load_all() -> None:
    """Import every module beside this one: each registers its descriptors."""
    package = import_module(__name__.rpartition(".")[0])
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def no_reasons(crystals: Crystals) -> NDArray[np.object_]:
    """Reasons (B,) with every structure fine."""
    return np.array([""] * len(crystals), dtype=object)


def column_specs(names: Iterable[str]) -> dict[str, ColumnSpec]:
    """Every column the named descriptors make, by column name."""
    return {spec.name: spec for name in names for spec in get_descriptor(name).columns}
