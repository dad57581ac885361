"""The hopper alone: random cells, moves, what it proposes, accepts and learns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_structures import mp20_crystals

from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.neighbours import shortest_distances
from pigen.crystal.symmetry import spglib_dataset
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import templates_of
from pigen.csp.bandit import Bandit
from pigen.csp.cells import formula_units, known_cell, random_cell
from pigen.csp.fill import filled, usual
from pigen.csp.frameworks import AGAIN, TRIALS, Frameworks, group_weights
from pigen.csp.hopper import Hopper, Plan, Trial
from pigen.csp.moves import _MOVES as MOVES
from pigen.csp.moves import EXPECTED, Surroundings, move, repeated
from pigen.descriptors.spp import load_table
from pigen.model.template_prior import relatives
from pigen.runtime.resources import SPP_TABLE, TEMPLATES

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
MGO = {"O": 1, "Mg": 1}


def rock_salt(a: float = 4.21) -> Crystals:
    return Crystals.single(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [8, 12])


# -- random cells and moves ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "elements", [{"Cu": 1}, MGO, {"O": 2, "Ti": 1}, {"Li": 1, "Co": 1, "O": 2}]
)
def test_random_cells(elements: dict[str, int]) -> None:
    sizes = set()
    for seed in range(4):
        cell = random_cell(elements, 8, np.random.default_rng(seed))
        again = random_cell(elements, 8, np.random.default_rng(seed))
        assert np.array_equal(cell.frac_coords, again.frac_coords)
        assert np.all(np.diff(cell.atomic_numbers.astype(int)) >= 0)
        assert cell.n_atoms[0] <= 8
        assert cell.reduced_formulas()[0] == "".join(f"{e}{elements[e]}" for e in sorted(elements))
        same = np.zeros_like(cell.atomic_numbers)
        assert shortest_distances(cell.lattice, cell.frac_coords, same, cell.ptr)[0] > 0.7
        sizes.add(int(cell.n_atoms[0]) // sum(elements.values()))
    assert len(sizes) > 1  # of formula units
    assert formula_units(elements, 1) == 1


def test_every_move_makes_the_composition() -> None:
    current = repeated(rock_salt(), 2)
    other = random_cell(MGO, 8, np.random.default_rng(3))
    around = Surroundings(MGO, 8, (rock_salt(),), (other,), Frameworks(MGO, 4), 0)
    assert set(MOVES) == set(EXPECTED)
    for name, make in MOVES.items():
        made = [make(current, around, np.random.default_rng(seed)) for seed in range(3)]
        fine = [one for one in made if one is not None]
        assert fine, name
        for one in fine:
            assert one.reduced_formulas() == ["Mg1O1"]
            assert one.n_atoms[0] <= 8
        again = MOVES[name](current, around, np.random.default_rng(0))
        assert (again is None) == (made[0] is None)
        if again is not None and made[0] is not None:
            assert np.array_equal(again.frac_coords, made[0].frac_coords)


def test_moves_of_one_atom_alone() -> None:
    copper = Crystals.single(FCC * 3.6, [[0, 0, 0]], [29])
    around = Surroundings({"Cu": 1}, 1, (), (), Frameworks({"Cu": 1}, 1), 0)
    for seed in range(8):
        _, made = move(copper, around, list(EXPECTED), np.random.default_rng(seed))
        assert made.n_atoms[0] == 1


def test_repeated() -> None:
    doubled = repeated(rock_salt(), 3)
    assert doubled.n_atoms[0] == 6
    assert np.isclose(doubled.volume[0], 3 * rock_salt().volume[0])
    same = np.zeros_like(doubled.atomic_numbers)
    closest = shortest_distances(doubled.lattice, doubled.frac_coords, same, doubled.ptr)
    assert np.isclose(closest[0], 4.21 / 2)


# -- the hopper ------------------------------------------------------------------------------------
def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "elements": MGO,
        "max_atoms": 4,
        "seeds": (rock_salt(),),
        "n_random": 2,
        "rmax": 3,
        "iterations": 50,
        "random_seed": 7,
        "batch": 1,
    }
    return Plan(**{**given, **changes})


def test_hopper_ends_after_rmax_steps_without_a_new_minimum() -> None:
    hopper = Hopper(plan())
    for energy in (-1.0, -2.0, math.nan):
        hopper.tell("initial", energy, rock_salt())
    assert hopper.lowest == -2.0
    told = [hopper.tell("x", e, rock_salt()) for e in (-1.0, -2.00005, -3.0, -1.0, -1.0)]
    # −2.00005 is the minimum relaxed a little further, −3 a new one
    assert [r.lowest for r in told] == [-2.0, -2.00005, -3.0, -3.0, -3.0]
    assert not hopper.done
    hopper.tell("x", math.nan, rock_salt())
    assert hopper.converged
    assert hopper.done


def test_hopper_ends_after_its_iterations() -> None:
    hopper = Hopper(plan(iterations=2))
    for _ in range(2):
        assert not hopper.done
        hopper.tell("initial", -1.0, rock_salt())
    assert hopper.done
    assert not hopper.converged


def test_metropolis() -> None:
    """What is told decides; uphill steps are accepted as often as Metropolis says."""
    accepted = 0
    for seed in range(400):
        hopper = Hopper(plan(n_random=0, random_seed=seed))
        assert hopper.tell("initial", -1.0, rock_salt()).accepted
        accepted += hopper.tell("x", -0.98, rock_salt()).accepted  # one kT
    assert abs(accepted / 400 - math.exp(-1)) < 0.08


def test_temperature_rises_when_stuck_and_falls_with_a_lower_structure() -> None:
    hopper = Hopper(plan(n_random=0, rmax=200, iterations=500))
    hopper.tell("initial", -1.0, rock_salt())
    stuck = [hopper.tell("x", 5.0, rock_salt()).temperature for _ in range(70)]
    assert stuck[40] == 0.02 < stuck[-1]
    hopper.tell("x", -2.0, rock_salt())
    assert hopper.tell("x", -1.5, rock_salt()).temperature == 0.02


def led(hopper: Hopper, energies: Iterator[float]) -> list[Trial]:
    """A search led to its end; all that it proposed."""
    trials = []
    while not hopper.done:
        trials += hopper.propose()
        for trial in trials[hopper.n_told :]:
            hopper.tell(trial.move, next(energies), trial.crystal)
    return trials


def test_proposals_depend_on_seed_slot_and_earlier_rounds_alone() -> None:
    def proposals(energies: list[float]) -> list[Crystals]:
        hopper = Hopper(plan(n_random=3, batch=3, rmax=20, iterations=10))
        return [trial.crystal for trial in led(hopper, iter(energies))]

    energies = [-1.0, -2.0, -3.0, -4.0, -4.5, -4.2, -4.1, -5.0, -5.0, -5.0]
    first, again = proposals(energies), proposals(energies)
    other = proposals([*energies[:4], -4.2, -4.5, *energies[6:]])  # the first search round told so
    for k, crystal in enumerate(first):
        assert np.array_equal(crystal.frac_coords, again[k].frac_coords)
        if k < 7:  # two rounds of the pool, 3 and 1, and one of the search
            assert np.array_equal(crystal.frac_coords, other[k].frac_coords)
    assert not all(
        np.array_equal(a.frac_coords, b.frac_coords) for a, b in zip(first, other, strict=True)
    )


def test_searches_draw_the_same_starts_with_and_without_seeds() -> None:
    seeds = (rock_salt(), rock_salt(4.4))
    seeded = Hopper(plan(n_random=5, batch=7, seeds=seeds)).propose()
    alone = Hopper(plan(n_random=5, batch=7, seeds=())).propose()
    assert [trial.move for trial in [*seeded, *alone]] == ["initial"] * 12
    assert [trial.crystal for trial in seeded[:2]] == list(seeds)  # they are exact
    for first, second in zip(seeded[2:], alone, strict=True):
        assert np.array_equal(first.crystal.lattice, second.crystal.lattice)
        assert np.array_equal(first.crystal.frac_coords, second.crystal.frac_coords)


def test_rounds() -> None:
    one = plan(n_random=9, batch=4, iterations=20)
    assert [one.after(n) for n in range(7)] == [0, 4, 8, 10, 14, 18, 20]
    for n_slots in range(21):
        n = one.rounds(n_slots)
        assert one.after(n) <= n_slots
        assert one.after(n + 1) > n_slots or n_slots == one.after(n) == 20
    pools = [Hopper(plan(seeds=(), n_random=n, batch=8)).propose() for n in (1, 8, 9)]
    assert [len(pool) for pool in pools] == [1, 8, 8]


def test_a_search_ends_with_a_round() -> None:
    """Its last structures count, and resuming in the middle of a round ends it no sooner."""
    hopper = Hopper(plan(n_random=0, rmax=2, batch=4, iterations=40))
    hopper.tell("initial", -1.0, rock_salt())
    for energy, converged in ((-0.5, False), (-0.5, True), (-0.5, True), (-2.0, False)):
        hopper.tell("x", energy, rock_salt())
        assert (hopper.converged, hopper.done) == (converged, False)
    for energy in (-0.5, -0.5, -0.5, -0.5):
        assert not hopper.done
        hopper.tell("x", energy, rock_salt())
    assert hopper.done


# -- what moves have gained ------------------------------------------------------------------------
def shares(bandit: Bandit, n: int = 400) -> Counter[str]:
    return Counter(bandit.order(np.random.default_rng(seed))[0] for seed in range(n))


def test_a_move_that_gains_goes_often_and_no_other_is_given_up() -> None:
    bandit = Bandit({"good": 0.3, "bad": 0.3})
    assert abs(shares(bandit)["good"] - 200) < 50  # nothing is known of either
    for _ in range(8):
        bandit.learn("good", 0.7)
        bandit.learn("bad", 0.3)
        bandit.learn("initial", 1.0)  # no move of its
    assert 0 < shares(bandit)["bad"] < 80


def test_a_bandit_forgets() -> None:
    bandit = Bandit({"first": 0.3, "second": 0.3})
    for gain in (1.0, 0.0):
        for _ in range(100):
            bandit.learn("first", gain)
            bandit.learn("second", 1 - gain)
    assert shares(bandit)["second"] > 350


def test_a_search_learns_what_pays() -> None:
    """On a landscape where one move alone finds anything new, a search makes it ever more often."""
    hopper = Hopper(plan(n_random=4, max_atoms=8, rmax=1000, iterations=200, batch=8))
    energies, made = {"strain": -2.0}, []
    while not hopper.done:
        for trial in hopper.propose():
            if trial.move == "strain":
                energies["strain"] -= 0.01
            made.append(trial.move)
            hopper.tell(trial.move, energies.get(trial.move, -1.0), trial.crystal)
    early, late = made[5:45], made[-100:]
    assert late.count("strain") / 100 > 0.6 > early.count("strain") / 40


# -- frameworks of known crystals ------------------------------------------------------------------
def test_space_groups_are_as_frequent_as_among_known_crystals() -> None:
    for n_atoms, group in ((1, 221), (4, 225), (14, 12), (20, 62), (300, 62)):
        weights = group_weights(n_atoms)
        assert weights[group] > 4 / 229
        assert np.all(weights[2:] > 0)
        assert weights[:2].tolist() == [0, 0]
        assert np.isclose(weights.sum(), 1)
    assert group_weights(14)[227] > 3 * group_weights(19)[227]  # spinels have 14 atoms


@pytest.mark.parametrize(("elements", "units"), [(MGO, 4), ({"Al": 2, "Mg": 1, "O": 4}, 2)])
def test_frameworks_fit_the_composition(elements: dict[str, int], units: int) -> None:
    found, kinds = Frameworks(elements, units), set()
    for number in range(60):
        template, orbits = found.draw(number, np.random.default_rng(number))
        cell = Crystals.single(
            np.eye(3) * 9, template.place(template.offsets), orbits[template.orbit]
        )
        assert cell.reduced_formulas()[0] == "".join(f"{e}{elements[e]}" for e in sorted(elements))
        assert cell.n_atoms[0] <= units * sum(elements.values())
        sizes = sorted(zip(orbits.tolist(), template.multiplicities.tolist(), strict=True))
        kinds.add((template.space_group, *sizes))
    assert len(kinds) > 20
    assert known_cell(found, len(found), np.random.default_rng(0)) is None  # all are tried


def test_likely_frameworks_are_tried_again_before_unlikely_ones() -> None:
    """Each trial leaves a quarter of a framework's probability, and the likeliest is next."""
    found = Frameworks({"Al": 2, "O": 3}, 2)
    left: dict[int, float] = {}
    tried = []
    for rows in found._order:
        likely = left.get(int(rows[0]), float(found._likely[rows].sum()))
        tried.append(likely)
        left[int(rows[0])] = AGAIN * likely
    assert len(tried) == TRIALS * len(left)
    assert np.all(np.diff(tried) <= 0)
    assert len({int(rows[0]) for rows in found._order[:12]}) < 12  # corundum's comes again


