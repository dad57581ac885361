"""Named quantities of a bundle, and the kinds of values that they have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Strings = NDArray[np.object_]


def strings(values: Iterable[str]) -> Strings:
    """A read-only (n,) object array of Python strings."""
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = [str(v) for v in listed]
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Column:
    """One named quantity of a bundle.

    Attributes:
        values: (B,), or (N,) when `per_atom`; float64, int64, bool, or object holding str. Missing
            values are NaN in a float column and "" in a string column; the others have none.
        unit: as printed, e.g. "eV/atom"; "" for a dimensionless number or a text.
        source: how it was made: a descriptor with its settings, or the column it was read from.
        per_atom: whether there is one value for each atom rather than for each crystal.
    """

    values: NDArray[Any]
    unit: str
    source: str
    per_atom: bool = False

    def __post_init__(self) -> None:
        """Bring values to one of the four kinds; raise ValueError if they fit none."""
        values = np.asarray(self.values)
        if values.ndim != 1:
            raise ValueError(f"column values must have shape (n,), got {values.shape}")
        object.__setattr__(self, "values", _read_only(values))

    @property
    def kind(self) -> str:
        """One of "float64", "int64", "bool", "str"."""
        return kind_of(self.values)


def kind_of(values: NDArray[Any]) -> str:
    """The kind of a column's values (B,) or (N,): "float64", "int64", "bool" or "str"."""
    kinds = {"f": "float64", "i": "int64", "b": "bool", "O": "str"}
    return kinds[values.dtype.kind]


def common_kind(a: str, b: str) -> str:
    """The kind that holds values of both kinds."""
    if a == b:
        return a
    return "str" if "str" in (a, b) else "float64"


def with_missing(kind: str) -> str:
    """The kind that holds values of this kind and a missing one."""
    return "float64" if kind in ("int64", "bool") else kind


def missing(kind: str, n: int) -> NDArray[Any]:
    """Values (n,) that are all missing, of kind "float64" or "str"."""
    return strings([""] * n) if kind == "str" else np.full(n, np.nan)


def convert(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Values (n,) in another kind that `common_kind` or `with_missing` gave; NaN becomes ""."""
    if kind_of(values) == kind:
        return values
    if kind != "str":
        return values.astype(np.dtype(kind))
    return strings("" if v != v else str(v) for v in values.tolist())


def merge_sources(sources: Iterable[str]) -> str:
    """One text naming every distinct source once, in order."""
    return "; ".join(dict.fromkeys(s for source in sources for s in source.split("; ")))


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    kind = values.dtype.kind
    if kind in "OU":
        return strings(values.tolist())
    if kind not in "fiub":
        raise ValueError(f"column values must be float, int, bool or str, got {values.dtype}")
    target = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.bool_}[kind]
    copied: NDArray[Any] = np.array(values, dtype=target)
    copied.setflags(write=False)
    return copied


def check_name(name: str) -> None:
    """Raise ValueError for a column or verdict name that HDF5 cannot hold as one link."""
    if not name or name == "." or "/" in name or "\0" in name:
        raise ValueError(f"a column or verdict name must be non-empty without '/', got {name!r}")
