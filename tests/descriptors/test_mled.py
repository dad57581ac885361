"""M_LED: known answers, the reference libraries, invariance, nasty input, settings."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_structures import (
    CHANGES,
    displaced,
    every_element,
    known_structures,
    mp20_crystals,
    nasty_crystals,
    spacegroup_crystal,
)
from real_crystals import QUARTZ
from reference_mled import reference_mled

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import Z_OF
from pigen.descriptors import get_descriptor
from pigen.descriptors.registry import Evaluated
from pigen.runtime.errors import UsageError

# H(p), H(S), M_LED in bits, and the motif of each element.
KNOWN: dict[str, tuple[float, float, float, dict[str, int]]] = {
    "Cu": (6.2344, 0, 6.2344, {"Cu": 33}),
    "Fe": (6.3569, 0, 6.3569, {"Fe": 22}),
    "Si": (6.3163, 0, 6.3163, {"Si": 10}),
    "MgO": (6.2687, 0, 6.2687, {"Mg": 18, "O": 18}),
    "CsCl": (6.8425, 0, 6.8425, {"Cs": 22, "Cl": 22}),
    "ZnS": (6.4399, 0, 6.4399, {"S": 10, "Zn": 10}),
    "CaF2": (6.6838, 0.9183, 7.6021, {"Ca": 22, "F": 10}),
    "SrTiO3": (6.9562, 1.3710, 8.3272, {"Sr": 33, "Ti": 18, "O": 5}),
    "TiO2": (6.5212, 0.9183, 7.4395, {"Ti": 18, "O": 33}),
    "LiCoO2": (6.5082, 0, 6.5082, {"Co": 18, "Li": 18, "O": 18}),
    "MgAl2O4": (6.4695, 1.3788, 7.8483, {"Al": 18, "Mg": 10, "O": 13}),
}
SECONDS_EACH = 2.0


def evaluated(crystals: Crystals, **settings: object) -> Evaluated:
    return get_descriptor("mled")(crystals, **settings)


def m_led(crystals: Crystals) -> np.ndarray:
    return np.asarray(evaluated(crystals).values["mled"])


# -- known answers --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_known_answers(name: str) -> None:
    crystals = known_structures()[name].crystals
    h_p, h_s, total, motifs = KNOWN[name]
    found = evaluated(crystals)
    assert found.reasons.tolist() == [""]
    assert found.values["h_p"][0] == pytest.approx(h_p, abs=1e-3)
    assert found.values["h_s"][0] == pytest.approx(h_s, abs=1e-3)
    assert found.values["mled"][0] == pytest.approx(total, abs=1e-3)
    expected = {Z_OF[symbol]: motif for symbol, motif in motifs.items()}
    assert [expected[z] for z in crystals.atomic_numbers] == found.values["motif"].tolist()


# -- the reference libraries ----------------------------------------------------------------------
def built() -> list[Crystals]:
    """Crystals of no special symmetry, and of some, that need no data."""
    known = {name: known.crystals for name, known in known_structures().items()}
    corundum = spacegroup_crystal(
        "R-3c", (4.76, 4.76, 12.99, 90, 90, 120), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
    )
    layers = spacegroup_crystal(
        "P6_3/mmc",
        (3.16, 3.16, 12.29, 90, 90, 120),
        ["Mo", "S"],
        [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.621]],
    )
    zircon = spacegroup_crystal(
        "I4_1/amd",
        (6.6, 6.6, 5.98, 90, 90, 90),
        ["Zr", "Si", "O"],
        [[0, 0.75, 0.125], [0, 0.25, 0.375], [0, 0.066, 0.195]],
    )
    moved = [displaced(known[name], 0.08, seed) for seed, name in enumerate(("CaF2", "TiO2"))]
    return [known["TiO2"], known["LiCoO2"], corundum, layers, zircon, QUARTZ, *moved]


@pytest.mark.parametrize("i", range(8))
def test_equals_the_reference_on_built_crystals(i: int) -> None:
    crystals = built()[i]
    expected = reference_mled(crystals.to_pymatgen()[0])
    found = evaluated(crystals).values
    assert found["h_p"][0] == pytest.approx(expected.h_p, abs=1e-6)
    assert found["h_s"][0] == pytest.approx(expected.h_s, abs=1e-6)
    ours = np.bincount(found["motif"], minlength=37) / len(found["motif"])
    theirs = np.bincount(expected.motifs, minlength=37) / len(expected.motifs)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.slow
def test_equals_the_reference_on_real_crystals(shared_data: Path) -> None:
    crystals = mp20_crystals(shared_data, "test")[::50][:30]
    expected = [reference_mled(structure).mled for structure in crystals.to_pymatgen()]
    np.testing.assert_allclose(m_led(crystals), expected, atol=1e-3)


# -- what no value may depend on ------------------------------------------------------------------
@pytest.mark.parametrize("change", sorted(CHANGES))
@given(
    st.sampled_from([*sorted(KNOWN), "quartz", "moved"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=25, deadline=None)
def test_values_do_not_depend_on_how_a_crystal_is_written(
    change: str, name: str, seed: int
) -> None:
    if name in KNOWN:
        crystal = known_structures()[name].crystals
    else:
        crystal = QUARTZ if name == "quartz" else displaced(QUARTZ, 0.15)
    changed = CHANGES[change](crystal, np.random.default_rng(seed))
    before, after = evaluated(crystal).values, evaluated(changed).values
    for column in ("mled", "h_p", "h_s"):
        assert after[column][0] == pytest.approx(before[column][0], abs=1e-9)
    sites = [
        sorted(zip(c.atomic_numbers.tolist(), v["motif"].tolist(), strict=True))
        for c, v in ((crystal, before), (changed, after))
    ]
    times = len(sites[1]) // len(sites[0])
    assert sites[1] == sorted(sites[0] * times)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_values_do_not_depend_on_rotation(seed: int) -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    crystals = Crystals.concatenate([QUARTZ, displaced(QUARTZ, 0.15)])
    turned = Crystals(
        lattice=crystals.lattice @ turn,
        frac_coords=crystals.frac_coords,
        atomic_numbers=crystals.atomic_numbers,
        ptr=crystals.ptr,
    )
    np.testing.assert_allclose(m_led(turned), m_led(crystals), atol=1e-9)


def test_values_do_not_depend_on_the_batch() -> None:
    crystals = Crystals.concatenate([*built(), *nasty_crystals().values()])
    together = evaluated(crystals)
    alone = [evaluated(one) for one in crystals]
    for name, column in together.values.items():
        np.testing.assert_array_equal(column, np.concatenate([e.values[name] for e in alone]))
    assert together.reasons.tolist() == [e.reasons[0] for e in alone]


def test_an_empty_batch() -> None:
    found = evaluated(Crystals.empty())
    assert [len(column) for column in found.values.values()] == [0, 0, 0, 0]
    assert len(found.reasons) == 0


def test_input_is_not_changed() -> None:
    crystals = displaced(QUARTZ, 0.1)
    before = crystals.lattice.copy(), crystals.frac_coords.copy()
    m_led(crystals)
    np.testing.assert_array_equal(crystals.lattice, before[0])
    np.testing.assert_array_equal(crystals.frac_coords, before[1])


# -- nasty input ----------------------------------------------------------------------------------
def more_nasty_crystals() -> dict[str, Crystals]:
    """What is hard for a Voronoi cell: atoms in planes, on lines and in lumps, with a void."""
    rng = np.random.default_rng(1)
    ten = np.arange(10) / 10
    layers = np.stack(np.meshgrid(ten, ten, [0, 0.03]), -1).reshape(-1, 3)
    sphere = rng.normal(size=(200, 3))
    sphere *= 10 / 70 / np.linalg.norm(sphere, axis=1)[:, None]
    numbers = rng.integers(1, 84, 201)
    return {
        "layers in a void": Crystals.single(np.diag([14, 14, 70.0]), layers, numbers[:200]),
        "wire in a void": Crystals.single(
            np.diag([70, 70, 20]), rng.random((200, 3)) * [0.1, 0.1, 1], numbers[:200]
        ),
        "lump in a void": Crystals.single(
            np.eye(3) * 70, rng.random((200, 3)) * 0.15, numbers[:200]
        ),
        "cage": Crystals.single(np.eye(3) * 70, np.concatenate([[[0, 0, 0]], sphere]), numbers),
        "needle": Crystals.single(np.diag([0.3, 0.3, 200]), rng.random((4, 3)), numbers[:4]),
        "short translation": Crystals.single(np.diag([0.15, 3, 80]), [[0, 0, 0]], [29]),
        "sheet": Crystals.single(np.diag([40, 40, 0.6]), rng.random((200, 3)), numbers[:200]),
        "dense": Crystals.single(np.eye(3) * 2.5, rng.random((200, 3)), numbers[:200]),
        "1001 atoms": Crystals.single(np.eye(3) * 30, rng.random((1001, 3)), np.full(1001, 8)),
    }


@pytest.mark.parametrize("name", [*nasty_crystals(), *more_nasty_crystals()])
def test_nasty_input_has_a_value_or_a_reason_in_time(name: str) -> None:
    m_led(QUARTZ)  # compiled by now
    crystals = {**nasty_crystals(), **more_nasty_crystals()}[name]
    start = time.process_time()
    found = evaluated(crystals)
    assert time.process_time() - start < SECONDS_EACH
    value, reason = found.values["mled"][0], found.reasons[0]
    assert np.isfinite(value) == (reason == "")
    motifs = found.values["motif"]
    assert ((motifs == -1) if reason else ((motifs >= 0) & (motifs < 37))).all()


def test_reasons() -> None:
    nasty = {**nasty_crystals(), **more_nasty_crystals()}
    reason = {name: evaluated(nasty[name]).reasons[0] for name in nasty}
    assert reason["coplanar cell"].startswith("degenerate cell")
    assert reason["coincident atoms"] == "atoms 0 Å apart"
    assert reason["tiny cell"] == "atoms 0.02 Å apart"
    assert reason["needle"] == "the Voronoi cell of an atom is too complex"
    assert reason["1001 atoms"] == "more than 1000 atoms"
    fine = ("one atom", "200 atoms", "void of 60 Å", "layers in a void", "left-handed", "cage")
    assert {reason[name] for name in fine} == {""}


def test_every_element_has_a_value() -> None:
    for axis in ("published", "corrected"):
        found = evaluated(every_element(), axis=axis)
        assert set(found.reasons) == {""}
        assert np.isfinite(found.values["mled"]).all()


# -- settings -------------------------------------------------------------------------------------
def test_the_published_axis_leaves_out_te_and_what_is_beyond_rn() -> None:
    for symbol in ("Te", "U"):
        alone = Crystals.single(np.eye(3) * 3.2, [[0, 0, 0]], [Z_OF[symbol]])
        published = evaluated(alone)
        assert published.reasons.tolist() == ["no central element on the published axis"]
        assert np.isnan(published.values["mled"][0])
        corrected = evaluated(alone, axis="corrected")
        assert corrected.reasons.tolist() == [""]
        assert corrected.values["mled"][0] > 6


def test_left_out_elements_count_neither_as_centres_nor_as_neighbours() -> None:
    caesium_telluride = Crystals.single(
        np.eye(3) * 4.1, [[0, 0, 0], [0.5, 0.5, 0.5]], [Z_OF["Cs"], Z_OF["Te"]]
    )
    found = evaluated(caesium_telluride)
    # Bins of the motif of Cs, 2 × 22, and of Cs itself, 74 + 53: the only two that are active.
    bins = np.arange(159)
    density = sum(np.exp(-0.5 * ((bins - b) / 10) ** 2) for b in (44, 127))
    p = density / density.sum()
    assert found.values["h_p"][0] == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-9)
    assert found.values["h_s"][0] == 0
    assert found.values["motif"].tolist() == [22, 22]


def test_axes_agree_where_no_bin_moves() -> None:
    light = known_structures()["SrTiO3"].crystals
    published, corrected = evaluated(light), evaluated(light, axis="corrected")
    assert corrected.values["h_s"][0] == published.values["h_s"][0]
    # The longer axis cuts off less of the Gaussians of heavy elements.
    assert corrected.values["h_p"][0] == pytest.approx(published.values["h_p"][0], abs=0.05)


def test_sigma_s_smooths_the_motif_counts() -> None:
    crystals = known_structures()["MgAl2O4"].crystals
    plain, narrow, wide = (
        evaluated(crystals, sigma_s=sigma).values["h_s"][0] for sigma in (0.0, 0.05, 3.0)
    )
    assert narrow == pytest.approx(plain, abs=1e-9)
    assert plain < wide < np.log2(37)


@pytest.mark.parametrize("wrong", [{"axis": "periodic"}, {"sigma_s": -1.0}, {"sigma_s": np.nan}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        evaluated(QUARTZ, **wrong)
