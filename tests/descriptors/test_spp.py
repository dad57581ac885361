"""SPP: the fit's formula on a case that can be counted, both file formats, and the yardsticks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_structures import displaced, known_structures, mp20_crystals

from pigen.config import PseudoRandomConfig
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.crystal.symmetry import primitive_cells
from pigen.descriptors import get_descriptor
from pigen.descriptors.spp import fit_spp, load_table
from pigen.descriptors.spp.fit import THRESHOLD, DistanceCounts
from pigen.descriptors.spp.table import BIN, N_BINS, R_MAX, distance_bin, pair_name, pair_row
from pigen.io import read
from pigen.model.pseudo_random import pseudo_random_crystal
from pigen.runtime import resources
from pigen.runtime.errors import PigenError, UsageError

NACL = Crystals.single(
    2.775 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]
)


def scores(crystals: Crystals, table: Path = resources.SPP_TABLE) -> np.ndarray:
    return np.asarray(get_descriptor("spp")(crystals, table=table).values["spp"])


def passing(crystals: Crystals, table: Path = resources.SPP_TABLE) -> float:
    """% of all that score below the threshold."""
    return 100 * float(np.mean(scores(crystals, table) < THRESHOLD))


def count_distances(crystals: Crystals) -> DistanceCounts:
    counted = DistanceCounts.zeros()
    counted.add(primitive_cells(crystals)[0])
    return counted


def published(tmp_path: Path, tree: object) -> Path:
    path = tmp_path / "published.json"
    path.write_text(json.dumps(tree))
    return path


# -- pairs and bins -------------------------------------------------------------------------------
@given(st.integers(1, 103), st.integers(1, 103))
def test_a_row_is_an_unordered_pair(a: int, b: int) -> None:
    assert pair_row(a, b) == pair_row(b, a)
    assert pair_name(pair_row(a, b)) == "-".join(sorted((SYMBOLS[a], SYMBOLS[b])))


def test_bins_are_those_of_the_published_tables() -> None:
    assert distance_bin(2.775) == distance_bin(2.751) == distance_bin(2.799) == 55
    # A distance on an edge goes to the right, however it was rounded.
    assert distance_bin(2.75) == distance_bin(2.75 - 1e-12) == distance_bin(2.75 + 1e-12) == 55
    assert distance_bin(R_MAX) == distance_bin(60.0) == N_BINS
    assert distance_bin(0.0) == 0


# -- counting -------------------------------------------------------------------------------------
def test_counts_are_those_of_pymatgens_neighbour_list() -> None:
    crystals = Crystals.concatenate([known_structures()[n].crystals for n in ("SrTiO3", "TiO2")])
    counted = count_distances(crystals)
    expected = np.zeros_like(counted.counts)
    density = np.zeros_like(counted.density)
    for structure in crystals.to_pymatgen():
        structure = structure.get_primitive_structure(tolerance=0.01)
        numbers = np.array([site.specie.Z for site in structure])
        centres, points, _, distances = structure.get_neighbor_list(r=R_MAX)
        for i, j, r in zip(centres, points, distances, strict=True):
            if numbers[i] <= numbers[j] and r < R_MAX:
                expected[pair_row(numbers[i], numbers[j]), distance_bin(r)] += 1
        for a in set(numbers):
            for b in {z for z in numbers if z <= a}:
                n_pairs = np.sum(numbers == a) * np.sum(numbers == b)
                density[pair_row(a, b)] += n_pairs / structure.volume
    np.testing.assert_allclose(counted.density, density, rtol=1e-6)
    np.testing.assert_array_equal(counted.counts[:, :-1], expected[:, :-1])


def test_an_ideal_gas_has_flat_potentials() -> None:
    rng = np.random.default_rng(0)
    gas = Crystals.concatenate(
        [Crystals.single(np.eye(3) * 14, rng.random((60, 3)), [29] * 60) for _ in range(40)]
    )
    counted = count_distances(gas)
    row = pair_row(29, 29)
    edges = np.arange(N_BINS + 1) * BIN
    ideal = counted.density[row] * 4 / 3 * np.pi * np.diff(edges**3)
    g = counted.counts[row][40:].sum() / ideal[40:].sum()
    # The 60 · 60 pairs of the formula include each atom with itself, at no distance counted.
    assert g == pytest.approx(59 / 60, abs=0.02)


# -- the fit --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table fitted to slightly shaken rock salt and perovskite."""
    path = tmp_path_factory.mktemp("spp") / "table.npz"
    parts = [NACL, known_structures()["SrTiO3"].crystals] * 50
    reference = displaced(Crystals.concatenate(parts), 0.03)
    assert fit_spp([reference[:40], reference[40:]], path, {"origin": "a test"}) == 100
    return path


def test_95_percent_of_the_reference_pass(fitted: Path) -> None:
    parts = [NACL, known_structures()["SrTiO3"].crystals] * 50
    reference = displaced(Crystals.concatenate(parts), 0.03)
    assert passing(reference, fitted) == 95.0


def test_every_pair_has_a_potential_with_a_wall(fitted: Path) -> None:
    table = load_table(fitted).potential
    rows = [pair_row(a, b) for a in range(1, 104) for b in range(1, a + 1)]
    assert np.isfinite(table[rows]).all()
    for row in (pair_row(11, 17), pair_row(8, 22), pair_row(Z_OF["U"], Z_OF["Br"])):
        shell = int(np.argmax(table[row] < table[row][-1] + 0.25))
        wall = table[row][: shell + 1]
        assert shell > 10
        assert (np.diff(wall) < 0).all(), pair_name(row)  # never flat
        assert wall[shell - 10] > wall[shell] + 10  # half an ångström in
    assert table[0].std() == 0 or np.isfinite(table[0]).all()


