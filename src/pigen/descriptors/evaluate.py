"""Descriptors on bundles: which columns are missing, and how each column was made."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, Column
from pigen.descriptors.registry import get_descriptor
from pigen.runtime.errors import UsageError
from pigen.runtime.files import cached_file, sha256_of

Settings = Mapping[str, Mapping[str, Any]]
"""Keyword settings by descriptor; a descriptor left out takes its defaults."""

Reasons = dict[str, NDArray[np.object_]]
"""For each descriptor, (B,) why a crystal has no value, "" where it has one."""


def evaluate(
    bundle: Bundle, names: Iterable[str], settings: Settings | None = None
) -> tuple[Bundle, Reasons]:
    """The bundle with the columns of the named descriptors, and the reasons where one is missing.

    Columns that are there already are kept if their `source` says that they were made the same
    way, by this version, and every crystal without a value has a reason for it: those are evaluated
    again, to learn the reason.

    Raises:
        UsageError: an unknown descriptor or setting, or a settings file that can't be read.
    """
    columns: dict[str, Column] = {}
    reasons: Reasons = {}
    for name in names:
        chosen = resolve_settings(name, (settings or {}).get(name, {}))
        source = column_source(name, chosen)
        specs = get_descriptor(name).columns
        present = [bundle.columns.get(spec.name) for spec in specs]
        if all(column is not None and column.source == source for column in present):
            again = _reasons_of_missing(bundle, name, chosen)
            if again is not None:
                reasons[name] = again
                continue
        found = get_descriptor(name)(bundle.crystals, **chosen)
        reasons[name] = found.reasons
        for spec in specs:
            columns[spec.name] = Column(found.values[spec.name], spec.unit, source, spec.per_atom)
    return bundle.with_columns(columns), reasons


def _reasons_of_missing(
    bundle: Bundle, name: str, settings: Mapping[str, Any]
) -> NDArray[np.object_] | None:
    """(B,) reasons of the crystals without a value; None if one could have a value."""
    descriptor = get_descriptor(name)
    without = bundle.crystals.n_atoms == 0
    for spec in descriptor.columns:
        column = bundle.columns[spec.name]
        if not spec.per_atom and column.kind == "float64":
            without = without | np.isnan(column.values)
        if not spec.per_atom and column.kind == "int64":
            without = without | (column.values == -1)
    reasons = np.array([""] * len(bundle), dtype=object)
    rows = np.flatnonzero(without)
    if len(rows):
        reasons[rows] = descriptor(bundle.crystals[rows], **settings).reasons
    return None if np.any(reasons[rows] == "") else reasons


def resolve_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a descriptor, with its defaults; UsageError for an unknown setting."""
    parameters = list(inspect.signature(get_descriptor(name).compute).parameters.values())[1:]
    resolved = {parameter.name: parameter.default for parameter in parameters}
    for key, value in settings.items():
        if key not in resolved:
            known = ", ".join(resolved) or "none"
            raise UsageError(f"descriptor {name!r} has no setting {key!r}; it has: {known}")
        resolved[key] = value
    return resolved


def column_source(name: str, settings: Mapping[str, Any]) -> str:
    """How a column was made, e.g. ``pigen 0.1.0 k(symprec=0.1)``; files by name and hash.

    Equal texts mean equal values, so the text decides whether a column can be used again.

    Raises:
        UsageError: a settings file that can't be read.
    """
    resolved = resolve_settings(name, settings)
    listed = ", ".join(f"{key}={_shown(value)}" for key, value in resolved.items())
    return f"{get_descriptor(name).origin} {name}({listed})"


def _shown(value: Any) -> str:
    if not isinstance(value, Path):
        return str(value)
    return f"{value.name} sha256 {_digest(value)}"


@cached_file(maxsize=16)
def _digest(path: Path) -> str:
    return sha256_of(path)
