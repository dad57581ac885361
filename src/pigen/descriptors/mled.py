"""Local environment diversity M_LED: how many kinds of site a crystal has, shape and chemistry.

Definition and conventions: the project's physics page, section M_LED.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pigen.crystal.cells import standard_cells
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import MAX_Z
from pigen.descriptors.distance import min_distance
from pigen.descriptors.local_env import DONE, local_environments
from pigen.descriptors.registry import ColumnSpec, Evaluated, descriptor, no_reasons
from pigen.runtime.errors import UsageError

Axis = Literal["published", "corrected"]

N_MOTIFS = 37
MAX_ATOMS = 1000
"""Atoms a cell may have: beyond, the symmetry search alone can take seconds."""

MIN_DISTANCE = 0.05
"""Å: atoms closer than this are within a few times the symmetry tolerance of being one."""

_SIGMA_P = 10.0  # bins: the Gaussian on each active bin of p
_CHEMICAL = 2 * N_MOTIFS  # first bin of the chemical part; motif m has bin 2m
_TE = 52
_SITE_REASONS = (  # by status of a site
    "",
    "degenerate cell",
    "two atoms share a place",
    "the Voronoi cell of an atom does not close",
    "the Voronoi cell of an atom is too complex",
)


def _element_bins(axis: Axis) -> NDArray[np.int64]:
    """Bin of each atomic number on the axis of p, (104,); -1 for those it leaves out."""
    z = np.arange(MAX_Z + 1)
    if axis == "published":  # 85 elements, H … Rn without Te
        bins = np.where(z < _TE, z - 1, z - 2)
        bins[(z == _TE) | (z > 86)] = -1
    else:
        bins = z - 1
    return np.where(bins >= 0, bins + _CHEMICAL, -1)


@descriptor(
    "mled",
    ColumnSpec("mled", "bits", "local environment diversity M_LED = H(p) + H(S)"),
    ColumnSpec("h_p", "bits", "entropy of the active motifs and elements, smoothed"),
    ColumnSpec("h_s", "bits", "entropy of the motif counts"),
    ColumnSpec("motif", "", "closest coordination polyhedron, 0 … 36", per_atom=True),
)
def mled(crystals: Crystals, *, sigma_s: float = 0.0, axis: Axis = "published") -> Evaluated:
    """M_LED of each crystal, on its standardised primitive cell.

    Args:
        crystals: B crystals with N atoms.
        sigma_s: width in motifs of a Gaussian on each motif count of S; 0 for the plain counts.
        axis: ``published`` (Te and what lies beyond Rn have no bin and, as central atoms, no
            motif count) or ``corrected`` (every element up to Lr has a bin).

    Returns:
        ``mled``, ``h_p``, ``h_s`` in bits, (B,); ``motif`` (N,), the place of the largest of the
        37 order parameters of matminer's ``OPSiteFingerprint``, whatever the axis counts.

    Raises:
        UsageError: an unknown axis or a negative width.
    """
    if axis not in ("published", "corrected"):
        raise UsageError(f"axis must be 'published' or 'corrected', got {axis!r}")
    if not sigma_s >= 0.0:
        raise UsageError(f"sigma_s must be >= 0, got {sigma_s}")
    reasons = _cell_reasons(crystals)
    fine = np.flatnonzero(reasons == "")
    cells = standard_cells(crystals[fine])
    orbits = np.unique(cells.orbit)
    found = local_environments(cells.lattice, cells.frac_coords, cells.ptr, orbits)

    # From orbits to atoms of the primitive cells.
    orbit_of = np.searchsorted(orbits, cells.orbit)
    crystal_of = np.repeat(np.arange(len(fine)), np.diff(cells.ptr))
    status = np.full(len(fine), DONE)
    np.maximum.at(status, crystal_of, found.status[orbit_of])
    motif = found.motif[orbit_of]

    home = crystal_of[np.repeat(orbits, np.diff(found.neighbour_ptr))]
    z = cells.atomic_numbers
    active, motif_counts = _occurring(
        len(fine), _element_bins(axis), crystal_of, z, motif, home, z[found.neighbour]
    )
    h_p = _entropy(active.astype(np.float64) @ _gaussians(active.shape[1], _SIGMA_P))
    smooth = np.eye(N_MOTIFS) if sigma_s == 0.0 else _gaussians(N_MOTIFS, sigma_s)
    h_s = _entropy(motif_counts @ smooth)

    empty = (status == DONE) & (motif_counts.sum(axis=1) == 0)
    reasons[fine] = np.array(_SITE_REASONS, dtype=object)[status]
    reasons[fine[empty]] = f"no central element on the {axis} axis"
    values = {name: np.full(len(crystals), np.nan) for name in ("mled", "h_p", "h_s")}
    good = reasons[fine] == ""
    for name, column in (("mled", h_p + h_s), ("h_p", h_p), ("h_s", h_s)):
        values[name][fine[good]] = column[good]
    motifs = np.full(len(crystals.atomic_numbers), -1, dtype=np.int64)
    motifs[np.isin(crystals.batch, fine)] = motif[cells.primitive_of]
    motifs[reasons[crystals.batch] != ""] = -1
    return Evaluated(values={**values, "motif": motifs}, reasons=reasons)


def _occurring(
    n_crystals: int,
    bins: NDArray[np.int64],
    crystal_of: NDArray[np.int64],
    central: NDArray[np.uint8],
    motif: NDArray[np.int64],
    home: NDArray[np.int64],
    around: NDArray[np.uint8],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which bins are active in each crystal, (B, bins), and how often each motif occurs, (B, 37).

    Args:
        n_crystals: B.
        bins: of each atomic number.
        crystal_of, central, motif: (N,) crystal, atomic number and motif of each atom.
        home, around: (M,) crystal and atomic number of each neighbour.
    """
    active = np.zeros((n_crystals, int(bins.max()) + 1), dtype=bool)
    counts = np.zeros((n_crystals, N_MOTIFS))
    counted = (bins[central] >= 0) & (motif >= 0)
    crystal_of, motif = crystal_of[counted], motif[counted]
    active[crystal_of, bins[central[counted]]] = True
    active[crystal_of, 2 * motif] = True
    np.add.at(counts, (crystal_of, motif), 1.0)
    near = bins[around]
    active[home[near >= 0], near[near >= 0]] = True
    return active, counts