def test_beyond_the_range_the_potential_is_u0(fitted: Path) -> None:
    table = load_table(fitted).potential
    lonely = Crystals.single(np.eye(3) * 20, [[0, 0, 0]], [11])
    assert scores(lonely, fitted)[0] == table[pair_row(11, 11)][-1] == table[0][-1]


def test_the_score_is_the_mean_over_pairs_of_the_primitive_cell(fitted: Path) -> None:
    table = load_table(fitted).potential
    own = 2.775 * np.sqrt(2)
    expected = np.mean(
        [
            table[pair_row(11, 11)][distance_bin(own)],
            table[pair_row(17, 17)][distance_bin(own)],
            table[pair_row(11, 17)][distance_bin(2.775)],
        ]
    )
    assert scores(NACL, fitted)[0] == pytest.approx(expected)


def test_equal_input_makes_an_equal_file(fitted: Path, tmp_path: Path) -> None:
    parts = [NACL, known_structures()["SrTiO3"].crystals] * 50
    reference = displaced(Crystals.concatenate(parts), 0.03)
    again = tmp_path / "again.npz"
    fit_spp([reference], again, {"origin": "a test"})
    assert again.read_bytes() == fitted.read_bytes()
    assert load_table(again).provenance == {"origin": "a test", "structures": "100"}


def test_nothing_to_fit_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PigenError, match="no crystal to fit to"):
        fit_spp([Crystals.empty()], tmp_path / "table.npz", {})
    assert not (tmp_path / "table.npz").exists()


# -- published tables -----------------------------------------------------------------------------
def test_a_published_table_is_looked_up(tmp_path: Path) -> None:
    tree = {
        "Na-Cl": {"2.775": -2.0, "5.525": 1.0},
        "Na-Na": {"3.925": 0.5},
        "Cl-Cl": {"3.875": 9.0, "3.925": 1.0},
    }
    assert scores(NACL, published(tmp_path, tree))[0] == pytest.approx((-2 + 0.5 + 1) / 3)


def test_a_published_table_rises_left_of_its_first_bin_and_ends_at_0(tmp_path: Path) -> None:
    tree = {"Na-Na": {"3.025": 0.5, "3.075": None, "3.125": 0.7}}
    tree["Na-Na"]["3.075"] = float("inf")  # as −ln 0 is written
    row = load_table(published(tmp_path, tree)).potential[pair_row(11, 11)]
    assert row[60:63] == pytest.approx([0.5, 0.6, 0.7])
    assert (np.diff(row[:61]) < 0).all()
    assert (row[63:] == 0).all()


def test_a_missing_pair_is_named(tmp_path: Path) -> None:
    path = published(tmp_path, {"Na-Cl": {"2.775": 1.0}, "Cl-Cl": {"3.925": 1.0}})
    both = Crystals.concatenate([NACL, NACL])
    found = get_descriptor("spp")(both, table=path)
    assert found.reasons.tolist() == ["no potential for a pair: Na-Na"] * 2
    assert np.isnan(found.values["spp"]).all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("nonsense", "neither"),
        ("[1, 2]", "expected"),
        ("{}", "expected"),
        ('{"Na-Xx": {"2.775": 1}}', "Na-Xx"),
        ('{"NaCl": {"2.775": 1}}', "NaCl"),
        ('{"Na-Cl": {"near": 1}}', "Na-Cl"),
        ('{"Na-Cl": 1}', "Na-Cl"),
        ("PK not a zip", "not an SPP table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "table"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint):
        load_table(path)
    with pytest.raises(UsageError, match="gone"):
        load_table(tmp_path / "gone.npz")


# -- the shipped table ----------------------------------------------------------------------------
def test_the_shipped_table_says_where_it_is_from() -> None:
    provenance = load_table(resources.SPP_TABLE).provenance
    assert provenance["sources"] == "train.csv.gz"
    assert provenance["structures"] == "14585"


@pytest.mark.slow
def test_yardsticks_of_the_shipped_table(shared_data: Path) -> None:
    test = mp20_crystals(shared_data, "test")
    assert passing(test) == pytest.approx(95, abs=1)
    assert passing(displaced(test, 0.1)) == pytest.approx(87, abs=3)
    assert passing(displaced(test, 0.2)) < 32
    assert passing(displaced(test, 0.3)) < 7
    assert passing(read(shared_data / "generated" / "cdvae.csv.gz").crystals) > 92
    elements = sorted({SYMBOLS[z] for z in mp20_crystals(shared_data, "train").atomic_numbers})
    config = PseudoRandomConfig()
    cells = [pseudo_random_crystal(config, 0, i, elements) for i in range(600)]
    assert passing(Crystals.concatenate(cells)) < 2.5


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(0.05, 1.0))
def test_squeezing_a_bond_never_helps(shift: float) -> None:
    """Inside the first shell of the pair the score rises with every step inwards."""
    closer = Crystals.single(NACL.lattice[0], [[0, 0, 0], [0.5 - shift / 8] * 3], [11, 17])
    closest = Crystals.single(NACL.lattice[0], [[0, 0, 0], [0.48 - shift / 8] * 3], [11, 17])
    assert scores(closest)[0] >= scores(closer)[0]
