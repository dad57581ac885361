"""How much of the paper is done: three scales of one protocol."""

from __future__ import annotations

from dataclasses import dataclass

from pigen.config.searches import Settings


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is done.

    Attributes:
        name: of the scale.
        n: structures of each row.
        compositions: searched of each set, of which a row has two, filtered and unfiltered.
        search: settings of the searches.
        seed_atoms: in a generated cell that is searched, at most; None for any number.
        searched: rows that are searched, by experiment; none for all of Extended Data Table 3.
        near_hull: whether the filtered set is, as the paper's, of structures that relaxed to less
            than 50 meV/atom above the hull, and not of all that pass A–D.
    """

    name: str
    n: int
    compositions: int
    search: Settings
    seed_atoms: int | None
    searched: tuple[str, ...] = ()
    near_hull: bool = False


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="smoke",
            n=16,
            compositions=1,
            search=Settings(rmax=3, initial=3, iterations=20, steps=100),
            seed_atoms=None,
            searched=("pigen_mled_c",),
        ),
        Scale(
            name="laptop",
            n=200,
            compositions=4,
            search=Settings(rmax=20, initial=10, iterations=200, steps=300),
            seed_atoms=8,
        ),
        Scale(
            name="paper",
            n=10_000,
            compositions=20,
            search=Settings(),
            seed_atoms=None,
            near_hull=True,
        ),
    )
}
"""smoke: minutes, every stage; laptop: below 90 minutes on two cores; paper: for GPUs."""
