"""What a finished run brings to the figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import iter_bundle, read_bundle
from pigen.paper.columns import LETTERS
from pigen.run.table import RunTable

CRITERIA = ("A", "B", "C", "D", "K")


@dataclass(frozen=True, eq=False)
class Measured:
    """One row.

    Attributes:
        table: rates of the run.
        mled: (B,) bits, as generated; NaN where there is none.
        k: (B,) bits/atom.
        passed: letter of `CRITERIA` → (B,) whether a structure passes it.
        e_hull: (S,) eV/atom of the relaxed survivors, NaN where there is none; None if the run
            computed no energies.
        ranks: (P,) rank of the framework of each structure that passes A, B and C, 0 if it has
            none; what could not be compared is left out. None if nobody looked.
    """

    table: RunTable
    mled: NDArray[np.float64]
    k: NDArray[np.float64]
    passed: dict[str, NDArray[np.bool_]]
    e_hull: NDArray[np.float64] | None
    ranks: NDArray[np.int64] | None

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.table.name

    @property
    def label(self) -> str:
        """For legends: the paper's name of the row."""
        return self.table.row or self.table.name

    @property
    def total(self) -> int:
        """Structures generated, those that could not be read too."""
        return self.table.rates["sequence"].total

    @classmethod
    def read(cls, run_folder: Path, prototypes: Path | None = None) -> Measured:
        """From the folder of a run, and a bundle with the column ``prototype_rank``."""
        columns: dict[str, list[NDArray[np.float64]]] = {"mled": [], "k": []}
        passed: dict[str, list[NDArray[np.bool_]]] = {letter: [] for letter in CRITERIA}
        for chunk in iter_bundle(run_folder / "evaluated.h5"):
            if not len(chunk):
                continue
            for name, found in columns.items():
                found.append(chunk.columns[name].values.astype(np.float64))
            for letter, verdicts in passed.items():
                verdict = chunk.verdicts.get(LETTERS[letter])
                everything = np.ones(len(chunk), dtype=bool)
                verdicts.append(everything if verdict is None else verdict.passed)
        relaxed, ranks = run_folder / "relaxed.h5", None
        if prototypes is not None:
            matched = read_bundle(prototypes)
            found_ranks = matched.columns["prototype_rank"].values if len(matched) else np.zeros(0)
            ranks = found_ranks[found_ranks >= 0].astype(np.int64)
        return cls(
            table=RunTable.read(run_folder),
            mled=np.concatenate([np.zeros(0), *columns["mled"]]),
            k=np.concatenate([np.zeros(0), *columns["k"]]),
            passed={n: np.concatenate([np.zeros(0, dtype=bool), *v]) for n, v in passed.items()},
            e_hull=_energies(relaxed) if relaxed.exists() else None,
            ranks=ranks,
        )


def _energies(path: Path) -> NDArray[np.float64]:
    bundle = read_bundle(path)
    return bundle.columns["e_hull"].values if len(bundle) else np.zeros(0)


def named(rows: list[Measured], names: tuple[str, ...]) -> list[Measured]:
    """The rows of these experiments, as far as they are there; all of them if none is."""
    return [row for row in rows if row.name in names] or rows
