"""Kernels of local environments: images, Voronoi cells, neighbours, order parameters."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_structures import displaced, known_structures, rebased, repeated, unimodular
from numpy.typing import NDArray
from real_crystals import QUARTZ
from reference_mled import crystal_nn, order_parameters

from pigen.crystal.crystals import Crystals
from pigen.crystal.lattice import inverse_heights, minkowski_reduce, reduced_coords
from pigen.crystal.neighbours import images_within
from pigen.descriptors.local_env import (
    COINCIDENT,
    DEGENERATE,
    DONE,
    TOO_COMPLEX,
    LocalEnvironments,
    local_environments,
)
from pigen.descriptors.local_env.crystal_nn import chosen
from pigen.descriptors.local_env.order_parameters import (
    TABLE,
    histogram_peak,
    polar_angles,
    triple_parameter,
)
from pigen.descriptors.local_env.voronoi import (
    MISSED,
    cut,
    extent,
    is_closed,
    new_cell,
    solid_angle,
)

BCC = 22  # the one order parameter whose value, in pymatgen, depends on the order of neighbours


def environments(crystals: Crystals) -> LocalEnvironments:
    return local_environments(crystals.lattice, crystals.frac_coords, crystals.ptr)


def built() -> Crystals:
    """Crystals of many kinds of site, in one batch.

    None is exact: at an exactly symmetric site some order parameters jump, and rounding decides
    what the reference makes of it.
    """
    known = [known_structures()[name].crystals for name in ("Cu", "CaF2", "TiO2", "LiCoO2")]
    random = Crystals.single(
        [[4.1, 0.3, 0], [0.8, 5.2, -0.4], [-1.0, 0.5, 6.0]],
        np.random.default_rng(5).random((6, 3)),
        [6, 7, 8, 9, 6, 7],
    )
    nearly = [displaced(crystal, 0.002) for crystal in (*known, QUARTZ)]
    return Crystals.concatenate([*nearly, displaced(QUARTZ, 0.2), displaced(known[1], 0.1), random])


def cell_of(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool, float]:
    """Solid angle of the face of each point, whether the cell is closed, and its reach."""
    corner, corners, plane = new_cell(1000.0)
    n_faces = 6
    slots = []
    for point in points:
        slot = cut(corner, corners, plane, n_faces, point, np.linalg.norm(point), 1000.0)
        slots.append(slot)
        n_faces = max(n_faces, slot + 1)
    angles = [0.0 if s == MISSED else solid_angle(corner[s], corners[s]) for s in slots]
    return np.array(angles), is_closed(corners), extent(corner, corners, n_faces, np.empty(3))


# -- images ---------------------------------------------------------------------------------------
@given(st.integers(0, 2**32 - 1), st.floats(2.0, 9.0))
@settings(max_examples=30, deadline=None)
def test_images_are_those_of_a_plain_search(seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    cell, transform, ok = minkowski_reduce(rng.normal(0, 3, (3, 3)) + 4 * np.eye(3))
    if not ok or np.abs(np.linalg.det(cell)) < 5.0:
        return
    frac = reduced_coords(rng.random((3, 3)), transform)
    everything = np.full(3, np.inf)
    distance, vector, atom, shift = images_within(
        cell, inverse_heights(cell), frac, 0, -1.0, radius, everything
    )
    reach = range(-12, 13)
    cells = np.array(list(itertools.product(reach, reach, reach)))
    plain = (frac[None] + cells[:, None] - frac[0]) @ cell
    lengths = np.linalg.norm(plain, axis=-1)
    assert len(distance) == ((lengths <= radius) & (lengths > 1e-12)).sum()
    assert (np.diff(distance) >= 0).all()
    np.testing.assert_allclose((frac[atom] + shift - frac[0]) @ cell, vector, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(vector, axis=1), distance, atol=1e-9)


# -- Voronoi cells --------------------------------------------------------------------------------
def test_cube_has_six_equal_faces() -> None:
    points = np.concatenate([np.eye(3), -np.eye(3)]) * 3.0
    angles, closed, reach = cell_of(points)
    assert closed
    assert reach == pytest.approx(1.5 * math.sqrt(3))
    np.testing.assert_allclose(angles, 4 * math.pi / 6, atol=1e-12)


def test_truncated_octahedron_of_bcc() -> None:
    corners = np.array(list(itertools.product([-1, 1], repeat=3))) * 1.0
    faces = np.concatenate([np.eye(3), -np.eye(3)]) * 2.0
    angles, closed, reach = cell_of(np.concatenate([corners, faces]))
    assert closed
    assert reach == pytest.approx(math.sqrt(1.25))
    assert angles.sum() == pytest.approx(4 * math.pi)
    assert np.ptp(angles[:8]) < 1e-12
    assert np.ptp(angles[8:]) < 1e-12


def test_a_plane_that_touches_a_corner_makes_no_face() -> None:
    octahedral = np.array(list(itertools.product([-1, 0, 1], repeat=3))) * 1.0
    nearest = octahedral[np.abs(octahedral).sum(axis=1) == 2]
    angles, closed, _ = cell_of(np.concatenate([nearest, np.eye(3) * 2, -np.eye(3) * 2]))
    assert closed
    np.testing.assert_allclose(angles[:12], 4 * math.pi / 12, atol=1e-9)
    assert (angles[12:] < 1e-6).all()


def test_half_a_space_is_not_closed() -> None:
    angles, closed, _ = cell_of(
        np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    )
    assert not closed
    assert angles.sum() < 4 * math.pi


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_faces_of_a_closed_cell_cover_the_sphere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 3, (60, 3))
    points = points[np.argsort(np.linalg.norm(points, axis=1))]
    points = points[np.linalg.norm(points, axis=1) > 0.3]
    corner, corners, plane = new_cell(1000.0)
    n_faces = 6
    for point in points:
        slot = cut(corner, corners, plane, n_faces, point, np.linalg.norm(point), 1000.0)
        n_faces = max(n_faces, slot + 1)
    total = sum(solid_angle(corner[f], corners[f]) for f in range(n_faces))
    assert total == pytest.approx(4 * math.pi, abs=1e-7)
    # No vertex lies beyond the plane of any point.
    for face in range(n_faces):
        vertices = corner[face, : corners[face]]
        assert (vertices @ points.T <= 0.5 * (points**2).sum(axis=1) + 1e-6).all()


# -- neighbours -----------------------------------------------------------------------------------
def test_the_widest_gap_separates_neighbours() -> None:
    assert chosen(np.array([1.0, 0.95, 0.97, 0.1, 0.05])).tolist() == [0, 1, 2]
    assert chosen(np.array([0.0001, 1.0])).tolist() == [1]
    assert chosen(np.ones(8)).tolist() == list(range(8))


@pytest.mark.slow
def test_neighbours_and_images_are_those_of_crystal_nn() -> None:
    crystals = built()
    found = environments(crystals)
    for i, structure in enumerate(crystals.to_pymatgen()):
        start = crystals.ptr[i]
        for n in range(0, len(structure), 3):
            part = slice(*found.neighbour_ptr[start + n : start + n + 2])
            ours = {
                (int(a - start), *map(int, image))
                for a, image in zip(found.neighbour[part], found.image[part], strict=True)
            }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = {
                    (info["site_index"], *map(int, info["image"]))
                    for info in crystal_nn().get_nn_info(structure, n)
                }
            assert ours == theirs


# -- order parameters -----------------------------------------------------------------------------
def test_order_parameters_are_matminers() -> None:
    crystals = built()
    ours = environments(crystals).order_parameters
    theirs = np.concatenate([order_parameters(s) for s in crystals.to_pymatgen()])
    others = np.arange(37) != BCC
    np.testing.assert_allclose(ours[:, others], theirs[:, others], atol=1e-9)
    assert ((theirs > 0.001).any(axis=0)).sum() > 25  # most motifs have been put to the test


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_bcc_is_the_mean_of_pymatgens_over_both_orders(seed: int) -> None:
    from pymatgen.analysis.local_env import LocalStructOrderParams
    from pymatgen.core import Site

    rng = np.random.default_rng(seed)
    cube = np.array(list(itertools.product([-1, 1], repeat=3))) * 1.0
    vectors = cube + rng.normal(0, 0.3, (8, 3))
    around = [Site("Fe", vector) for vector in vectors]
    parameter = LocalStructOrderParams(["bcc"])
    both = [
        parameter.get_order_parameters([Site("Fe", np.zeros(3)), *order], 0, list(range(1, 9)))[0]
        for order in (around, around[::-1])
    ]
    theta, phi = polar_angles(vectors / np.linalg.norm(vectors, axis=1)[:, None], 8)
    ours = triple_parameter(TABLE[BCC - 1], theta, phi, 8)
    assert ours == pytest.approx(np.mean(both), abs=1e-12)


def matminer_peak(values: list[float]) -> float:
    """The peak by numpy's histogram, as matminer takes it."""
    low, high = (
        min(max(int(bound) * 0.001, 0.0), 1.0)
        for bound in (min(values) * 1000 - 1.5, max(values) * 1000 + 1.5)
    )
    if low == high:
        low, high = low - 0.001, high + 0.001
    counts, edges = np.histogram(values, bins=int((high - low) * 1000.0), range=(low, high))
    full = [i for i, count in enumerate(counts) if count == counts.max()]
    peaks = []
    while full:
        i = full.pop(0)
        centre, held = 0.5 * (edges[i] + edges[i + 1]), counts[i]
        if full and full[0] == i + 1:
            after = full.pop(0)
            centre = 0.5 * (centre + 0.5 * (edges[after] + edges[after + 1]))
            held = held + counts[after]
        peaks.append((held, centre))
    return float(max(peaks, key=lambda peak: peak[0])[1])


