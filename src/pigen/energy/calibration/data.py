"""Structures with DFT energies, brought together with their relaxed selves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pigen.bundle import Bundle
from pigen.energy.calibration.fit import Data
from pigen.energy.hull import Hull, Reference, with_e_hull
from pigen.energy.judge import with_e_hull_judge
from pigen.runtime.errors import UsageError

DFT_COLUMNS = ("e_hull_dft", "e_decomposition_dft")
"""Columns of DFT energies above the hull (eV/atom), in the order of preference."""
GROUP_COLUMN = "generator"
ANOTHER_STRUCTURE = 0.5
"""(V/n)^(1/3): a relaxation that moved atoms so far, or so that nothing matches, ended in another
structure than the one that DFT was asked about."""


def calibration_data(
    given: Bundle,
    relaxed: Bundle,
    reference: Reference,
    path: Path,
    column: str | None = None,
    group: str | None = None,
) -> tuple[Data, int]:
    """DFT energies of structures, with the relaxed ones and their energies above the hull.

    Args:
        given: with the DFT energies.
        relaxed: the same structures by `pigen energy`, parents being the ids of ``given``; or
            ``given`` itself, where it holds relaxed ones.
        reference: of the hull.
        path: of the given ones, for errors.
        column: of the energies; by default the first of `DFT_COLUMNS`.
        group: column that says what is left out together; by default ``generator``, if there.

    Returns:
        The data, and how many were left out because relaxation led to another structure.

    Raises:
        UsageError: no such column.
    """
    name = column or next((c for c in DFT_COLUMNS if c in given.columns), DFT_COLUMNS[0])
    if name not in given.columns or given.columns[name].kind == "str":
        numbers = [n for n, c in given.columns.items() if c.kind != "str" and not c.per_atom]
        raise UsageError(
            f"{path}: no column of numbers {name!r} with DFT energies above the hull in eV/atom; "
            f"there are {', '.join(numbers) or 'none'} (--column)"
        )
    said = group or (GROUP_COLUMN if GROUP_COLUMN in given.columns else None)
    if said is not None and said not in given.columns:
        raise UsageError(f"{path}: no column {said!r} to group by (--group)")
    row_of = {str(id_): i for i, id_ in enumerate(given.ids)}
    own = relaxed is given
    names = [str(id_) for id_ in (relaxed.ids if own else relaxed.parents)]
    keep = np.array([one in row_of for one in names], dtype=bool)
    moved = _moved(relaxed, own)
    chosen = relaxed.select(keep & ~moved)
    rows = [row_of[one] for one, ok in zip(names, keep & ~moved, strict=True) if ok]
    dft = given.columns[name].values[rows].astype(np.float64)
    groups = (
        np.array([str(v) for v in given.columns[said].values[rows]], dtype=object)
        if said
        else np.array([path.name] * len(rows), dtype=object)
    )
    chosen = with_e_hull_judge(with_e_hull(chosen, reference, Hull(reference)))
    return Data(chosen, dft, groups), int((keep & moved).sum())


def _moved(relaxed: Bundle, own: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(B,) whether relaxation ended in another structure; never for DFT of relaxed structures."""
    if own or "rmsd" not in relaxed.columns:
        return np.zeros(len(relaxed), dtype=bool)
    rmsd = relaxed.columns["rmsd"].values.astype(np.float64)
    return ~(rmsd < ANOTHER_STRUCTURE)
