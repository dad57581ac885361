"""An experiment end to end: train if need be, generate, filter, and write its table.

Each stage leaves its result in the run folder, so an interrupted run goes on where it stopped:

    experiment.toml  the resolved experiment
    train/           the model, where the experiment trains one
    samples.h5       every structure generated
    evaluated.h5     the same with descriptors and verdicts
    survivors.h5     those that pass the filters A–D in sequence
    relaxed.h5       the same relaxed, with energies above the hull, where the experiment asks
    table.json       rates, and table.md beside the published ones
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pigen import __version__
from pigen.bundle import (
    KEEPS,
    SURVIVORS,
    Bundle,
    Criterion,
    content_digest,
    iter_bundle,
    read_bundle,
)
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import CHUNK, Stage
from pigen.bundle.targets import Comparison, compare_targets
from pigen.config import Experiment, dump_experiment
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS, Z_OF, formula_amounts
from pigen.descriptors import get_descriptor, load_descriptors
from pigen.descriptors.novelty import read_formulas, write_formulas
from pigen.io import open_source, read_chunks
from pigen.model.pseudo_random import pseudo_random_bundles
from pigen.model.substitution import Substitution
from pigen.run.energies import check_energies, relax_survivors, with_energies
from pigen.run.folder import RunFolder, is_complete
from pigen.run.table import RunTable, provenance_of_table, run_files, tabulate
from pigen.runtime import resources
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor
from pigen.runtime.files import sha256_of
from pigen.screening.criteria import (
    check_criteria,
    known_compositions,
    lists_formulas,
    paper_criteria,
)
from pigen.screening.filter import FilterStage
from pigen.screening.funnel import Funnel, survivors_of

Say = Callable[[str], None]
Files = Callable[[RunTable], Mapping[str, str]]
"""From a run's table to the texts of files in its folder, by name."""


def run(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    executor: Executor | None = None,
    progress: bool = True,
    say: Say = lambda line: None,
    files: Files = run_files,
) -> RunTable:
    """Run all stages in the folder ``out``.

    Args:
        experiment: what to do.
        out: run folder; made if missing.
        resume: go on with the run that the folder holds; finished stages are kept.
        force: start over, removing the run that the folder holds.
        executor: where structures are filtered; in this process by default.
        progress: whether bars may be shown on a terminal.
        say: takes a line at the start of each stage.
        files: what is written of the table, ``table.json`` at least.

    Raises:
        UsageError: anything wrong that can be seen before any work: the experiment asks for what
            the model can't do, an input that can't be opened, a folder that holds another run.
        PigenError: a stage failed, what was finished stays; another process runs in the folder.
    """
    check(experiment)
    with RunFolder.open(out, experiment, resume=resume, force=force) as folder:
        table = _run(experiment, folder, executor or SerialExecutor(), progress, say)
        for name, text in files(table).items():
            folder.write(name, text)
    return table


def _run(
    experiment: Experiment, folder: RunFolder, executor: Executor, progress: bool, say: Say
) -> RunTable:
    checkpoint = _train(experiment, folder, progress, say)
    _generate(experiment, folder, checkpoint, executor, progress, say)
    criteria = _criteria(experiment, folder, executor)
    say("filter: descriptors and verdicts")
    funnel, targets = _evaluate(experiment, folder, criteria, executor, progress)
    provenance = provenance_of_table(experiment, checkpoint, criteria)
    for label, comparison in targets.items():
        provenance[f"target {label}"] = str(comparison)
    table = tabulate(experiment, funnel, provenance)
    if experiment.energy.relax:
        say("energy: relaxation and energies above the hull")
        survivors = read_bundle(folder.survivors)
        relax_survivors(experiment.energy, folder, survivors, executor, progress)
        formulas = _known(experiment, folder, executor)
        structures = _known_structures(experiment)
        table = with_energies(table, folder, survivors, funnel.read, formulas, structures, executor)
    return table


