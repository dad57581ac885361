"""The hull of a reference in every chemical system.

What its energy is at a composition is a linear programme: the mixture of compounds with the lowest
energy. The simplex method finds it in microseconds, where a phase diagram of the whole chemical
system, by pymatgen, takes milliseconds; which compounds lie on the hull is left to the latter.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pigen.crystal.elements import formula_amounts
from pigen.energy.hull.reference import Entry, Reference, load_reference

if TYPE_CHECKING:  # heavy: imported when needed
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

_MOST_DIAGRAMS = 256
"""Phase diagrams kept: one of five elements takes a few hundred KB."""
_LEAST_GAIN = 1e-10
"""eV/atom by which a compound must lower a mixture to enter it."""

_Table = tuple[NDArray[np.float64], NDArray[np.float64]]


class Hull:
    """Energies of the hull by composition, each worked out once.

    Of each formula the lowest entry counts. Compounds of one chemical system and its subsystems are
    put together when a composition first asks for them.
    """

    def __init__(self, reference: Reference) -> None:
        """No diagram is made yet."""
        self._lowest: dict[str, Entry] = {}
        for entry in reference.entries:
            known = self._lowest.get(entry.formula)
            if known is None or entry.energy < known.energy:
                self._lowest[entry.formula] = entry
        self._systems: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self._lowest.values():
            self._systems.setdefault(tuple(sorted(formula_amounts(entry.formula))), []).append(
                entry
            )
        self._as_pymatgen: dict[str, PDEntry] = {}
        self._diagrams: OrderedDict[tuple[str, ...], PhaseDiagram] = OrderedDict()
        self._energies: dict[str, float] = {}
        self._tables: OrderedDict[tuple[str, ...], _Table] = OrderedDict()

    def missing_elements(self, formula: str) -> list[str]:
        """Elements of a reduced formula that the reference has no elemental crystal of."""
        return [
            symbol for symbol in sorted(formula_amounts(formula)) if (symbol,) not in self._systems
        ]

    def energy(self, formula: str) -> float:
        """Energy of the hull at a reduced formula, eV/atom.

        Raises:
            ValueError: an elemental reference is missing ("no hull: X").
        """
        if formula not in self._energies:
            missing = self.missing_elements(formula)
            if missing or not formula:
                raise ValueError(f"no hull: {', '.join(missing) or 'no atoms'}")
            self._energies[formula] = self._energy(formula)
        return self._energies[formula]

    def above(
        self, formulas: Sequence[str], energies: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
        """Energies above the hull, negative below it, and the reasons where there is none.

        Args:
            formulas: (B,) reduced formulas.
            energies: (B,) eV/atom, at the reference's level of theory.

        Returns:
            (B,) eV/atom, NaN where there is a reason, and (B,) reasons, "" where there is none.
        """
        values = np.full(len(formulas), np.nan)
        reasons = np.array([""] * len(formulas), dtype=object)
        # Compositions of one chemical system after each other: its diagram is made once.
        for i in sorted(range(len(formulas)), key=lambda i: sorted(formula_amounts(formulas[i]))):
            try:
                values[i] = energies[i] - self.energy(formulas[i])
            except ValueError as error:
                reasons[i] = str(error)
        return values, reasons

    def stable(self, formula: str) -> list[Entry]:
        """Entries on the hull in the chemical system of a formula, elements included.

        Raises:
            ValueError: an elemental reference is missing ("no hull: X").
        """
        self.energy(formula)  # for its reason
        system = tuple(sorted(formula_amounts(formula)))
        if len(system) == 1:
            return [self._lowest[formula]]
        found: Iterable[Any] = self._diagram(system).stable_entries  # PDEntries, each with a name
        names = {entry.name for entry in found}
        return [self._lowest[name] for name in sorted(names)]

    def _energy(self, formula: str) -> float:
        amounts = formula_amounts(formula)
        if len(amounts) == 1:
            return self._lowest[formula].energy
        system = tuple(sorted(amounts))
        fractions, energies = self._table(system)
        total = sum(amounts.values())
        target = np.array([amounts[symbol] / total for symbol in system])
        return float(_lowest_mixture(fractions, energies, target))

    def _table(self, system: tuple[str, ...]) -> _Table:
        """Compositions (d, m) and energies (m,) of a system's compounds, its elements first."""
        if system not in self._tables:
            entries = self._entries(system)
            fractions = np.zeros((len(system), len(entries)))
            place = {symbol: i for i, symbol in enumerate(system)}
            for j, entry in enumerate(entries):
                amounts = formula_amounts(entry.formula)
                total = sum(amounts.values())
                for symbol, n in amounts.items():
                    fractions[place[symbol], j] = n / total
            self._tables[system] = fractions, np.array([entry.energy for entry in entries])
            if len(self._tables) > _MOST_DIAGRAMS:
                self._tables.popitem(last=False)
        return self._tables[system]

    def _entries(self, system: tuple[str, ...]) -> list[Entry]:
        """Of a system and its subsystems, elements first, in the order of the system."""
        parts = (part for n in range(1, len(system) + 1) for part in combinations(system, n))
        return [entry for part in parts for entry in self._systems.get(part, [])]

    def _diagram(self, system: tuple[str, ...]) -> PhaseDiagram:
        if system not in self._diagrams:
            from pymatgen.analysis.phase_diagram import PhaseDiagram

            entries = self._entries(system)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "No Pauling electronegativity")  # nobody asked
                self._diagrams[system] = PhaseDiagram([self._pymatgen(entry) for entry in entries])
            if len(self._diagrams) > _MOST_DIAGRAMS:
                self._diagrams.popitem(last=False)
        return self._diagrams[system]

    def _pymatgen(self, entry: Entry) -> PDEntry:
        if entry.formula not in self._as_pymatgen:
            from pymatgen.analysis.phase_diagram import PDEntry
            from pymatgen.core import Composition

            amounts = formula_amounts(entry.formula)
            total = entry.energy * sum(amounts.values())
            self._as_pymatgen[entry.formula] = PDEntry(Composition(amounts), total, entry.formula)
        return self._as_pymatgen[entry.formula]