def _cell_reasons(crystals: Crystals) -> NDArray[np.object_]:
    """Why a crystal can't be evaluated, from its cell and size alone, (B,); empty where it can."""
    reasons = no_reasons(crystals)
    reasons[crystals.n_atoms > MAX_ATOMS] = f"more than {MAX_ATOMS} atoms"
    rows = np.flatnonzero(reasons == "")
    shortest = min_distance(crystals[rows])
    reasons[rows] = shortest.reasons
    for i, distance in zip(rows.tolist(), shortest.values["min_distance"].tolist(), strict=True):
        if distance < MIN_DISTANCE:
            reasons[i] = f"atoms {distance:.2g} Å apart"
    return reasons


def _gaussians(n_bins: int, sigma: float) -> NDArray[np.float64]:
    """(n, n): row i a Gaussian about bin i."""
    bins = np.arange(n_bins)
    gaussians: NDArray[np.float64] = np.exp(-0.5 * ((bins[:, None] - bins) / sigma) ** 2)
    return gaussians


def _entropy(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shannon entropy in bits of each row of weights, (B,); NaN for a row of zeros."""
    total = weights.sum(axis=1, keepdims=True)
    p = np.divide(weights, total, out=np.full_like(weights, np.nan), where=total > 0)
    entropy: NDArray[np.float64] = np.sum(p * np.log2(p, out=np.zeros_like(p), where=p > 0), axis=1)
    return np.abs(entropy)  # one bin alone gives -0.0
