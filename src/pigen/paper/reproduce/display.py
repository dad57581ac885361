"""One progress display over a whole reproduction."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


class Display:
    """A bar over all stages on a terminal; elsewhere a line for each stage that has ended.

    Stages have weights; a bar that is never at rest for long needs how far each has come.
    """

    def __init__(self, weights: dict[str, float], say: Callable[[str], None]) -> None:
        """Args: weight of each stage by name, and what takes a line."""
        self._weights, self._say = weights, say
        self._share: dict[str, float] = dict.fromkeys(weights, 0.0)
        self._shown = sys.stderr.isatty()
        self._bar: tqdm[Any] = tqdm(
            total=sum(weights.values()),
            bar_format="{percentage:3.0f} % |{bar:24}| {elapsed} (left: {remaining}){postfix}",
            disable=not self._shown,
        )

    def at(self, stage: str, share: float) -> None:
        """A stage under way has come so far, 0 … 1."""
        self._share[stage] = max(share, self._share[stage])
        done = sum(weight * self._share[name] for name, weight in self._weights.items())
        self._bar.set_postfix_str(stage, refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def ended(self, stage: str, what: str) -> None:
        """A stage has ended: done, or kept from before."""
        self.at(stage, 1.0)
        if not self._shown:
            number = sum(share >= 1 for share in self._share.values())
            self._say(f"[{number}/{len(self._weights)}] {stage}: {what}")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