near = st.floats(-0.2, 1.2) | st.integers(0, 2000).map(lambda i: i / 2000)
close = st.tuples(near, *[st.floats(-0.004, 0.004) | st.just(0.0)] * 2).map(
    lambda t: (t[0], t[0] + t[1], t[0] + t[2])
)


@given(close | st.tuples(near, near, near))
@settings(max_examples=500, deadline=None)
def test_peak_is_that_of_numpys_histogram(values: tuple[float, float, float]) -> None:
    expected = matminer_peak(list(values))
    assert histogram_peak(np.array(values)) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_values_do_not_depend_on_rotation_or_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crystal = displaced(QUARTZ, 0.1, seed % 7)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = Crystals.single(crystal.lattice[0] @ turn, crystal.frac_coords, crystal.atomic_numbers)
    expected = environments(crystal)
    for other in (turned, rebased(crystal, unimodular(rng)), repeated(crystal, (2, 1, 1))):
        found = environments(other)
        places = np.arange(len(found.status)) % len(expected.status)
        np.testing.assert_allclose(
            found.order_parameters, expected.order_parameters[places], atol=2e-3
        )
        assert (found.motif == expected.motif[places]).all()
        counts = np.diff(expected.neighbour_ptr)
        assert (np.diff(found.neighbour_ptr) == counts[places]).all()


