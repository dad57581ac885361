"""The files of one embedded search: FUSE's, so that one reader serves both.

A structure is on disk before its line in restart/graph_output.csv, and the files that say that the
search has ended come last, so a search can be killed at any time and gone on with.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pigen import __version__
from pigen.config.searches import Settings
from pigen.crystal.crystals import Crystals
from pigen.crystal.symmetry import primitive_cells
from pigen.csp.cells import sorted_atoms
from pigen.csp.folder import SEEDS, Composition
from pigen.csp.hopper import Hopper, Plan, Record
from pigen.csp.results import (
    COLUMNS,
    CONVERGED,
    EMBEDDED,
    GRAPH,
    parse_graph,
    read_structure,
    read_structure_text,
    text_of,
)
from pigen.csp.trace import draw_trace
from pigen.io.cif_text import to_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import append_line, write_atomically
from pigen.runtime.lock import Lock

Done = tuple[str, float, Crystals]
"""A relaxation that was done before: its move, energy (eV/atom) and structure."""
FAILED_ENERGY = 1e20
"""eV/atom, of a relaxation that failed."""
TRACE = "energy_trace.png"
_HEAD = (EMBEDDED, "pigen ", "... successfully read")
"""What the first lines of output.txt begin with."""


def plan_of(folder: Path, composition: Composition, settings: Settings, mode: str) -> Plan:
    """The search that a folder stands for. Its seeds are primitive, as the generator made them.

    Both modes draw random cells of as many atoms, at most, as the cell that was generated.

    Raises:
        PigenError: a seed's file is not there or can't be read.
    """
    paths = sorted((folder / SEEDS).glob("*.cif")) if mode == "seeded" else []
    if mode == "seeded" and not paths:
        raise PigenError(f"{folder / SEEDS}: no seed; write the folder anew with pigen csp-seed")
    seeds = []
    for path in paths:
        crystal = read_structure(path)
        if crystal is None:
            raise PigenError(f"{path}: not a CIF with a structure")
        seeds.append(sorted_atoms(primitive_cells(crystal)[0]))
    return Plan(
        elements=composition.elements,
        max_atoms=composition.generated_atoms,
        seeds=tuple(seeds),
        n_random=settings.initial,
        rmax=settings.rmax,
        iterations=settings.iterations,
        random_seed=composition.random_seeds[mode],
    )


class SearchFolder:
    """Writes what a search finds, and reads it back."""

    def __init__(self, path: Path, plan: Plan, potential: str) -> None:
        """Open the folder of a search.

        Args:
            path: of the folder.
            plan: of the search.
            potential: name of the potential.

        Raises:
            UsageError: it holds results of another engine, or of another potential.
        """
        self.path, self.plan = path, plan
        self._lock: Lock | None = None
        self._heading = f"{EMBEDDED}{potential}"
        output = path / "output.txt"
        if output.exists():
            found = (text_of(output) or "").split("\n", 1)[0]
            if not found.startswith(EMBEDDED):
                raise UsageError(f"{path} holds results of FUSE; write another folder to search in")
            if found != self._heading:
                raise UsageError(
                    f"{path} holds results with potential {found.removeprefix(EMBEDDED)[:100]}"
                )

    @property
    def ended(self) -> bool:
        """Whether the search has ended before."""
        return (self.path / GRAPH).exists()

    def open(self) -> list[Done]:
        """Take the search, which `release` gives back: what was done of it before.

        Raises:
            UsageError: a link where the search would write.
            PigenError: another process runs this search.
        """
        for place in (".", "structures", "restart", "output.txt", f"restart/{GRAPH}"):
            if (self.path / place).is_symlink():
                raise UsageError(f"{self.path / place} is a link; a search writes in its folder")
        self._lock = Lock(self.path / GRAPH)
        (self.path / "structures").mkdir(exist_ok=True)
        (self.path / "restart").mkdir(exist_ok=True)
        if not (self.path / "output.txt").exists():
            return []
        return list(self._done_before(text_of(self.path / "restart" / GRAPH) or ""))

    def go_on(self, done: Sequence[Done]) -> Hopper:
        """A hopper that knows what was done; what else there is will be done again.

        Args:
            done: the first relaxations of what `open` found.
        """
        hopper = Hopper(self.plan)
        output, graph = self.path / "output.txt", self.path / "restart" / GRAPH
        if not output.exists() or not graph.exists():
            n = len(self.plan.seeds)
            read = f"... successfully read {n} structure{'s' * (n != 1)}\n" if n else ""
            write_atomically(graph, ",".join(COLUMNS) + "\n")
            write_atomically(output, f"{self._heading}\npigen {__version__}\n{read}")
            return hopper
        for move, energy, crystal in done:
            if hopper.done:
                break
            hopper.tell(move, energy, crystal)
        kept = (text_of(graph) or "").split("\n")[: hopper.n_told + 1]
        text = "\n".join([*kept, ""])
        write_atomically(graph, text)  # less a line cut off
        write_atomically(output, self._output_as_of(text))
        return hopper

    def _output_as_of(self, graph: str) -> str:
        """output.txt without what it says of relaxations that are done again, and of the end."""
        done = {step.file.removesuffix(".cif") for step in parse_graph(graph)}
        text = text_of(self.path / "output.txt") or ""
        return "".join(
            line
            for line in text.splitlines(keepends=True)
            if line.startswith(_HEAD) or line.partition(" failed: ")[0] in done
        )

    def _done_before(self, text: str) -> Iterator[Done]:
        for slot, step in enumerate(parse_graph(text)):
            crystal = read_structure(self.path / "structures" / step.file)
            if step.slot != slot or crystal is None:
                return  # this and what follows is done again
            yield step.move, step.energy, crystal

    def write(self, record: Record, crystal: Crystals, problem: str) -> None:
        """Add a relaxation: its structure, why it failed if it did, then its line."""
        kind = "I" if record.initial else "S"
        file = f"{kind}-{record.slot:07d}.cif"
        path = self.path / "structures" / file
        write_atomically(path, to_cif(crystal, file.removesuffix(".cif")))
        if problem:
            said = f"{file.removesuffix('.cif')} failed: {problem}\n"
            append_line(self.path / "output.txt", said)
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(
            [
                record.move,
                kind,
                record.slot,
                _energy(record.energy),
                f"{record.temperature:.5f}",
                _energy(record.current),
                _energy(record.lowest),
                file,
                "-" if record.initial else str(record.accepted),
            ]
        )
        append_line(self.path / "restart" / GRAPH, line.getvalue())

    def finish(self, hopper: Hopper, hull: float | None) -> None:
        """Write what says that the search has ended, the table last; ``hull`` as in the trace."""
        text = (self.path / "restart" / GRAPH).read_text(encoding="utf-8")
        steps = parse_graph(text)
        lowest = min(steps, key=lambda step: step.energy)
        if math.isfinite(lowest.energy):
            best = (self.path / "structures" / lowest.file).read_text(encoding="utf-8")
            write_atomically(self.path / "global_minimum.cif", best)
            draw_trace(self.path / TRACE, steps, len(self.plan.seeds), self.plan.elements, hull)
        end = f"\n\n{CONVERGED}, stopping calculation ***\n" if hopper.converged else ""
        end += f"\nLowest energy structure is: {lowest.slot} with energy: "
        append_line(self.path / "output.txt", f"{end}{_energy(lowest.energy)} eV/atom\n")
        write_atomically(self.path / GRAPH, text)
        self.release()

    def release(self) -> None:
        """Let another process go on with the search."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def canonical(crystal: Crystals) -> Crystals | None:
    """The crystal as it reads from the file that holds it, so that resuming changes nothing.

    None for one that no reader takes: a relaxation that fell apart.
    """
    return read_structure_text(to_cif(crystal, "relaxed"))


def _energy(energy: float) -> str:
    return f"{energy:.6f}" if math.isfinite(energy) else f"{FAILED_ENERGY:g}"
