"""Elements drawn so that compositions come out as asked.

At each step of the reverse chain the elements of some atoms are revealed. Here those of all masked
atoms are drawn, from the model's probabilities for each, again and again until a whole composition
is as asked, and of that draw what is due is revealed: a step of the chain given that its end is as
asked, as far as the model knows the end by now. Within a draw no element is taken that would leave
no room for those which must still come, or be one too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen.config import SampleConfig
from pigen.crystal.chemistry import Chemistry
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.templates import Template
from pigen.descriptors.novelty import known_list, read_formulas

DRAWS = 96
"""Of a composition, in one step, before what comes first is taken."""
_MET = {"elements_allowed", "elements_excluded", "elements_required"}
"""What banned logits and the elements that atoms are given see to, without any drawing again."""
_FLAT = 0.5
"""Power of the probabilities in the second half of the draws, which looks further around."""


@dataclass(frozen=True)
class Wanted:
    """What compositions must be.

    Attributes:
        chemistry: the rules.
        known: reduced formulas that they must not have.
    """

    chemistry: Chemistry
    known: frozenset[str] = frozenset()

    def failure(self, counts: Mapping[int, int]) -> str:
        """What a composition (atomic number → atoms) fails; "" if it is as asked."""
        failed = self.chemistry.failure(counts)
        return failed or ("novel" if self.known and _formula(counts) in self.known else "")


def wanted_of(config: SampleConfig) -> Wanted | None:
    """What a request wants of compositions; None where any will do, or what the plan gives.

    Raises:
        UsageError: the list of known compositions can't be read.
    """
    known = read_formulas(known_list(config.known)) if config.known else frozenset[str]()
    if not known and not set(config.restrictions()) - _MET:
        return None
    return Wanted(config.chemistry(), known)


def _formula(counts: Mapping[int, int]) -> str:
    divisor = np.gcd.reduce(list(counts.values()))
    named = sorted((SYMBOLS[z], n // divisor) for z, n in counts.items())
    return "".join(f"{symbol}{n}" for symbol, n in named)


class Steering:
    """Draws the elements of one chain.

    Atoms of an orbit have one element, so a chain with symmetry is one of orbits.

    Attributes:
        n_atoms: of the cell.
    """

    def __init__(
        self,
        wanted: Wanted,
        elements: Sequence[int],
        template: Template | None,
        slots: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        """Of one sample.

        Args:
            wanted: what its composition must be.
            elements: (E,) atomic numbers of the model's vocabulary.
            template: whose orbits it has, if any.
            slots: (n_atoms,) class of the stoichiometry that each atom is of, -1 for any.
            rng: its draws depend on it alone.
        """
        chemistry = wanted.chemistry
        self._wanted, self._rng = wanted, rng
        self._orbit = np.arange(len(slots)) if template is None else template.orbit
        self._first = np.unique(self._orbit, return_index=True)[1]
        self._size = np.bincount(self._orbit)
        self._numbers = np.array(elements)
        classes = chemistry.stoichiometry.classes if chemistry.stoichiometry else ()
        self.n_atoms = len(slots)
        among = [np.isin(self._numbers, list(chemistry.allowed & one)) for one in classes]
        free = np.isin(self._numbers, list(chemistry.allowed))
        self._may = np.array([among[s] if s >= 0 else free for s in slots[self._first]])
        groups = [np.isin(self._numbers, list(group)) for group in chemistry.groups]
        self._groups = np.array(groups, dtype=bool).reshape(len(groups), len(self._numbers))

    def __call__(
        self, types: NDArray[np.int64], logits: NDArray[np.float64], shown: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Types with the elements that are revealed.

        Args:
            types: (n_atoms,) classes, 0 where masked.
            logits: (n_atoms, E) over classes 1 … E.
            shown: (n_atoms,) masked atoms that are revealed.
        """
        if not shown.any():
            return types
        known = types[self._first] - 1  # place in the vocabulary; -1 where masked
        due = shown[self._first]
        masked = np.flatnonzero(known < 0)
        order = masked[np.argsort(~due[masked], kind="stable")]
        drawn = self._draw(known, order, logits[self._first])
        drawn = drawn[self._first_fit(known, order, drawn)]
        found = known.copy()
        found[order] = drawn
        return np.where(shown, found[self._orbit] + 1, types)

    def _draw(
        self, known: NDArray[np.int64], order: NDArray[np.int64], logits: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Elements of the masked orbits in their order, (DRAWS, m) places in the vocabulary."""
        rows = np.arange(DRAWS)
        power = np.where(rows < DRAWS // 2, 1.0, _FLAT)[:, None]
        present = np.zeros((DRAWS, len(self._numbers)), dtype=bool)
        present[:, known[known >= 0]] = True
        drawn = np.empty((DRAWS, len(order)), dtype=np.int64)
        for place, orbit in enumerate(order):
            may = self._allowed(present, len(order) - place) & self._may[orbit]
            may[~may.any(1)] = self._may[orbit]  # this draw will fail
            scaled = np.where(may, power * logits[orbit], -np.inf)
            weights = np.exp(scaled - scaled.max(1, keepdims=True)).cumsum(1)
            level = self._rng.random((DRAWS, 1)) * weights[:, -1:]
            drawn[:, place] = (weights <= level).sum(1)
            present[rows, drawn[:, place]] = True
        return drawn

    def _allowed(self, present: NDArray[np.bool_], left: int) -> NDArray[np.bool_]:
        """(DRAWS, E) what may come next, so that what must come has room in the ``left`` orbits."""
        chemistry = self._wanted.chemistry
        n_elements = present.sum(1)
        lacking = ~np.any(present[:, None] & self._groups, axis=2)  # (DRAWS, groups)
        n_lacking = lacking.sum(1)
        useful: NDArray[np.bool_] = np.any(lacking[..., None] & self._groups, axis=1)
        room = n_elements + n_lacking < chemistry.most
        may: NDArray[np.bool_] = present | useful | room[:, None]
        new = chemistry.fewest - n_elements
        may &= np.where((left <= new)[:, None], ~present, True)
        may &= np.where((left <= n_lacking)[:, None], useful, True)
        return may

    def _first_fit(
        self, known: NDArray[np.int64], order: NDArray[np.int64], drawn: NDArray[np.int64]
    ) -> int:
        """The first draw whose composition is as asked; 0 if none is."""
        places = np.tile(known, (DRAWS, 1))
        places[:, order] = drawn
        seen = set()
        for row, elements in enumerate(places.tolist()):
            counts: dict[int, int] = {}
            for place, size in zip(elements, self._size.tolist(), strict=True):
                z = int(self._numbers[place])
                counts[z] = counts.get(z, 0) + size
            key = frozenset(counts.items())
            if key not in seen and not self._wanted.failure(counts):
                return row
            seen.add(key)
        return 0


def steered(chains: Sequence[Steering], types: Tensor, logits: Tensor, shown: Tensor) -> Tensor:
    """`Steering` of each chain of a batch: types (B, n), logits (B, n, E), shown (B, n)."""
    found = types.cpu().numpy().copy()
    as_numpy = logits.double().cpu().numpy()
    due = shown.cpu().numpy()
    for row, chain in enumerate(chains):
        n = chain.n_atoms
        found[row, :n] = chain(found[row, :n], as_numpy[row, :n], due[row, :n])
    return torch.as_tensor(found, dtype=types.dtype, device=types.device)