def hull_energies(level: str) -> Callable[[str], float | None]:
    """Reduced formula → energy of the shipped hull, eV/atom.

    None where the reference lacks an element, and everywhere if it is of another level of theory.
    The reference is read when an energy is first asked for.

    Args:
        level: of theory of the energies that the hull is to be compared with, e.g. "chgnet 0.3.0".
    """

    @lru_cache(maxsize=1)
    def hull() -> Hull | None:
        reference = load_reference()
        return Hull(reference) if reference.level == level else None

    def energy(formula: str) -> float | None:
        found = hull()
        if found is None or found.missing_elements(formula):
            return None
        return found.energy(formula)

    return energy


@njit(cache=True)
def _lowest_mixture(
    fractions: NDArray[np.float64], energies: NDArray[np.float64], target: NDArray[np.float64]
) -> float:
    """Lowest energy of a mixture of compounds with the composition ``target``, eV/atom.

    The simplex method on a table, from the mixture of the elements. The first compound that gains
    enters (R. G. Bland, Math. Oper. Res. 2, 103, 1977), so it ends also where mixtures are as good.

    Args:
        fractions: (d, m) of the elements in each compound; the first d are the elements.
        energies: (m,) eV/atom.
        target: (d,) fractions.
    """
    d, m = fractions.shape
    table, amounts = fractions.copy(), target.copy()
    basis = np.arange(d)
    gain, energy = energies.copy(), 0.0
    for i in range(d):
        energy += target[i] * energies[i]
        for j in range(m):
            gain[j] -= fractions[i, j] * energies[i]
    entering = 0
    while entering < m:
        if gain[entering] > -_LEAST_GAIN:
            entering += 1
            continue
        leaving, least = -1, np.inf
        for i in range(d):
            if table[i, entering] > 1e-12:
                ratio = amounts[i] / table[i, entering]
                if ratio < least or (ratio == least and basis[i] < basis[leaving]):
                    leaving, least = i, ratio
        if leaving < 0:  # not with fractions, which sum to one
            break
        energy += gain[entering] * least
        table[leaving] /= table[leaving, entering]
        amounts[leaving] = least
        for i in range(d):
            if i != leaving:
                factor = table[i, entering]
                table[i] -= factor * table[leaving]
                amounts[i] = max(amounts[i] - factor * least, 0.0)
        gain -= gain[entering] * table[leaving]
        basis[leaving] = entering
        entering = 0
    return energy
