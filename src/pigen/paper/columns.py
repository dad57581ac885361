"""The columns of the paper's tables of models: a table is made of these, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pigen.bundle import Rate
from pigen.config import CRITERION_LABELS
from pigen.run.table import RunTable, table_key
from pigen.screening.criteria import IN_SEQUENCE
from pigen.screening.stability import STABLE, SUN

LARGEST_MLED = "F"
"""Column of Table 1: the largest M_LED among structures counted in E50."""
OPTIMA = "G"
"""Column of Extended Data Table 2: compositions whose generated structure no search goes below."""
PUBLISHED_SEARCHED = 40
"""Compositions behind each published figure of column G."""
SEQUENCE = tuple(map(table_key, IN_SEQUENCE))
"""The filters of Table 1, in the order they are applied."""
_VERDICTS = "VERDICTS"
"""In a query: the verdicts of the filters in sequence."""
_NEAR = f'f["columns/e_hull"][:] < {STABLE["E50"]:g}'


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: in CSV and JSON; that of the rate in ``table.json`` for a share of all generated.
        heading: above it.
        tables: those that have it.
        entry: what `published_tables.toml` calls it, "" where the paper does not have it.
        place: of its figure in the entry, where that is a list.
        unit: of `Cell`.
        row: what a run's own table calls it.
        words: what it counts there.
        joint: what joins the words to the filters in sequence, "" if they stand alone.
        needs: rate without which it is left out there, its own by default.
        meaning: below a table.
        files: bundles in the folder of a run that hold what is counted.
        query: of `Cell`.
    """

    key: str
    heading: str
    tables: tuple[str, ...] = ()
    entry: str = ""
    place: int | None = None
    unit: str = "%"
    row: str = ""
    words: str = ""
    joint: str = ""
    needs: str = ""
    meaning: str = ""
    files: tuple[str, ...] = ()
    query: str = ""

    @property
    def title(self) -> str:
        """Of its line in a run's own table."""
        return self.row or self.heading

    def query_of(self, table: RunTable) -> str:
        """The query for one run."""
        verdicts = [f'f["verdicts/{LETTERS[letter]}/passed"][:]' for letter in table.funnel]
        return self.query.replace(_VERDICTS, " & ".join(verdicts))


def _alone(name: str) -> Column:
    """A criterion on its own."""
    key, heading = table_key(name), CRITERION_LABELS[name]
    query = f'f["verdicts/{name}/passed"][:].sum()'
    return Column(key, heading, ("ed1",), key, files=("evaluated.h5",), query=query)


def _near(place: int, key: str, below: float) -> Column:
    """What stays below a height above the hull."""
    return Column(
        key,
        f"E < {1000 * below:.0f}",
        ("1", "ed2"),
        *("E", place),
        row="E",
        words=f"e_hull < {1000 * below:g} meV/atom",
        joint=" and ",
        meaning=""
        if place
        else "E: % of all generated that pass A–D and, relaxed, stay below so "
        "many meV/atom above the hull",
        files=("relaxed.h5",),
        query=f'(f["columns/e_hull"][:] < {below:g}).sum()',
    )


LETTERS = {table_key(n): n for n in ("min_distance", "spp", "novel", "c", "mled", "k")}
"""Columns of Extended Data Table 1 → the criterion each one counts."""
COLUMNS: tuple[Column, ...] = (
    *map(_alone, LETTERS.values()),
    Column(
        "sequence",
        "A–D",
        ("1", "ed2"),
        "D",
        row="in sequence",
        words="(Table 1, column D)",
        meaning="D: % passing the filters A–D in sequence",
        files=("evaluated.h5",),
        query=f"({_VERDICTS}).sum()",
    ),
    *(_near(place, *item) for place, item in enumerate(STABLE.items())),
    Column(
        LARGEST_MLED,
        "F",
        ("1", "ed2"),
        "F",
        unit="bits",
        words=f"largest mled, e_hull < {1000 * STABLE['E50']:g} meV/atom",
        needs="E50",
        meaning="F: largest M_LED, as generated, of those below 50 meV/atom",
        files=("relaxed.h5", "survivors.h5"),
        query=f'g["columns/mled"][np.isin(g["id"][:], f["parent"][{_NEAR}])].max()',
    ),
    Column(
        SUN,
        "S.U.N.",
        ("1",),
        words="stable, unique, novel structure",
        joint=", ",
        meaning="S.U.N.: % of all generated that pass A–D and, relaxed, are stable (below 100 "
        "meV/atom), unique, and of a structure not among the known ones",
        files=("relaxed.h5",),
        query="pigen.screening.stability.new_and_unique, of the rows with "
        f'f["columns/e_hull"][:] < {STABLE["E100"]:g}',
    ),
    Column(
        OPTIMA,
        "G",
        ("ed2",),
        "G",
        unit="n / N",
        meaning="G: compositions whose generated structure stays lowest against two searches of "
        f"structure prediction; published of {PUBLISHED_SEARCHED}",
        query="column a of Extended Data Table 3, all its sets: pigen table ed3 --explain",
    ),
)
TITLES = {
    "1": "Table 1: what passes the filters A–D, and how much of it is near the hull",
    "ed1": "Extended Data Table 1: % passing each criterion on its own",
    "ed2": "Extended Data Table 2: filters A–D in sequence, energies, and structure prediction",
}
TABLES = tuple(TITLES)
"""Tables made of runs."""


def columns_of(which: str) -> tuple[Column, ...]:
    """The columns of one of `TABLES`."""
    return tuple(column for column in COLUMNS if which in column.tables)


def columns_of_run(table: RunTable) -> list[tuple[Column, str]]:
    """The columns that a run's own table has as its rows, and in words what each counts."""
    sequence = ", ".join(table.funnel)
    found = [(column_of(key), words) for key, words in table.criteria.items()]
    for column in COLUMNS[len(LETTERS) :]:
        if (column.needs or column.key) in table.rates:
            words = column.words
            if column.joint:
                words = f"{sequence}{column.joint}{words}"
            elif column.key == "sequence":
                words = f"{sequence} {words}" if tuple(table.funnel) == SEQUENCE else sequence
            found.append((column, words))
    return found


def column_of(key: str) -> Column:
    """The column of that key; a plain one for a criterion that the paper does not have."""
    return next((column for column in COLUMNS if column.key == key), Column(key, key))


def figures_of(table: RunTable, optima: Mapping[str, Rate]) -> dict[str, Rate | float | None]:
    """Key of a column → what a run measured for it; ``optima`` as in `tables.joined`."""
    return {**table.rates, LARGEST_MLED: table.largest_mled, OPTIMA: optima.get(table.name)}
