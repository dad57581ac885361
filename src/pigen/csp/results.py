"""What one search left behind: FUSE's text files, read; its pickles, never."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

from pigen.crystal.crystals import Crystals
from pigen.csp.fuse import FAILED
from pigen.io import Limits
from pigen.io.entry import Refused
from pigen.io.formats import parse
from pigen.runtime.bounded import MAX_SIDE_FILE_BYTES, read_whole
from pigen.runtime.errors import UsageError
from pigen.runtime.text import clean_text

STATUSES = ("converged", "unfinished", "killed", "failed", "never started")
"""In words: it ended for want of a new minimum; it ended otherwise (out of iterations, stopped); it
was killed or still runs; it has not one structure with an energy; nothing is there."""
GRAPH = "graph_output.csv"
COLUMNS = (
    "move,type,step,energy,temperature,current energy,global minimum energy,structure file name,"
    "accepted?"
).split(",")
"""Of the file `GRAPH`."""
CONVERGED = "*** BH rountine converged"
"""FUSE's spelling, in its output.txt."""
EMBEDDED = "PIGEN basin hopper, potential "
"""What begins the output.txt of `pigen csp-run`; the potential's name follows."""
IMPLAUSIBLE = 1.5
"""eV/atom below the hull of known compounds, where no crystal is, but where potentials have holes:
CHGNet puts dimers in a cell five times too large up to 15 eV/atom below. A search that falls into
one finds nothing else."""

_READ = re.compile(r"successfully read\s+(\d{1,9})\s+structure")
_LIMITS = Limits()


@dataclass(frozen=True)
class Step:
    """One relaxation: a line of graph_output.csv.

    Attributes:
        initial: of the initial pool, else of the search.
        slot: its number.
        energy: eV/atom; infinity for a relaxation that failed.
        file: of the structure, in structures/.
        move: that made it.
    """

    initial: bool
    slot: int
    energy: float
    file: str
    move: str = ""


@dataclass(frozen=True)
class Search:
    """What one search reached.

    Attributes:
        folder: of the search.
        status: one of `STATUSES`.
        reason: why, where the status leaves it open; else "".
        engine: "FUSE", "pigen csp-run", or "" where nothing ran.
        potential: of its energies, e.g. "chgnet 0.3.0"; "" where nothing says so.
        steps: relaxations in the order they were done.
        n_seeds: seeds that were read: slots 0 … n_seeds - 1 of the initial pool.
    """

    folder: Path
    status: str
    reason: str
    engine: str
    potential: str
    steps: tuple[Step, ...]
    n_seeds: int

    @property
    def seed_steps(self) -> tuple[Step, ...]:
        """The relaxations of the seeds themselves."""
        return tuple(step for step in self.steps if self._is_seed(step))

    @property
    def lowest(self) -> float:
        """Lowest energy reached, eV/atom; infinity where there is none."""
        return min((step.energy for step in self.steps), default=math.inf)

    @property
    def lowest_found(self) -> float:
        """Lowest energy of what the search made itself, the seeds left out."""
        found = (step.energy for step in self.steps if not self._is_seed(step))
        return min(found, default=math.inf)

    @property
    def lowest_start(self) -> float:
        """Lowest energy of the initial pool without the seeds."""
        starts = (s.energy for s in self.steps if s.initial and not self._is_seed(s))
        return min(starts, default=math.inf)

    def minimum(self) -> tuple[Step, Crystals] | None:
        """The lowest step and its structure; None where no file with it can be read."""
        if math.isinf(self.lowest):
            return None
        best = min(self.steps, key=lambda step: step.energy)
        for path in (self.folder / "structures" / best.file, self.folder / "global_minimum.cif"):
            crystal = read_structure(path)
            if crystal is not None:
                return best, crystal
        return None

    def _is_seed(self, step: Step) -> bool:
        return step.initial and step.slot < self.n_seeds


def read_search(folder: Path) -> Search:
    """Read the folder of one search, in whatever state it is."""
    output = text_of(folder / "output.txt")
    ended = (folder / GRAPH).is_file()
    running = folder / "restart" / GRAPH
    table = text_of(folder / GRAPH) if ended else text_of(running)
    steps = parse_graph(table or "")
    engine, potential = "" if output is None and table is None else "FUSE", ""
    if output is not None and output.startswith(EMBEDDED):
        heading = output.split("\n", 1)[0].removeprefix(EMBEDDED)
        engine, potential = "pigen csp-run", clean_text(heading)[:100]
    said = _READ.findall(output or "")
    status, reason = _status(output, steps, engine, ended=ended)
    n_seeds = int(said[-1]) if said else 0
    return Search(folder, status, reason, engine, potential, steps, n_seeds)


def _status(
    output: str | None, steps: tuple[Step, ...], engine: str, *, ended: bool
) -> tuple[str, str]:
    if not engine:
        return "never started", ""
    if not steps and engine != "FUSE":  # which may go on for ever without building one
        return "killed", "nothing relaxed yet"
    if not steps:
        return "failed", "no structure was built"
    if all(math.isinf(step.energy) for step in steps):
        return "failed", "every relaxation failed"
    if CONVERGED in (output or ""):
        return "converged", ""
    return ("unfinished", "") if ended else ("killed", "")


def parse_graph(text: str) -> tuple[Step, ...]:
    """The relaxations in the text of a graph_output.csv.

    A line that was cut off when the search was killed is left out; an energy of `FAILED` or more,
    or none at all, becomes infinity.
    """
    steps = []
    csv.field_size_limit(MAX_SIDE_FILE_BYTES)
    for row in csv.DictReader(io.StringIO(text.replace("\r", "\n"))):
        try:
            energy, slot = float(row["energy"]), int(float(row["step"]))
            kind, file, move = row["type"].strip(), row["structure file name"], row["move"]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        if kind not in ("I", "S") or file is None or slot < 0:
            continue
        failed = not energy < FAILED or math.isinf(energy)
        name = Path(file.strip()).name
        steps.append(Step(kind == "I", slot, math.inf if failed else energy, name, move or ""))
    return tuple(steps)


def text_of(path: Path) -> str | None:
    """The text of a file, None where there is none of a size that can be read."""
    try:
        return read_whole(path).decode("utf-8", "replace").replace("\0", "")
    except (OSError, ValueError, UsageError):  # not there, a folder or pipe, no name of a file
        return None


def read_structure(path: Path) -> Crystals | None:
    """The structure of a CIF, None where there is no file or it holds none."""
    text = text_of(path)
    return None if text is None else read_structure_text(text)


def read_structure_text(text: str) -> Crystals | None:
    """The first structure in the text of a CIF, None where there is none."""
    found = parse(text, "cif", _LIMITS)[0][1]
    if isinstance(found, Refused):
        return None
    return Crystals.single(found.lattice, found.frac_coords, found.atomic_numbers)
