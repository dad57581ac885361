"""The table of pair potentials U_ij(r), on disk and in memory, and the score of a crystal."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z, SYMBOLS, Z_OF
from pigen.crystal.lattice import minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import minimum_image
from pigen.runtime.errors import UsageError
from pigen.runtime.files import (
    MAX_SIDE_FILE_BYTES,
    READ_ERRORS,
    cached_file,
    parse_json,
    read_whole,
    write_atomically,
)
from pigen.runtime.kernels import njit

BIN = 0.05
"""Å, width of a distance bin; a bin's centre is its distance in a published table."""
R_MAX = 11.0
"""Å, where the potentials end."""
N_BINS = round(R_MAX / BIN)
N_PAIRS = (MAX_Z + 1) * (MAX_Z + 2) // 2
"""Rows of a table: one for each unordered pair of atomic numbers, the unused 0 included."""

WALL_LENGTH = 0.12
"""Å, over which the wall left of a pair's first shell grows by a factor e."""

_FORMAT = "pigen-spp-1"
_EDGE = 1e-6  # of a bin: a distance on a bin's edge up to rounding always goes to the right one
_STORED_STEP = 1e-3  # the potentials are stored as multiples of this


@dataclass(frozen=True, eq=False)
class SppTable:
    """Potentials of all pairs, dimensionless (kT = 1).

    Attributes:
        potential: (N_PAIRS, N_BINS + 1), row `pair_row(a, b)`, the last column for all distances
            of `R_MAX` and more; a row of NaN where the pair has no potential.
        provenance: how the table came about.
    """

    potential: NDArray[np.float64]
    provenance: Mapping[str, str]

    def scores(self, primitive: Crystals) -> tuple[NDArray[np.float64], list[str]]:
        """Mean potential over the pairs a ≤ b of each primitive cell, (B,).

        The second value names, for each crystal, a pair of it that the table lacks ("" if none);
        its score is NaN, as is that of a crystal without atoms or with a degenerate cell.
        """
        codes, ptr = pair_codes(primitive)
        values = self.potential.ravel()[codes]
        scores = mean_by_crystal(values, ptr)
        missing = [""] * len(primitive)
        for i in np.flatnonzero(np.isnan(scores) & (np.diff(ptr) > 0)):
            lacking = codes[ptr[i] : ptr[i + 1]][np.isnan(values[ptr[i] : ptr[i + 1]])].min()
            missing[i] = pair_name(int(lacking) // (N_BINS + 1))
        return scores, missing


def mean_by_crystal(values: NDArray[np.float64], ptr: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of ``values[ptr[i]:ptr[i + 1]]`` for each i, (B,), NaN where there are none."""
    means = np.full(len(ptr) - 1, np.nan)
    filled = np.flatnonzero(np.diff(ptr))
    if len(filled):
        means[filled] = np.add.reduceat(values, ptr[filled]) / np.diff(ptr)[filled]
    return means


# -- pairs ----------------------------------------------------------------------------------------
def pair_row(a: int, b: int) -> int:
    """Row of the unordered pair of atomic numbers."""
    low, high = min(a, b), max(a, b)
    return high * (high + 1) // 2 + low


def pair_name(row: int) -> str:
    """The pair of a row, like ``Cl-Na``: symbols in alphabetical order."""
    high = int((np.sqrt(8 * row + 1) - 1) / 2)
    low = row - high * (high + 1) // 2
    return "-".join(sorted((SYMBOLS[low], SYMBOLS[high])))


def pair_codes(primitive: Crystals) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place in a table of each pair of atoms, ``row * (N_BINS + 1) + bin``, and (B + 1,) ptr.

    The pairs are those of a ≤ b in each crystal at their minimum-image distance, for a = b the
    nearest own image; bin `N_BINS` holds all distances of `R_MAX` and more. Crystals with a
    degenerate cell have no pairs.
    """
    n = primitive.n_atoms
    codes = np.empty(int(np.sum(n * (n + 1) // 2)), dtype=np.int64)
    ptr = np.zeros(len(n) + 1, dtype=np.int64)
    _pair_codes(
        primitive.lattice, primitive.frac_coords, primitive.atomic_numbers, primitive.ptr,
        codes, ptr,
    )  # fmt: skip
    return codes[: ptr[-1]], ptr


@njit()
def _pair_codes(
    lattice: NDArray[np.float64],
    frac_coords: NDArray[np.float64],
    numbers: NDArray[np.uint8],
    atom_ptr: NDArray[np.int64],
    codes: NDArray[np.int64],
    ptr: NDArray[np.int64],
) -> None:
    filled = 0
    for s in range(len(lattice)):
        cell, transform, ok = minkowski_reduce(lattice[s])
        if ok:
            start, stop = atom_ptr[s], atom_ptr[s + 1]
            coords = reduced_coords(frac_coords[start:stop], transform)
            own = np.sqrt(cell[0, 0] ** 2 + cell[0, 1] ** 2 + cell[0, 2] ** 2)
            for a in range(stop - start):
                for b in range(a + 1):
                    r = own if a == b else minimum_image(cell, coords[a], coords[b])
                    low = min(numbers[start + a], numbers[start + b])
                    high = max(numbers[start + a], numbers[start + b])
                    row = np.int64(high) * (np.int64(high) + 1) // 2 + np.int64(low)
                    codes[filled] = row * (N_BINS + 1) + distance_bin(r)
                    filled += 1
        ptr[s + 1] = filled


@njit()
def distance_bin(r: float) -> int:
    """Bin of a distance in Å; `N_BINS` for `R_MAX` and beyond."""
    return int(min(r / BIN + _EDGE, N_BINS))


def complete(potential: NDArray[np.float64], first_bin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Potentials (P, N_BINS) with walls, and with a last column of 0 for what is beyond `R_MAX`.

    Left of its first shell a row rises exponentially: from the value at bin ``first_bin`` (P,),
    by 1 at first and by a factor e every `WALL_LENGTH`.
    """
    depth = (first_bin[:, None] - np.arange(N_BINS)) * BIN
    start = np.take_along_axis(potential, first_bin[:, None], axis=1)
    walled = np.where(depth > 0, start + np.expm1(np.maximum(depth, 0) / WALL_LENGTH), potential)
    return np.pad(walled, ((0, 0), (0, 1)))


# -- files ----------------------------------------------------------------------------------------
def save_table(
    path: Path,
    potential: NDArray[np.float64],
    first_bin: NDArray[np.int64],
    u0: float,
    provenance: Mapping[str, str],
) -> None:
    """Write a fitted table: −ln g right of the walls, where the walls start, and u0.

    ``potential`` is (N_PAIRS, N_BINS), ``first_bin`` (N_PAIRS,). `load_table` rebuilds the walls
    and adds u0. Values are stored in steps of 0.001, so call
    `stored_steps` before anything is derived from them.
    """
    steps = np.rint(stored_steps(potential, first_bin) / _STORED_STEP)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        format=np.array(_FORMAT),
        steps=steps.astype(np.int16),
        first_bin=first_bin.astype(np.int16),
        u0=np.array(u0),
        provenance=np.array(json.dumps(dict(provenance), ensure_ascii=False)),
    )
    write_atomically(path, buffer.getvalue())


def stored_steps(
    potential: NDArray[np.float64], first_bin: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Potentials (N_PAIRS, N_BINS) rounded as a file holds them, 0 left of the walls' start."""
    kept = np.arange(N_BINS) >= first_bin[:, None]
    return np.where(kept, np.rint(potential / _STORED_STEP) * _STORED_STEP, 0.0)


@cached_file(maxsize=4)
def load_table(path: Path) -> SppTable:
    """A table fitted by PIGEN (.npz), or a published one (JSON: ``{"Na-Cl": {"2.775": U}}``).

    Raises:
        UsageError: no such file, or not a table.
    """
    content = read_whole(path)
    if content[:2] == b"PK":
        return _from_npz(content, path)
    try:
        tree = parse_json(content)
    except ValueError:
        raise UsageError(f"{path}: not an SPP table (neither .npz of pigen nor JSON)") from None
    digest = hashlib.sha256(content).hexdigest()
    return SppTable(_from_json(tree, path), {"table": f"published, sha256 {digest}"})


def _from_npz(content: bytes, path: Path) -> SppTable:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_SIDE_FILE_BYTES:
            raise ValueError(f"oversized, {size} bytes unpacked")
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            if str(stored["format"]) != _FORMAT:
                raise ValueError(f"format {str(stored['format'])[:50]}")
            steps, first_bin = stored["steps"], stored["first_bin"].astype(np.int64)
            u0, provenance = float(stored["u0"]), parse_json(str(stored["provenance"]))
        if steps.shape != (N_PAIRS, N_BINS) or first_bin.shape != (N_PAIRS,):
            raise ValueError(f"shapes {steps.shape} and {first_bin.shape}")
        if steps.dtype.kind not in "iu" or not np.isfinite(u0):
            raise ValueError(f"steps of type {steps.dtype}, u0 {u0}")
        if not ((first_bin >= 0) & (first_bin < N_BINS)).all():
            raise ValueError("first_bin points outside the table")
        said = {str(key): str(value) for key, value in provenance.items()}
    except _BROKEN as error:
        raise UsageError(f"{path}: not an SPP table of this version ({error!s:.200})") from None
    return SppTable(complete(steps * _STORED_STEP, first_bin) + u0, said)


_BROKEN = (
    *(*READ_ERRORS, zipfile.BadZipFile, struct.error, SyntaxError, RecursionError, MemoryError),
    *(KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError),
)
"""What zipfile and numpy raise on a damaged or forged file."""


def _from_json(tree: Any, path: Path) -> NDArray[np.float64]:
    """Rows of the published layout.

    Bins a pair does not list are interpolated between those it does; left of the first a wall
    rises, right of the last the potential is 0.
    """
    if not isinstance(tree, dict) or not tree:
        raise UsageError(f'{path}: expected {{"Na-Cl": {{"2.775": U, …}}, …}}')
    potential = np.full((N_PAIRS, N_BINS + 1), np.nan)
    for pair, listed in tree.items():
        symbols = pair.split("-")
        if len(symbols) != 2 or not all(s in Z_OF for s in symbols):
            raise UsageError(f"{path}: {pair[:40]!r} is not a pair of elements like Na-Cl")
        try:
            points = np.array([[float(r), float(u)] for r, u in listed.items()]).reshape(-1, 2)
        except (AttributeError, TypeError, ValueError, OverflowError):
            raise UsageError(f"{path}: {pair}: expected numbers by distance") from None
        points = points[np.isfinite(points).all(axis=1) & (0 <= points[:, 0])]
        bins = np.array([distance_bin(r) for r in points[:, 0]], dtype=np.int64)
        bins, kept = np.unique(bins, return_index=True)
        inside = bins < N_BINS
        if inside.any():
            row = np.interp(np.arange(N_BINS), bins[inside], points[kept[inside], 1], right=0.0)
            atomic_numbers = (Z_OF[symbol] for symbol in symbols)
            potential[pair_row(*atomic_numbers)] = complete(row[None], bins[inside][:1])[0]
    return potential