def check(experiment: Experiment) -> None:
    """Raise UsageError for whatever is wrong with a request and can be seen before any work.

    The experiment's files of descriptors are loaded, which runs them.
    """
    load_descriptors(experiment.descriptors)
    for name in experiment.filter.where:
        get_descriptor(name)  # samples have no other columns
    data = [Path(source) for source in (*experiment.data.train, *experiment.data.val)]
    for source in data:
        open_source(source)
    known = experiment.filter.known
    if known and not lists_formulas(Path(known)):
        open_source(Path(known))
        check_criteria(paper_criteria(replace(experiment.filter, known="")))
    else:
        check_criteria(paper_criteria(experiment.filter))
    if experiment.generator == "model":
        _check_model(experiment)
    if experiment.generator == "import":
        if not experiment.imported.source:
            raise UsageError(
                f"{experiment.name} takes structures made elsewhere; give "
                "--set imported.source=FILE (what pigen import reads)"
            )
        open_source(Path(experiment.imported.source))
    if experiment.energy.relax:
        check_energies(experiment.energy)


def _check_model(experiment: Experiment) -> None:
    from pigen.model.checkpoint import read_header
    from pigen.model.init_from import check_start
    from pigen.model.request import check_request, library_of
    from pigen.runtime.device import resolve_device
    from pigen.runtime.resources import find_checkpoint

    config = experiment.sample
    resolve_device(config.device)
    if config.checkpoint:
        path = find_checkpoint(config.checkpoint)
        library = library_of(config, path)
        check_request(config, read_header(path), config.checkpoint, library)
        return
    resolve_device(experiment.train.device)
    if experiment.train.init_from:
        check_start(experiment.train.init_from, experiment.model, experiment.diffusion)
    if not experiment.data.train:
        raise UsageError(
            f"{experiment.name} has no checkpoint and nothing to train on; give "
            "--set 'data.train=[\"train.h5\"]' (see `pigen label`) or --set sample.checkpoint=FILE"
        )


# -- stages --------------------------------------------------------------------------------------
def _train(experiment: Experiment, folder: RunFolder, progress: bool, say: Say) -> Path | None:
    """The checkpoint to sample from; None for an experiment without a model."""
    if experiment.generator != "model":
        return None
    if experiment.sample.checkpoint:
        from pigen.runtime.resources import find_checkpoint

        if experiment.data.train:
            say(
                f"train: nothing, {experiment.name} samples from {experiment.sample.checkpoint}; "
                "--set 'sample.checkpoint=\"\"' trains on data.train"
            )
        return find_checkpoint(experiment.sample.checkpoint)
    from pigen.model.train import train
    from pigen.model.trainer import CHECKPOINT

    if folder.samples.exists():  # samples are drawn only when training is over
        return folder.train / CHECKPOINT
    say(f"train: {', '.join(experiment.data.train)}")
    return train(experiment, folder.train, resume=True, progress=progress, say=say)


def _generate(
    experiment: Experiment,
    folder: RunFolder,
    checkpoint: Path | None,
    executor: Executor,
    progress: bool,
    say: Say,
) -> None:
    if is_complete(folder.samples):
        return
    if experiment.generator == "import":
        say(f"import: {experiment.imported.source}")
        _import(experiment, folder, executor)
        return
    say(f"sample: {experiment.sample.n} structures")
    if checkpoint is not None:
        from pigen.model.sample import sample_to_bundle

        sample_to_bundle(experiment, checkpoint, folder.samples, resume=True, progress=progress)
        return
    n, seed = experiment.sample.n, experiment.seed
    if experiment.generator == "substitution":
        chunks = Substitution(experiment.substitution, _frameworks(experiment), seed).bundles(n)
    else:
        chunks = pseudo_random_bundles(experiment.pseudo_random, n, seed, _elements(experiment))
    provenance = {**_made_by(experiment), "seed": str(seed)}
    Stage[Bundle]().write(chunks, folder.samples, provenance, resume=True)


def _import(experiment: Experiment, folder: RunFolder, executor: Executor) -> None:
    """The structures of a source, or the first; what could not be read counts too."""
    source = Path(experiment.imported.source)
    digest = f" sha256 {sha256_of(source)}" if source.is_file() else ""
    provenance = {**_made_by(experiment), "source": f"{source.name}{digest}"}
    chunks = read_chunks([source], chunk_size=CHUNK, executor=executor)
    first = _first(chunks, experiment.n_structures)
    Stage[Bundle]().write(first, folder.samples, provenance, resume=True)


def _first(chunks: Iterable[Bundle], n: int | None) -> Iterator[Bundle]:
    """All structures of a stream, or so many, without what their source says of them."""
    for chunk in chunks:
        yield replace(chunk.select(slice(n)), columns={}, verdicts={})
        if n is not None:
            n -= min(n, len(chunk))
            if not n:
                break


def _made_by(experiment: Experiment) -> dict[str, str]:
    return {"experiment": dump_experiment(experiment), "pigen": __version__}


