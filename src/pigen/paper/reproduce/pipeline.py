"""`reproduce`: rows, searches, tables and figures, each stage once.

OUT/reproduce.json      the scale
OUT/runs/NAME/          the run folder of each row
OUT/prototypes/NAME.h5  what of it passes A, B and C, with frameworks
OUT/csp/NAME/SET/       its searches
OUT/tables/             every table, .md .csv .json
OUT/figures/            every figure, .png .csv
OUT/summary.md          what was done and left out, and how long it took
OUT/stamps/             what each stage was made from
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pigen import __version__
from pigen.paper.reproduce.display import Display
from pigen.paper.reproduce.rows import Row, plan, run_row
from pigen.paper.reproduce.scales import Scale
from pigen.paper.reproduce.searches import SearchSet, search_sets, seed_and_search
from pigen.paper.reproduce.stamps import Stamp
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import Where, open_executor
from pigen.runtime.files import (
    check_writable,
    parse_json,
    part_of,
    read_text,
    sha256_of,
    write_atomically,
)
from pigen.runtime.lock import Lock, lock_of

MARK = "reproduce.json"
"""File that says that a folder is one of a reproduction, and of which scale."""
Stage = TypeVar("Stage", Row, SearchSet)


@dataclass(frozen=True)
class Done:
    """What a reproduction did.

    Attributes:
        out: its folder.
        stages: name → "done", "kept" (finished before), or why there was nothing to do.
        not_run: row of the paper → why it was not run.
        seconds: stage → seconds by the clock and of the processors that it took when it was done.
    """

    out: Path
    stages: Mapping[str, str]
    not_run: Mapping[str, str]
    seconds: Mapping[str, Mapping[str, float]]


def reproduce(
    scale: Scale,
    out: Path,
    *,
    given: Mapping[str, Path] | None = None,
    checkpoints: Mapping[str, Path] | None = None,
    where: Where | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Done:
    """Do what is not done yet.

    Args:
        scale: how much.
        out: folder; made if missing, gone on with otherwise.
        given: as of `rows.plan`.
        checkpoints: as of `rows.plan`.
        where: the executor; a local one with a worker per core by default. On a CPU each worker
            takes whole rows and sets of searches; with CUDA these go one after the other through
            this process.
        say: takes a line for each stage that has ended, where there is no terminal.

    Raises:
        UsageError: the folder holds something else, or another scale; what is wrong with a row.
        PigenError: a stage failed, what was finished stays; another process works in the folder.
    """
    rows, not_run = plan(scale, out, given or {}, checkpoints or {})
    fresh = {row.name: row.stamp.fresh for row in rows}
    if not all(fresh.values()):
        from pigen.run.experiment import check

        for row in rows:
            check(row.experiment)
    check_writable(out)
    _claim(out, scale)
    with Lock(out / MARK):
        return _reproduce(out, scale, rows, not_run, where or Where(), say)


def _reproduce(
    out: Path,
    scale: Scale,
    rows: Sequence[Row],
    not_run: Mapping[str, str],
    where: Where,
    say: Callable[[str], None],
) -> Done:
    work = _Work(rows, scale, say)
    try:
        with open_executor(where) as executor:
            work.run_rows(executor)
            sets = search_sets(scale, rows)
            work.run_searches(sets, executor)
        work.write(out, sets, not_run)
    finally:
        work.display.close()
    done = Done(out, work.stages, not_run, work.seconds)
    write_atomically(out / "summary.md", summary(done, scale))
    return done


def _claim(out: Path, scale: Scale) -> None:
    mark = out / MARK
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder")
    if mark.exists():
        try:
            before = parse_json(read_text(mark))["scale"]
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f"{mark} is damaged: {error!r}; give another --out") from None
        if before != scale.name:
            raise UsageError(f"{out} holds the scale {before}; give another --out")
        return
    if out.is_dir() and set(out.iterdir()) - {part_of(mark), lock_of(mark)}:
        raise UsageError(f"{out} is not empty and not the folder of a reproduction")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, json.dumps({"scale": scale.name}) + "\n")


class _Work:
    """Stages under way, and what came of them."""

    def __init__(self, rows: Sequence[Row], scale: Scale, say: Callable[[str], None]) -> None:
        self.rows, self.scale = rows, scale
        self.stages: dict[str, str] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        weights = {f"row {row.name}": 5.0 for row in rows}
        self.display = Display({**weights, "searches": 3.0 * len(rows), "output": 1.0}, say)

    def run_rows(self, executor: Executor) -> None:
        """All rows."""
        names = {row.name: f"row {row.name}" for row in self.rows}
        todo = [row for row in self.rows if not self._kept(names[row.name], row.stamp)]

        def watch(under_way: Sequence[Row]) -> None:
            for row in under_way:
                self.display.at(names[row.name], row.done())

        if _on_gpu(todo):
            for row in todo:
                watch([row])
                _run_row(row, executor)
                self._ended(names[row.name], row.stamp)
            return
        for row in _spread(executor, _run_row, todo, watch):
            self._ended(names[row.name], row.stamp)

    def run_searches(self, sets: Sequence[SearchSet], executor: Executor) -> None:
        """All sets of searches."""
        names = {one.name: f"searches {one.name}" for one in sets}
        todo = [one for one in sets if not self._kept(names[one.name], one.stamp, bar=False)]
        if _on_gpu([one.row for one in todo]):
            seed_and_search(todo)
            for one in todo:
                self._ended(names[one.name], one.stamp, bar=False)
        else:
            n_kept = len(sets) - len(todo)
            for n, one in enumerate(_spread(executor, _search_set, todo, _watch_nothing), start=1):
                self._ended(names[one.name], one.stamp, bar=False)
                self.display.at("searches", (n_kept + n) / len(sets))
        for one in sets:
            if one.why_none:
                self.stages[names[one.name]] = one.why_none
        n_kept = len(sets) - len(todo)
        self.display.ended("searches", f"{len(todo)} sets searched, {n_kept} kept")

    def write(self, out: Path, sets: Sequence[SearchSet], not_run: Mapping[str, str]) -> None:
        """Tables and figures."""
        inputs = {
            "pigen": __version__,
            "not_run": json.dumps(dict(not_run)),
            "rows": _digest([row.folder / "table.json" for row in self.rows]),
            "prototypes": _digest([row.prototypes for row in self.rows]),
            "searches": _digest(sorted(p for s in sets for p in s.folder.glob("*/*/*.csv"))),
        }
        tables, figures = out / "tables", out / "figures"
        from pigen.paper.reproduce import output

        written = [tables / f"{name}.json" for name in output.TABLE_NAMES]
        stamp = Stamp(out / "stamps" / "output.json", inputs, [*written, figures])
        if self._kept("output", stamp):
            return
        with stamp.work():
            output.write_tables(tables, self.scale, self.rows, sets, not_run)
            output.draw_figures(figures, self.rows, sets)
        self._ended("output", stamp)

    def _kept(self, name: str, stamp: Stamp, *, bar: bool = True) -> bool:
        if not stamp.fresh:
            return False
        self.stages[name], self.seconds[name] = "kept", stamp.seconds()
        if bar:
            self.display.ended(name, "kept")
        return True

    def _ended(self, name: str, stamp: Stamp, *, bar: bool = True) -> None:
        self.stages[name], self.seconds[name] = "done", stamp.seconds()
        if bar:
            self.display.ended(name, f"{self.seconds[name].get('wall', 0):.0f} s")


# -- where stages run ------------------------------------------------------------------------------
def _on_gpu(rows: Sequence[Row]) -> bool:
    if not rows:
        return False
    from pigen.runtime.device import resolve_device

    return any(resolve_device(row.experiment.energy.device).type == "cuda" for row in rows)


def _spread(
    executor: Executor,
    task: Callable[[Stage], None],
    stages: Sequence[Stage],
    watch: Callable[[Sequence[Stage]], None],
) -> Iterator[Stage]:
    """Each stage in a process of its own, as it ends; ``watch`` is called every second."""
    under_way: dict[Future[None], Stage] = {}
    for stage in stages:
        under_way[executor.submit(task, stage)] = stage
    while under_way:
        ended, _ = wait(under_way, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in ended:
            future.result()
            yield under_way.pop(future)
        watch(list(under_way.values()))


def _watch_nothing(under_way: Sequence[SearchSet]) -> None:
    """A set of searches takes a minute or two: its end is enough to be told."""


def _run_row(row: Row, executor: Executor | None = None) -> None:
    """Run a row; in a worker with a worker of its own, which bad structures may take away."""
    with nullcontext(executor) if executor else open_executor(Where(workers=1)) as inner:
        run_row(row, inner)


def _search_set(one: SearchSet) -> None:
    seed_and_search([one])


def _digest(paths: Sequence[Path]) -> str:
    return " ".join(f"{path.parent.name}/{path.name} {sha256_of(path)}" for path in paths)


# -- summary ---------------------------------------------------------------------------------------
def summary(done: Done, scale: Scale) -> str:
    """What was done, and what not, as Markdown."""
    lines = [
        f"# Reproduction, scale {scale.name}",
        "",
        "| stage | | s | CPU s |",
        "|---|---|---|---|",
    ]
    for name, what in done.stages.items():
        took = done.seconds.get(name, {})
        shown = [f"{took[key]:.0f}" if key in took else "–" for key in ("wall", "cpu")]
        lines.append(f"| {name} | {what} | {' | '.join(shown)} |")
    total = sum(took.get("cpu", 0.0) for took in done.seconds.values())
    lines += ["", f"CPU time of all stages: {total:.0f} s."]
    if done.not_run:
        lines += [
            "",
            "Not run here:",
            "",
            *(f"- {row}: {why}" for row, why in done.not_run.items()),
        ]
    return "\n".join([*lines, ""])
