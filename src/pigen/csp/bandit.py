"""Which move to try next: each as often as it is likely to be the one that gains most.

Thompson sampling (Biometrika 25, 285 (1933)): every move has a Beta distribution of what it gains,
a value is drawn of each, and the highest goes first. So what gained goes often, and what is little
known is not given up. FUSE 2.05 learns the weights of its moves for the same reason, by
reinforcement.
"""

from __future__ import annotations

from collections.abc import Mapping

from numpy.random import Generator

PRIOR = 2.0
"""Trials that the first weights count for."""
MEMORY = 60.0
"""Trials after which what was learnt counts e times less: moves that found the way down from random
cells are not those that improve a good structure."""


class Bandit:
    """What the moves of one search have gained. A function of what it was told, in that order."""

    def __init__(self, expected: Mapping[str, float]) -> None:
        """Nothing tried yet.

        Args:
            expected: move → gain to begin with, in (0, 1).
        """
        self._prior = {move: (PRIOR * e, PRIOR * (1 - e)) for move, e in expected.items()}
        self._learnt = dict.fromkeys(expected, (0.0, 0.0))

    def order(self, rng: Generator) -> list[str]:
        """All moves, the most promising draw first."""
        drawn = {}
        for move, (gain, loss) in self._prior.items():
            gained, lost = self._learnt[move]
            drawn[move] = rng.beta(gain + gained, loss + lost)
        return sorted(drawn, key=drawn.__getitem__, reverse=True)

    def learn(self, move: str, gain: float) -> None:
        """Take what a move gained, 0 … 1; a move of another name changes nothing."""
        if move not in self._learnt:
            return
        keep = 1 - 1 / MEMORY
        self._learnt = {m: (keep * g, keep * lost) for m, (g, lost) in self._learnt.items()}
        gained, lost = self._learnt[move]
        self._learnt[move] = (gained + gain, lost + 1 - gain)
