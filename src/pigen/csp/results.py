"""What one search left behind: FUSE's text files, read; its pickles, never."""

from __future__ import annotations

import csv
import fcntl
import io
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from pigen.crystal.crystals import Crystals
from pigen.csp.fuse import EXIT_CODE, FAILED, LOCK, LOG, PART, TIMED_OUT
from pigen.io import Limits
from pigen.io.entry import Refused
from pigen.io.formats import parse
from pigen.runtime.errors import UsageError
from pigen.runtime.files import MAX_SIDE_FILE_BYTES, clean_text, read_whole
from pigen.runtime.lock import lock_of

STATUSES = (
    "converged",
    "unfinished",
    "running",
    "time limit",
    "killed",
    "failed",
    "never started",
)
"""In words: it ended for want of a new minimum; it ended otherwise (out of iterations, stopped); it
runs; run.sh cut it off; it was killed, or `pigen csp-run` left it for the next time; it has not one
structure with an energy, or FUSE ended with an error; nothing is there."""
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

_READ = re.compile(r"successfully read\s+(\d{1,9})\s+structure")
_LIMITS = Limits()
NOTHING = "no structure was relaxed"
"""Of a search that is not known to have failed: FUSE's output is empty until the first is."""
_LOG_END = 20_000
"""Bytes at the end of FUSE's log in which an error is looked for."""
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
_LONGEST_ERROR = 300


@dataclass(frozen=True)
class Step:
    """One relaxation: a line of graph_output.csv.

    Attributes:
        initial: of the initial pool, else of the search.
        slot: its number.
        energy: eV/atom; infinity for a relaxation that failed.
        file: of the structure, in structures/.
        move: that made it.
        decided: eV/atom, of the structure relaxed again (`decide`); None where it was not.
    """

    initial: bool
    slot: int
    energy: float
    file: str
    move: str = ""
    decided: float | None = None

    @property
    def compared(self) -> float:
        """The energy that it is compared by, eV/atom: `decided`, or what the search left."""
        return self.energy if self.decided is None else self.decided


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
        n_parts: times that FUSE was started to get here; 1 for a search in one go, 0 for none.
    """

    folder: Path
    status: str
    reason: str
    engine: str
    potential: str
    steps: tuple[Step, ...]
    n_seeds: int
    n_parts: int

    @property
    def seed_steps(self) -> tuple[Step, ...]:
        """The relaxations of the seeds themselves."""
        return tuple(step for step in self.steps if self.is_seed(step))

    @property
    def lowest(self) -> float:
        """Lowest energy reached, eV/atom; infinity where there is none."""
        return min((step.compared for step in self.steps), default=math.inf)

    @property
    def lowest_found(self) -> float:
        """Lowest energy of what the search made itself, the seeds left out."""
        found = (step.compared for step in self.steps if not self.is_seed(step))
        return min(found, default=math.inf)

    @property
    def lowest_start(self) -> float:
        """Lowest energy of the initial pool without the seeds."""
        starts = (s.compared for s in self.steps if s.initial and not self.is_seed(s))
        return min(starts, default=math.inf)

    def minimum(self) -> tuple[Step, Crystals] | None:
        """The lowest step and its structure; None where no file with it can be read."""
        if math.isinf(self.lowest):
            return None
        best = min(self.steps, key=lambda step: step.compared)
        for path in (self.folder / "structures" / best.file, self.folder / "global_minimum.cif"):
            crystal = read_structure(path)
            if crystal is not None:
                return best, crystal
        return None

    def is_seed(self, step: Step) -> bool:
        """Whether a relaxation is that of a generated structure itself."""
        return step.initial and step.slot < self.n_seeds


def read_search(folder: Path) -> Search:
    """Read the folder of one search, in whatever state it is."""
    output = text_of(folder / "output.txt")
    ended = (folder / GRAPH).is_file()
    table = text_of(folder / GRAPH if ended else folder / "restart" / GRAPH)
    steps = parse_graph(table or "")
    begun = output is not None or table is not None or (folder / LOG).is_file()
    engine, potential = "FUSE" if begun else "", ""
    if output is not None and output.startswith(EMBEDDED):
        heading = output.split("\n", 1)[0].removeprefix(EMBEDDED)
        engine, potential = "pigen csp-run", clean_text(heading)[:100]
    status, reason = _status(folder, output or "", steps, engine, ended=ended)
    return Search(
        folder, status, reason, engine, potential, steps, _n_seeds(folder), _n_parts(folder, engine)
    )


def _n_seeds(folder: Path) -> int:
    """What the first part of a search says of it, for the others read none."""
    for path in (*sorted(folder.glob("output.part*.txt")), folder / "output.txt"):
        said = _READ.findall(text_of(path) or "")
        if said:
            return int(said[-1])
    return 0


def _n_parts(folder: Path, engine: str) -> int:
    said = (text_of(folder / PART) or "").strip()
    return int(said) if re.fullmatch(r"[1-9]\d{0,5}", said, re.ASCII) else int(bool(engine))


def _status(
    folder: Path, output: str, steps: tuple[Step, ...], engine: str, *, ended: bool
) -> tuple[str, str]:
    if not engine:
        return "never started", ""
    if any(is_held(path) for path in (folder / LOCK, lock_of(folder / GRAPH))):
        return "running", "" if steps else NOTHING
    code = (text_of(folder / EXIT_CODE) or "").strip()
    why = "" if steps else NOTHING
    if not ended and code in TIMED_OUT:
        return "time limit", why
    if not ended and code not in ("", "0"):
        return "failed", _error(folder) or f"exit code {clean_text(code)[:20]}"
    if not steps:
        return "killed", why
    if all(math.isinf(step.energy) for step in steps):
        return "failed", "every relaxation failed"
    if CONVERGED in output:
        return "converged", ""
    return ("unfinished", "") if ended else ("killed", "")


def _error(folder: Path) -> str:
    """The last line of the traceback at the end of FUSE's log, "" if there is none."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(file.seek(0, io.SEEK_END) - _LOG_END, 0))
            lines = file.read(_LOG_END).decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    if not any(line.startswith("Traceback (most recent call last)") for line in lines):
        return ""
    said = [line for line in lines if _ERROR.match(line)]
    return clean_text(said[-1])[:_LONGEST_ERROR] if said else ""


def is_held(lock: Path) -> bool:
    """Whether a process holds a file by flock, as run.sh and `pigen csp-run` do while they run."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without flock
        return False
    finally:
        os.close(descriptor)
    return False


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
