"""The best structures as files: bundle, table, CIFs with ranks in their names, and the sheet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pandas import DataFrame

from pigen.bundle import Bundle, write_bundle
from pigen.crystal.elements import file_formula
from pigen.crystal.symmetry import space_group_name
from pigen.io.cif_text import to_cif
from pigen.io.export import check_target, safe_name, write_folder
from pigen.report.sheet import sheet, to_png
from pigen.runtime.errors import PigenError
from pigen.runtime.files import replaced, write_atomically
from pigen.screening.rank import Ranked


@dataclass(frozen=True)
class BestFiles:
    """Where the best structures are written.

    Attributes:
        bundle, table, sheet, picture: BEST.h5, BEST.csv, BEST.svg and BEST.png.
        cifs: the folder BEST.
    """

    bundle: Path
    table: Path
    sheet: Path
    picture: Path
    cifs: Path

    @classmethod
    def at(cls, path: Path) -> BestFiles:
        """The files that begin with a path; that of the bundle will do."""
        stem = path.with_suffix("") if path.suffix == ".h5" else path
        ends = (".h5", ".csv", ".svg", ".png", "")
        return cls(*(stem.with_name(stem.name + end) for end in ends))

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are no folder."""
        return self.bundle, self.table, self.sheet, self.picture

    def check(self, *, force: bool) -> None:
        """UsageError where one of them is there and is not to be replaced."""
        for path in self.files:
            check_target(path, force=force)
        check_target(self.cifs, force=force, replaceable=".cif")

    def write(self, ranked: Ranked, read: int, provenance: dict[str, str]) -> None:
        """Write them.

        Args:
            ranked: the best.
            read: structures of which they are the best.
            provenance: of the bundle.

        Raises:
            PigenError: there is none.
        """
        best = ranked.bundle
        if not len(best):
            why = "; ".join(f"{count}: {reason}" for reason, count in ranked.left_out.most_common())
            raise PigenError(
                f"nothing is left to rank of {read}: {why or 'no structures'}; "
                "--keep-known keeps what is known"
            )
        write_bundle(self.bundle, replace(best, rejects=(), provenance=provenance))
        with replaced(self.table) as part:
            table_of(best).to_csv(part, index=False, float_format="%.6g")
        write_folder(self.cifs, _cifs(best))
        by = "; ".join(key.text for key in ranked.keys)
        drawn = sheet(
            best,
            f"{self.cifs.name}: {len(best)} of {read:,} structures",
            f"by {by}; conventional cells and space groups at 0.1 Å",
            [key.column for key in ranked.keys],
        )
        write_atomically(self.sheet, drawn)
        write_atomically(self.picture, to_png(drawn))


def table_of(best: Bundle) -> DataFrame:
    """A row for each structure: rank, id, formula, space group, and every column of one value."""
    table = best.to_pandas().reset_index()
    numbers = best.columns["space_group"].values
    table["space_group"] = [space_group_name(int(n)) if n > 0 else "" for n in numbers]
    units = {name: f"{name} ({best.columns[name].unit})" for name in ("volume", "density")}
    first = ["rank", "id", "parent", "formula", "space_group", "n_atoms", "volume", "density"]
    order = [name for name in first if name in table.columns]
    order += [name for name in table.columns if name not in order]
    found: DataFrame = table[order].rename(columns=units)
    return found


def _cifs(best: Bundle) -> Iterator[tuple[str, str]]:
    digits = len(str(len(best)))
    formulas = best.crystals.reduced_formulas()
    for i, crystal in enumerate(best.crystals):
        name = f"{i + 1:0{digits}d}_{file_formula(formulas[i])}_{best.ids[i]}"
        yield f"{safe_name(name)}.cif", to_cif(crystal, best.ids[i])