def _frameworks(experiment: Experiment) -> Crystals:
    """The crystals of the training set, else those of the shipped hull."""
    from pigen.energy.hull.reference import PHASES

    train = experiment.data.train
    chunks = read_chunks(train) if train else iter_bundle(resources.HULL / PHASES)
    return Crystals.concatenate([chunk.crystals for chunk in chunks])


def _elements(experiment: Experiment) -> list[str]:
    """Those asked for, else those of the training set: the experiment's, or the shipped model's."""
    if experiment.pseudo_random.elements:
        return sorted(experiment.pseudo_random.elements, key=Z_OF.__getitem__)
    found: set[int] = set()
    if experiment.data.train:
        for chunk in read_chunks(experiment.data.train):
            found.update(chunk.crystals.atomic_numbers.tolist())
    else:
        formulas = read_formulas(resources.KNOWN_COMPOSITIONS)
        symbols = {symbol for formula in formulas for symbol in formula_amounts(formula)}
        found.update(Z_OF[symbol] for symbol in symbols)
    if not found:
        raise UsageError("data.train: no structure in it could be read")
    return [SYMBOLS[z] for z in sorted(found)]


def _criteria(
    experiment: Experiment, folder: RunFolder, executor: Executor
) -> tuple[Criterion, ...]:
    """The paper's criteria; compositions are novel against what the model was trained on."""
    known = _known(experiment, folder, executor)
    if known == resources.KNOWN_COMPOSITIONS:
        return paper_criteria(experiment.filter)
    return paper_criteria(replace(experiment.filter, known=str(known)))


def _known(experiment: Experiment, folder: RunFolder, executor: Executor) -> Path:
    """File of the known compositions."""
    if experiment.filter.known:
        return known_compositions(Path(experiment.filter.known), folder.path, executor)
    data = (*experiment.data.train, *experiment.data.val)
    if not data:
        return resources.KNOWN_COMPOSITIONS
    if not folder.known.exists():
        chunks = read_chunks(data, executor=executor)
        formulas = (f for chunk in chunks for f in chunk.crystals.reduced_formulas())
        write_formulas(folder.known, formulas, "reduced formulas of data.train and data.val")
    return folder.known


def _evaluate(
    experiment: Experiment,
    folder: RunFolder,
    criteria: tuple[Criterion, ...],
    executor: Executor,
    progress: bool,
) -> tuple[Funnel, Mapping[str, Comparison]]:
    """Verdicts on every sample, and the survivors; goes on where it was stopped.

    Returns:
        The counts, and what was asked of the samples beside what they are, by label.
    """
    samples = iter_bundle(folder.samples, CHUNK)
    first = next(samples)
    judging, sifting = FilterStage(criteria, keep_all=True), SiftStage()
    provenance = {
        **first.provenance,
        "parent": f"{folder.samples.name} content {content_digest(folder.samples)}",
    }
    judging.write(
        chain([first], samples),
        folder.evaluated,
        provenance,
        executor=executor,
        resume=True,
        total=experiment.n_structures,
        title="filter",
        show=progress,
    )
    judged = iter_bundle(folder.evaluated, CHUNK)
    provenance |= {**judging.provenance, KEEPS: SURVIVORS}
    sifting.write(judged, folder.survivors, provenance, resume=True)
    return judging.funnel, sifting.targets


class SiftStage(Stage[Bundle]):
    """Keeps the survivors of judged samples, and sets all beside what was asked of them."""

    like: Mapping[str, Any] = {EVERY: asdict(Comparison())}

    def __init__(self) -> None:
        """No samples yet."""
        super().__init__()
        self.targets: dict[str, Comparison] = {}

    def take(self, result: Bundle) -> Bundle:
        """Compare; the survivors."""
        compare_targets([result], self.targets)
        self.counts = {label: asdict(one) for label, one in self.targets.items()}
        return survivors_of(result)

    def resume(self, counts: Mapping[str, Any]) -> None:
        """Go on with the comparisons of an earlier process."""
        self.targets = {label: Comparison(**sums) for label, sums in counts.items()}


def _known_structures(experiment: Experiment) -> list[str]:
    """Sources of the known structures, as far as they are more than compositions."""
    if experiment.filter.known:
        return [] if lists_formulas(Path(experiment.filter.known)) else [experiment.filter.known]
    return [*experiment.data.train, *experiment.data.val]
