"""The searches for crystal structures: seeds chosen from a row, and the stage that searches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pigen import __version__
from pigen.bundle import Bundle, read_bundle
from pigen.config.searches import Request
from pigen.csp.folder import MANIFEST
from pigen.csp.seed import csp_seed, published_name
from pigen.paper.published import published_tables
from pigen.paper.reproduce.rows import Row
from pigen.paper.reproduce.scales import Scale
from pigen.paper.reproduce.stamps import Stamp
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import sha256_of, write_atomically
from pigen.screening.stability import STABLE

SETS = {"filtered": "filtered", "unfiltered": "random"}
"""Set of Extended Data Table 3 → how its seeds are chosen."""
NO_SEEDS = "no_seeds.txt"
"""File that says why a set has none."""


@dataclass(frozen=True)
class SearchSet:
    """One set of a row: its seeds and searches.

    Attributes:
        row: whose structures are searched.
        chosen: one of `SETS`.
        scale: how many, how long.
        stamp: of the set.
    """

    row: Row
    chosen: str
    scale: Scale
    stamp: Stamp

    @property
    def name(self) -> str:
        """Row and set."""
        return f"{self.row.name}/{self.chosen}"

    @property
    def folder(self) -> Path:
        """The CSP folder."""
        return _folder(self.row, self.chosen)

    @property
    def seeded(self) -> bool:
        """Whether there are searches."""
        return (self.folder / MANIFEST).exists()

    @property
    def why_none(self) -> str:
        """Why there are no searches; "" if there are."""
        path = self.folder / NO_SEEDS
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def search_sets(scale: Scale, rows: Sequence[Row]) -> list[SearchSet]:
    """The sets of the rows that Extended Data Table 3 has; the rows must have been run."""
    searched = {str(row["model"]) for row in published_tables()["extended_data_table_3"]["rows"]}
    found = []
    for row in rows:
        if published_name(row.experiment.row) not in searched:
            continue
        if scale.searched and row.name not in scale.searched:
            continue
        for chosen in SETS:
            found.append(SearchSet(row, chosen, scale, _stamp(scale, row, chosen)))
    return found


def _folder(row: Row, chosen: str) -> Path:
    return row.root / "csp" / row.name / chosen


def _stamp(scale: Scale, row: Row, chosen: str) -> Stamp:
    parents = _parents(scale, row, chosen)
    inputs = {
        "parents": " ".join(f"{path.name} {sha256_of(path)}" for path in parents),
        "settings": str(asdict(scale)),
        "pigen": __version__,
        **{key: row.stamp.inputs[key] for key in ("potential", "hull")},
    }
    path = row.root / "stamps" / "csp" / f"{row.name}_{chosen}.json"
    return Stamp(path, inputs, [_folder(row, chosen)])


def _parents(scale: Scale, row: Row, chosen: str) -> list[Path]:
    if chosen == "unfiltered":
        return [row.folder / "samples.h5"]
    return [row.folder / name for name in ("survivors.h5", *["relaxed.h5"] * scale.near_hull)]


def seed_and_search(sets: Sequence[SearchSet]) -> None:
    """Write the folders of sets and run their searches side by side, or go on with both."""
    from pigen.csp.run import GROUP, csp_run
    from pigen.energy.hull.diagram import hull_energies
    from pigen.energy.potential import load_potential
    from pigen.runtime.device import resolve_device

    for one in sets:
        if one.stamp.changed() or not one.seeded:
            shutil.rmtree(one.folder, ignore_errors=True)
    with ExitStack() as stamps:
        for one in sets:
            stamps.enter_context(one.stamp.work())
            if not one.seeded:
                _seed(one)
        folders = [one.folder for one in sets if one.seeded]
        if folders:
            kind = resolve_device("auto").type
            potential = load_potential(device=kind)
            csp_run(folders, potential, group=GROUP[kind], hull=hull_energies(potential.name))


def _seed(one: SearchSet) -> None:
    """Write the folder of a set; one with the reason alone, where there is nothing to choose."""
    one.folder.parent.mkdir(parents=True, exist_ok=True)
    request = Request(
        n=one.scale.compositions,
        choice=SETS[one.chosen],
        seed=one.row.experiment.seed,
        settings=one.scale.search,
        seed_atoms=one.scale.seed_atoms,
    )
    try:
        csp_seed(_candidates(one), request, one.folder)
    except UsageError:
        raise
    except PigenError as error:
        one.folder.mkdir(exist_ok=True)
        write_atomically(one.folder / NO_SEEDS, f"{error}\n")


def _candidates(one: SearchSet) -> Bundle:
    """What the seeds are chosen from."""
    path, *relaxed = _parents(one.scale, one.row, one.chosen)
    bundle = read_bundle(path)
    if not relaxed or not len(bundle):
        return bundle
    energies = read_bundle(relaxed[0])
    near = energies.parents[energies.columns["e_hull"].values < STABLE["E50"]]
    return replace(bundle.select(np.isin(bundle.ids, near)), rejects=())
