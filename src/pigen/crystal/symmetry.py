"""Primitive cells and crystallographic orbits.

A primitive cell here is the smallest cell under pure lattice translations, found to a tolerance in
Å and returned Minkowski-reduced. It keeps the real positions (averaged over the translations that
map them onto each other); nothing is idealised beyond that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.cells import moyo_dataset
from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import degenerate_reason, inverse3, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import minimum_image, shortest_distances
from pigen.runtime.kernels import njit

_T = TypeVar("_T")

PRIMITIVE_SYMPREC = 0.01
"""Å: how far two sites may be from exact translation copies in `primitive_cells`."""


def primitive_cells(
    crystals: Crystals, symprec: float = PRIMITIVE_SYMPREC
) -> tuple[Crystals, NDArray[np.object_]]:
    """The primitive cell of each crystal, Minkowski-reduced, and (B,) reasons.

    A crystal without a primitive cell (no atoms, degenerate cell) is returned as it came, with its
    reason. The result does not depend on the cell the crystal came in, but for the order of atoms
    and the choice among equally short cell vectors.
    """
    lattice, frac, numbers, sizes, ok = _primitive_batch(
        crystals.lattice, crystals.frac_coords, crystals.atomic_numbers, crystals.ptr, symprec
    )
    reasons = np.array([""] * len(crystals), dtype=object)
    for i in np.flatnonzero(~ok):
        reasons[i] = (
            degenerate_reason(crystals.volume[i]) if crystals.n_atoms[i] else "no atoms in the cell"
        )
    keep = np.arange(len(frac)) - crystals.ptr[:-1][crystals.batch] < sizes[crystals.batch]
    reduced = Crystals(
        lattice=lattice,
        frac_coords=frac[keep],
        atomic_numbers=numbers[keep],
        ptr=np.concatenate([[0], np.cumsum(sizes)]),
    )
    return reduced, reasons


def symmetry_of_each(
    crystals: Crystals,
    symprec: float,
    search: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8], float], _T],
) -> tuple[dict[int, _T], NDArray[np.object_]]:
    """What a symmetry search finds in the primitive cell of each crystal.

    Args:
        crystals: B crystals.
        symprec: Å, tolerance of the search.
        search: `orbit_sizes` or `space_group_number`.

    Returns:
        The result by the crystal's number, and (B,) why there is none, "" where there is one.
    """
    primitive, reasons = primitive_cells(crystals)
    closest = shortest_distances(
        primitive.lattice, primitive.frac_coords, primitive.atomic_numbers, primitive.ptr
    )
    # spglib refuses these too, but may take seconds to say so.
    reasons[closest <= symprec] = f"like atoms closer than the symmetry tolerance: {symprec} Å"
    found = {}
    for i in np.flatnonzero(reasons == "").tolist():
        atoms = slice(primitive.ptr[i], primitive.ptr[i + 1])
        cell = (primitive.lattice[i], primitive.frac_coords[atoms], primitive.atomic_numbers[atoms])
        try:
            found[i] = search(*cell, symprec)
        except ValueError as error:
            reasons[i] = str(error)
    return found, reasons


def orbit_sizes(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    atomic_numbers: NDArray[np.uint8],
    symprec: float,
) -> NDArray[np.int64]:
    """Number of atoms in each crystallographic orbit of one primitive cell: (3, 3), (n, 3), (n,).

    The orbits are spglib's. Atoms of one element, own images too, must be further apart than
    ``symprec``. ValueError, with the reason, where the symmetry search fails.
    """
    cell = (lattice, frac_coords, atomic_numbers)
    orbits = _cubic_face_centred_orbits(cell, symprec)
    if orbits is None:
        orbits = np.asarray(spglib_dataset(cell, symprec).crystallographic_orbits)
    return np.unique(orbits, return_counts=True)[1]


def space_group_number(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    atomic_numbers: NDArray[np.uint8],
    symprec: float,
) -> int:
    """Number of the space group of one cell by spglib: (3, 3), (n, 3), (n,) as in `orbit_sizes`.

    Raises as `orbit_sizes`.
    """
    return int(spglib_dataset((lattice, frac_coords, atomic_numbers), symprec).number)


_Cell = tuple[Any, Any, Any]  # lattice, coordinates, numbers, as spglib takes them


def space_group_name(number: int) -> str:
    """Short symbol and number of a space group, e.g. ``Fm-3m (225)``."""
    import gemmi

    # gemmi tells hexagonal axes of rhombohedral groups by an H.
    symbol = gemmi.find_spacegroup_by_number(number).short_name().replace("H", "R", 1)
    return f"{symbol} ({number})"


def spglib_dataset(cell: _Cell, symprec: float) -> Any:
    """What spglib finds of a cell (lattice, coordinates, numbers).

    Raises:
        ValueError: it finds no symmetry, as in a cell without volume.
    """
    # spglib's C code prints its inner retries to the terminal unless told not to.
    os.environ.setdefault("SPGLIB_WARNING", "OFF")
    import spglib

    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except spglib.SpglibError as error:
        raise ValueError(f"symmetry search failed: {error}") from None
    if dataset is None:
        raise ValueError("symmetry search failed")
    return dataset


def _cubic_face_centred_orbits(cell: _Cell, symprec: float) -> NDArray[np.int64] | None:
    """Orbits of an unmistakable F-centred cubic crystal, None for any other.

    spglib spends 15 ms on each of these, 25 times what it takes for others, matching settings of
    the group; moyo gives the same orbits in 0.3 ms. It is trusted only where the group stays the
    same at a tenth of the tolerance, so no borderline case is decided here.
    """
    lengths = np.linalg.norm(cell[0], axis=1)
    if lengths.max() - lengths.min() > 2 * symprec:
        return None  # the shortest vectors of an F lattice are of one length
    loose = moyo_dataset(*cell, symprec)
    if loose is None or not loose.pearson_symbol.startswith("cF"):
        return None
    strict = moyo_dataset(*cell, symprec / 10)
    if strict is None:
        return None
    return np.asarray(loose.orbits) if strict.number == loose.number else None


# -- primitive cells ------------------------------------------------------------------------------
@njit()
def _primitive_batch(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    ptr: NDArray[np.int64],
    symprec: float,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.bool_],
]:
    """Lattices, coordinates and elements (the first ``sizes[i]`` rows of each crystal count)."""
    out_lattice, out_frac, out_numbers = lattice.copy(), frac_coords.copy(), numbers.copy()
    sizes, ok = ptr[1:] - ptr[:-1], np.zeros(len(lattice), dtype=np.bool_)
    for s in range(len(lattice)):
        start, stop = ptr[s], ptr[s + 1]
        cell, transform, fine = minkowski_reduce(lattice[s])
        if not fine or start == stop:
            continue
        ok[s] = True
        coords = reduced_coords(frac_coords[start:stop], transform)
        tolerance = symprec
        size = stop - start
        while tolerance > 1e-3 * symprec:
            small, small_coords, chosen = _primitive_at(
                cell, coords, numbers[start:stop], tolerance
            )
            if len(chosen) > 0:
                size, cell = len(chosen), small
                for i in range(size):
                    out_numbers[start + i] = numbers[start + chosen[i]]
                    for k in range(3):
                        out_frac[start + i, k] = small_coords[i, k]
                break
            # Sites matched within the tolerance without forming a group: be stricter.
            tolerance *= 0.7
        else:
            for i in range(size):
                for k in range(3):
                    out_frac[start + i, k] = coords[i, k]
        for i in range(3):
            for k in range(3):
                out_lattice[s, i, k] = cell[i, k]
        sizes[s] = size
    return out_lattice, out_frac, out_numbers, sizes, ok


@njit()
def _primitive_at(
    cell: NDArray[np.float64],
    coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Primitive cell of one reduced cell at a tolerance; ``chosen`` is empty on inconsistency."""
    n = len(coords)
    nothing = np.empty(0, dtype=np.int64)
    everything = np.arange(n)
    counts = np.zeros(256, dtype=np.int64)
    for z in numbers:
        counts[z] += 1
    divisor, rarest = 0, 0
    for z in range(256):
        if counts[z] > 0:
            divisor = _gcd(divisor, counts[z])
            if rarest == 0 or counts[z] < counts[rarest]:
                rarest = z
    if divisor == 1:
        return cell, coords, everything
    # Candidate translations take the first atom of the rarest element to another of its kind.
    origin = 0
    while numbers[origin] != rarest:
        origin += 1
    found = np.zeros((counts[rarest] + 1, 3))
    order = 1
    for s in range(origin + 1, n):
        if numbers[s] == rarest:
            for k in range(3):
                found[order, k] = coords[s, k] - coords[origin, k]
            if _is_translation(cell, coords, numbers, found[order], tolerance):
                order += 1
    if order == 1:
        return cell, coords, everything
    if divisor % order != 0:
        return cell, coords, nothing
    # In a group of that order every translation is a multiple of 1/order, which makes it exact.
    generators = np.zeros((order + 2, 3), dtype=np.int64)
    rest = np.zeros(3)
    for k in range(3):
        generators[k, k] = order
    for t in range(1, order):
        for k in range(3):
            generators[t + 2, k] = np.int64(np.rint(found[t, k] * order))
            rest[k] = found[t, k] - generators[t + 2, k] / order
        if _length(cell, rest[0], rest[1], rest[2]) > 2 * tolerance:
            return cell, coords, nothing
    basis = _row_echelon(generators)
    if basis[0, 0] * basis[1, 1] * basis[2, 2] != order * order:
        return cell, coords, nothing
    fractions, unreduced = np.zeros((3, 3)), np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            fractions[i, j] = basis[i, j] / order
            for k in range(3):
                unreduced[i, k] += fractions[i, j] * cell[j, k]
    small, transform, ok = minkowski_reduce(unreduced)
    if not ok:
        return cell, coords, nothing
    inverse = inverse3(fractions)
    in_basis = np.zeros((n, 3))
    for i in range(n):
        for j in range(3):
            for k in range(3):
                in_basis[i, k] += coords[i, j] * inverse[j, k]
    return _merge(small, reduced_coords(in_basis, transform), numbers, order, 2 * tolerance)