def test_frameworks_of_compositions_that_the_library_lacks(shared_data: Path) -> None:
    """Of these crystals most have a framework that is among the first five of their composition."""
    library, found = TemplateLibrary.load(TEMPLATES), []
    crystals = mp20_crystals(shared_data, "val", 120)
    for crystal, template in zip(crystals, templates_of(crystals)[0], strict=True):
        numbers, counts = np.unique(crystal.atomic_numbers, return_counts=True)
        units = int(np.gcd.reduce(counts))
        known = relatives(library, dict(zip(numbers.tolist(), counts.tolist(), strict=True)), (1,))
        own = any(set(library.elements(row).tolist()) == {*numbers.tolist()} for row in known.row)
        if own or template is None or len(numbers) < 2 or not 4 <= counts.sum() <= 16:
            continue
        symbols = [SYMBOLS[z] for z in numbers]
        fitting = Frameworks(dict(zip(symbols, (counts // units).tolist(), strict=True)), units)
        drawn = [fitting.draw(k, np.random.default_rng(k))[0] for k in range(min(5, len(fitting)))]
        found.append(
            (template.space_group, sorted(template.multiplicities))
            in [(one.space_group, sorted(one.multiplicities)) for one in drawn]
        )
    assert len(found) > 25
    assert np.mean(found) > 0.6


def test_filling_keeps_the_symmetry_and_gets_more_usual() -> None:
    found = Frameworks({"Al": 2, "O": 3}, 2)
    for number in range(6):
        template, orbits = found.draw(number, np.random.default_rng(number))
        cell = filled(template, orbits, np.random.default_rng(5))
        assert cell is not None
        same = filled(template, orbits, np.random.default_rng(5))
        assert same is not None
        assert np.array_equal(cell.frac_coords, same.frac_coords)
        whole = (cell.lattice[0], cell.frac_coords, cell.atomic_numbers)
        assert len(spglib_dataset(whole, 1e-4).rotations) >= len(template.rotations)
        score, draft = usual(template, orbits, np.random.default_rng(5))
        scores, _ = load_table(SPP_TABLE).scores(Crystals.concatenate([draft, cell]))
        assert np.isclose(scores[0], score)
        assert scores[1] <= scores[0]


def test_a_search_goes_through_the_frameworks() -> None:
    """The pool takes three of four cells from them, and its moves go on where it ended."""
    hopper, tried = Hopper(plan(seeds=(), n_random=5, batch=4, iterations=40, max_atoms=8)), []
    draw = hopper._frameworks.draw

    def watched(number: int, rng: np.random.Generator) -> Any:
        tried.append(number)
        return draw(number, rng)

    hopper._frameworks.draw = watched  # type: ignore[method-assign]
    while not hopper.done:
        for trial in hopper.propose():
            hopper.tell(trial.move, -1.0 - 0.01 * hopper.n_told, trial.crystal)
    assert tried[:3] == [0, 1, 2]
    assert len(tried) > 5
    assert tried == sorted(set(tried))


def test_a_composition_without_frameworks_has_random_cells() -> None:
    odd = Frameworks({"H": 40, "Xe": 1}, 1)
    assert len(odd) == 0
    assert known_cell(odd, 0, np.random.default_rng(0)) is None