# -- what can't be evaluated ----------------------------------------------------------------------
def test_chosen_sites_of_a_batch() -> None:
    crystals = built()
    everything = environments(crystals)
    sites = np.array([0, 5, 6, 20, crystals.ptr[-1] - 1])
    some = local_environments(crystals.lattice, crystals.frac_coords, crystals.ptr, sites)
    np.testing.assert_array_equal(some.order_parameters, everything.order_parameters[sites])
    for s, site in enumerate(sites):
        part = slice(*some.neighbour_ptr[s : s + 2])
        whole = slice(*everything.neighbour_ptr[site : site + 2])
        np.testing.assert_array_equal(some.neighbour[part], everything.neighbour[whole])
        np.testing.assert_array_equal(some.image[part], everything.image[whole])


def test_status_says_what_went_wrong() -> None:
    flat = Crystals.single(np.diag([5, 5, 1e-9]), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
    twice = Crystals.single(np.eye(3) * 5, [[0, 0, 0], [0, 0, 0]], [11, 17])
    needles = Crystals.single(np.diag([0.3, 0.3, 200]), [[0, 0, 0], [0.5, 0.4, 0.2]], [11, 17])
    copper = known_structures()["Cu"].crystals
    found = environments(Crystals.concatenate([flat, twice, needles, copper]))
    assert found.status.tolist() == [
        *[DEGENERATE] * 2,
        *[COINCIDENT] * 2,
        *[TOO_COMPLEX] * 2,
        *[DONE] * 4,
    ]
    assert found.motif.tolist() == [-1] * 6 + [33] * 4
    assert np.isnan(found.order_parameters[:6]).all()
    assert found.neighbour_ptr.tolist() == [0] * 7 + [12, 24, 36, 48]


def test_an_empty_batch() -> None:
    found = environments(Crystals.empty())
    assert found.order_parameters.shape == (0, 37)
    assert found.neighbour_ptr.tolist() == [0]