@njit()
def _merge(
    cell: NDArray[np.float64],
    coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    order: int,
    tolerance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Merge each site with its ``order - 1`` translation copies, at their mean position."""
    n = len(coords)
    merged = np.zeros((n, 3))
    chosen = np.empty(n // order, dtype=np.int64)
    taken = np.zeros(n, dtype=np.bool_)
    total = np.zeros(3)
    size = 0
    for i in range(n):
        if taken[i]:
            continue
        total[:] = 0.0
        copies = 0
        for j in range(i, n):
            if taken[j] or numbers[j] != numbers[i]:
                continue
            if minimum_image(cell, coords[i], coords[j]) <= tolerance:
                taken[j] = True
                copies += 1
                for k in range(3):
                    step = coords[j, k] - coords[i, k]
                    total[k] += step - np.rint(step)
        if copies != order or size == len(chosen):
            return cell, coords, np.empty(0, dtype=np.int64)
        for k in range(3):
            value = coords[i, k] + total[k] / order
            merged[size, k] = value - np.floor(value)
        chosen[size] = i
        size += 1
    return cell, merged[:size], chosen


@njit()
def _is_translation(
    cell: NDArray[np.float64],
    coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    shift: NDArray[np.float64],
    tolerance: float,
) -> bool:
    """Does every site land on one of its element when moved by ``shift`` (fractional)?"""
    for i in range(len(coords)):
        landed = False
        for j in range(len(coords)):
            if numbers[i] == numbers[j]:
                d0 = coords[i, 0] + shift[0] - coords[j, 0]
                d1 = coords[i, 1] + shift[1] - coords[j, 1]
                d2 = coords[i, 2] + shift[2] - coords[j, 2]
                if _length(cell, d0, d1, d2) <= tolerance:
                    landed = True
                    break
        if not landed:
            return False
    return True


@njit()
def _length(cell: NDArray[np.float64], d0: float, d1: float, d2: float) -> float:
    """Length in Å of a fractional step wrapped to the nearest cell: exact for short lengths."""
    total = 0.0
    d0, d1, d2 = d0 - np.rint(d0), d1 - np.rint(d1), d2 - np.rint(d2)
    for x in range(3):
        total += (d0 * cell[0, x] + d1 * cell[1, x] + d2 * cell[2, x]) ** 2
    return float(np.sqrt(total))


@njit()
def _row_echelon(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, 3) upper triangular basis, positive diagonal, of the lattice that integer rows span."""
    work = rows.copy()
    for column in range(3):
        while True:
            pivot = -1
            for r in range(column, len(work)):
                if work[r, column] != 0 and (
                    pivot < 0 or abs(work[r, column]) < abs(work[pivot, column])
                ):
                    pivot = r
            for k in range(3):
                work[column, k], work[pivot, k] = work[pivot, k], work[column, k]
            sign = 1 if work[column, column] > 0 else -1
            for k in range(3):
                work[column, k] *= sign
            done = True
            for r in range(column + 1, len(work)):
                times = work[r, column] // work[column, column]
                for k in range(3):
                    work[r, k] -= times * work[column, k]
                done = done and work[r, column] == 0
            if done:
                break
    return work[:3]


@njit()
def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a
