"""Settings of searches of crystal structures, and of the folders that are made for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pigen.runtime.checked import setting

CHOICES = ("filtered", "random", "lowest-energy")
"""Ways to choose the generated structures that become seeds."""
ENGINES = ("fuse", "airss", "uspex", "calypso", "xtalopt")
"""Whose seeds are written; the searches of FUSE are also those that `pigen csp-run` runs."""


@dataclass(frozen=True)
class Settings:
    """What a search is told, whichever engine runs it."""

    fmax: float = setting(
        0.05, "Largest force of a relaxation that has converged.", unit="eV/Å", above=0.0
    )
    steps: int = setting(750, "Most steps of a relaxation.", lo=1)
    rmax: int = setting(1500, "Steps without a new minimum that end a search.", lo=1)
    initial: int = setting(
        250, "Random structures in the initial pool; the seed comes on top.", lo=1
    )
    iterations: int = setting(100_000, "Most relaxations of a search, the initial ones too.", lo=1)
    hours: float = setting(48.0, "Wall clock of a search.", unit="h", above=0.0)

    def __post_init__(self) -> None:
        """ValueError for settings with which no search can end as it should."""
        for name in ("fmax", "steps", "rmax", "initial", "hours"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.iterations <= self.initial + 1 + self.rmax:
            raise ValueError(
                f"iterations must exceed initial + rmax, the least a search needs: "
                f"{self.iterations} is not above {self.initial + 1 + self.rmax}"
            )


@dataclass(frozen=True)
class Request:
    """Which seeds to write, and for which searches."""

    n: int = setting(20, "How many compositions.", lo=1)
    choice: str = setting(
        CHOICES[0],
        "Structures that passed all filters, any, or those of lowest energy.",
        choices=CHOICES,
    )
    each: int = setting(1, "Seeds of a composition, at most.", lo=1)
    seed: int = setting(0, "Seed of the choice and of the searches.", lo=0)
    engine: str = setting(
        ENGINES[0],
        "fuse: searches for FUSE and pigen csp-run; else seeds in that code's format.",
        choices=ENGINES,
    )
    settings: Settings = field(default_factory=Settings)
    search_atoms: int = setting(0, "FUSE's max_atoms, where the seed has fewer.", lo=0)
    seed_atoms: int | None = setting(
        None, "Take only generated cells of at most so many atoms.", lo=1
    )
    model: str = setting("", "Name in the table; that of the experiment by default.")

    def __post_init__(self) -> None:
        """ValueError for searches that would end before they begin: seeds count as relaxations."""
        least = self.settings.initial + self.each + self.settings.rmax
        if self.settings.iterations <= least:
            raise ValueError(
                f"iterations must exceed initial + each + rmax, the least a search needs: "
                f"{self.settings.iterations} is not above {least}"
            )
