"""The rows of the paper's tables: which can be run here, and the stage that runs one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from pigen import __version__
from pigen.bundle import (
    Bundle,
    KeepingAll,
    bundle_info,
    content_digest,
    iter_bundle,
)
from pigen.bundle.stage import CHUNK, Stage
from pigen.config import Experiment, dump_experiment, load_experiment, shipped_experiments
from pigen.paper.columns import LETTERS
from pigen.paper.published import published_rows
from pigen.paper.reproduce.scales import Scale
from pigen.paper.reproduce.stamps import Stamp
from pigen.paper.tables import published_files
from pigen.run.folder import is_complete
from pigen.runtime import resources
from pigen.runtime.errors import UsageError
from pigen.runtime.files import sha256_of

LIBRARY = "reference"
"""Library of frameworks for Fig. 3d: the one that is ranked by how many structures share one."""
TOP = 100
"""Frameworks of the library that are looked through."""
_PLAUSIBLE = ("A", "B", "C")


@dataclass(frozen=True)
class Row:
    """One row to run.

    Attributes:
        experiment: what to run.
        root: folder of the reproduction.
        stamp: of the row.
    """

    experiment: Experiment
    root: Path
    stamp: Stamp

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.experiment.name

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.root / "runs" / self.name

    @property
    def prototypes(self) -> Path:
        """Bundle of what passes A, B and C, with frameworks."""
        return self.root / "prototypes" / f"{self.name}.h5"

    def done(self) -> float:
        """About how much of it is done, 0 … 1, as its files tell."""
        samples = self.folder / "samples.h5"
        stages = [self.folder / name for name in ("evaluated.h5", "relaxed.h5")]
        if self.stamp.fresh:
            return 1.0
        if not samples.exists():
            return 0.0
        drawn = bundle_info(samples).n_crystals / (self.experiment.n_structures or 1)
        return (2 * min(drawn, 1.0) + sum(map(is_complete, stages))) / 5


def plan(
    scale: Scale, root: Path, given: Mapping[str, Path], checkpoints: Mapping[str, Path]
) -> tuple[list[Row], dict[str, str]]:
    """The rows that can be run, in the paper's order, and of the others why they can't.

    Args:
        scale: how many structures of each.
        root: folder of the reproduction.
        given: name of an experiment that takes structures made elsewhere → source of them.
        checkpoints: name of an experiment → checkpoint in place of the shipped one.

    Raises:
        UsageError: something given for an experiment that has no use for it.
    """
    experiments = {name: load_experiment(path) for name, path in shipped_experiments().items()}
    _check_names("structures", given, experiments, "import")
    _check_names("checkpoint", checkpoints, experiments, "model")
    order = [*published_rows(), ""]  # what the paper has not, last
    rows, not_run = [], {}
    for name, shipped in sorted(experiments.items(), key=lambda item: order.index(item[1].row)):
        experiment = replace(shipped, energy=replace(shipped.energy, relax=True))
        if shipped.generator == "import":
            experiment = replace(experiment, imported=replace(shipped.imported, n=scale.n))
        else:
            experiment = replace(experiment, sample=replace(shipped.sample, n=scale.n))
        found: Experiment | str = experiment
        if shipped.generator == "import":
            found = _importing(experiment, given.get(name))
        elif name in checkpoints:
            own = str(checkpoints[name].resolve())
            found = replace(experiment, sample=replace(experiment.sample, checkpoint=own))
        if isinstance(found, str):
            not_run[shipped.row] = found
        else:
            rows.append(Row(found, root, _stamp(found, root)))
    return rows, not_run


def _check_names(
    what: str, given: Mapping[str, Path], experiments: Mapping[str, Experiment], generator: str
) -> None:
    allowed = [name for name, one in experiments.items() if one.generator == generator]
    for name in given:
        if name not in allowed:
            raise UsageError(f"{name} takes no {what}; those that do: {', '.join(allowed)}")


def _importing(experiment: Experiment, source: Path | None) -> Experiment | str:
    if source is None:
        option = experiment.name.replace("_", "-")
        return f"needs structures of MatterGen: --{option} FILE, a zip of CIFs or extxyz"
    imported = replace(experiment.imported, source=str(source.resolve()))
    return replace(experiment, imported=imported)


def _stamp(experiment: Experiment, root: Path) -> Stamp:
    hull = (resources.HULL / name for name in ("reference.json", "entries.csv.gz"))
    inputs = {
        "experiment": dump_experiment(experiment),
        "pigen": __version__,
        "spp": sha256_of(resources.SPP_TABLE),
        "compositions": sha256_of(resources.KNOWN_COMPOSITIONS),
        "hull": " ".join(map(sha256_of, hull)),
        "potential": f"chgnet {version('chgnet')}",
        "library": f"{sha256_of(resources.PROTOTYPES / f'{LIBRARY}.h5')} top {TOP}",
    }
    if experiment.generator == "model":
        inputs["checkpoint"] = sha256_of(resources.find_checkpoint(experiment.sample.checkpoint))
    if experiment.generator == "import" and Path(experiment.imported.source).is_file():
        inputs["source"] = sha256_of(Path(experiment.imported.source))
    folder = root / "runs" / experiment.name
    names = ("samples.h5", "evaluated.h5", "survivors.h5", "relaxed.h5", "table.json")
    outputs = [*(folder / name for name in names), root / "prototypes" / f"{experiment.name}.h5"]
    return Stamp(root / "stamps" / "runs" / f"{experiment.name}.json", inputs, outputs)


# -- the stage -------------------------------------------------------------------------------------
def run_row(row: Row, executor: Executor) -> None:
    """Run a row, or go on with it: samples, filters, energies, frameworks.

    What was made from inputs that have changed since is removed first.
    """
    from pigen.run.experiment import run

    _clear(row)
    with row.stamp.work():
        run(
            row.experiment,
            row.folder,
            resume=True,
            executor=executor,
            progress=False,
            files=published_files,
        )
        row.prototypes.parent.mkdir(exist_ok=True)
        if not is_complete(row.prototypes):
            _match(row, executor)


def _clear(row: Row) -> None:
    """Keep of what is there only what depends on nothing that has changed."""
    changed = row.stamp.changed()
    if (
        changed & {"experiment", "pigen", "checkpoint", "source"}
        or not (
            row.folder / "experiment.toml"  # killed before the folder was claimed
        ).exists()
    ):
        shutil.rmtree(row.folder, ignore_errors=True)
        row.prototypes.unlink(missing_ok=True)
        return
    stale: list[str] = []
    if changed & {"spp", "compositions"}:
        stale += ["evaluated.h5", "survivors.h5"]
    if changed & {"spp", "compositions", "hull", "potential"}:
        stale += ["relaxed.h5", "table.json"]
    for name in stale:
        (row.folder / name).unlink(missing_ok=True)
    if changed & {"spp", "compositions", "library"}:
        row.prototypes.unlink(missing_ok=True)


def _match(row: Row, executor: Executor) -> None:
    """Write what passes A, B and C, with the columns of the descriptor ``prototype``."""
    evaluated = row.folder / "evaluated.h5"
    provenance = {
        **bundle_info(evaluated).provenance,
        "parent": f"{evaluated.name} content {content_digest(evaluated)}",
    }
    _PlausibleStage().write(
        iter_bundle(evaluated, CHUNK), row.prototypes, provenance, executor=executor, resume=True
    )


class _PlausibleStage(Stage[Bundle]):
    """`_plausible` on every chunk."""

    def __init__(self) -> None:
        super().__init__()
        task = partial(_plausible, library=resources.PROTOTYPES / f"{LIBRARY}.h5")
        self.task = KeepingAll(task, Bundle.concatenate)


def _plausible(chunk: Bundle, library: Path) -> Bundle:
    from pigen.descriptors import evaluate

    passed = np.ones(len(chunk), dtype=bool)
    for letter in _PLAUSIBLE:
        verdict = chunk.verdicts.get(LETTERS[letter])
        passed &= np.ones(len(chunk), dtype=bool) if verdict is None else verdict.passed
    plausible = replace(chunk.select(passed), rejects=())
    return evaluate(plausible, ["prototype"], {"prototype": {"library": library, "top": TOP}})[0]
