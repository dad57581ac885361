"""What a composition looks like: structures sampled for it, relaxed, and ranked by energy.

The folder of a prediction holds, for each composition,

    FORMULA/samples.h5   every structure sampled
    FORMULA/relaxed.h5   those without atoms on top of each other, relaxed

and ``predicted.h5``, the best of each composition, one of each kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from pigen.bundle import (
    Bundle,
    Column,
    Criterion,
    bundle_info,
    divide,
    iter_bundle,
    read_bundle,
    strings,
)
from pigen.config import Experiment, load_experiment
from pigen.crystal.elements import SYMBOLS
from pigen.descriptors import evaluate
from pigen.descriptors.prototypes.known import Distinct
from pigen.descriptors.prototypes.reduce import prepare
from pigen.energy.hull import load_reference
from pigen.energy.stage import CHUNK, RelaxStage, judged_by, source_of
from pigen.model.asked import composition
from pigen.model.checkpoint import read_header
from pigen.model.request import check_request, library_of
from pigen.model.sample import sample_to_bundle
from pigen.runtime.device import resolve_device
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import find_checkpoint
from pigen.screening.filter import FilterStage, apply_filters

Say = Callable[[str], None]
SAMPLES, RELAXED, PREDICTED = "samples.h5", "relaxed.h5", "predicted.h5"
COMPOSITION = "composition"
RANK, ABOVE, FOUND, SPACE_GROUP = "rank", "e_above_lowest", "n_found", "space_group"
_EXPERIMENT = "pigen_mled_c"
"""Its checkpoint and steps are what is sampled with; its targets are left out."""
_SOURCE = "pigen predict: one of each kind (pymatgen's StructureMatcher), by energy"


def predict(
    formulas: Sequence[str],
    base: Experiment,
    out: Path,
    *,
    top: int = 10,
    relaxed: bool = True,
    resume: bool = False,
    executor: Executor,
    say: Say = lambda line: None,
) -> Bundle:
    """Sample, relax and rank structures of each composition, into the folder ``out``.

    Args:
        formulas: compositions, such as ``["LiFePO4", "MgO"]``.
        base: what is the same for all: ``sample`` but its composition, ``energy``, ``seed``.
        out: folder; made if missing.
        top: structures kept of each composition.
        relaxed: relax and rank them; else the samples are written as they are.
        resume: go on with the prediction that the folder holds.
        executor: where structures are filtered and relaxed.
        say: takes a line at the start of each stage.

    Returns:
        What ``predicted.h5`` holds: with ``relaxed``, columns ``rank`` (1 is the lowest of its
        composition), ``e_above_lowest`` (eV/atom), ``n_found`` (samples that relaxed to it),
        ``space_group``, and those of `pigen.energy.stage.relax_bundle`.

    Raises:
        UsageError: a composition that can't be read or the model can't do, before any work; the
            folder holds another prediction, or any and ``resume`` is not given.
    """
    experiments = {one.name: one for one in (_experiment(base, text) for text in formulas)}
    checkpoint = find_checkpoint(base.sample.checkpoint)
    _check(experiments.values(), checkpoint)
    for name in experiments:
        if (out / name).exists() and not resume:
            raise UsageError(f"{out / name} exists; --resume goes on with it, --force starts over")
    found = []
    for number, (name, experiment) in enumerate(experiments.items(), 1):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        say(f"[{number}/{len(experiments)}] {name}: sample {experiment.sample.n}")
        samples = folder / SAMPLES
        sample_to_bundle(experiment, checkpoint, samples, resume=resume)
        if not relaxed:
            found.append(_named(read_bundle(samples), name))
            continue
        say(f"[{number}/{len(experiments)}] {name}: relax")
        ended = _relaxed(experiment, samples, folder / RELAXED, resume, executor)
        found.append(_named(rank(ended, executor).select(slice(0, top)), name))
    best = Bundle.concatenate([replace(one, rejects=()) for one in found])
    return apply_filters(best, [_apart(base)])


def sampling(
    n: int,
    formula_units: Sequence[int] = (),
    space_group: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Experiment:
    """What is the same for all compositions, as `predict` takes it.

    Args:
        n: samples of a composition.
        formula_units: in the cell; empty: as in the training set.
        space_group: numbers or symbols; empty: any.
        overrides: settings ``table.key=value``, which decide last.

    Raises:
        UsageError: a setting that there is not, or not with this value.
    """
    groups = [int(one) if one.isdecimal() else one for one in space_group]
    asked = {
        "sample.targets": {},
        "sample.n": n,
        "sample.symmetry": "training",
        "sample.n_atoms": "train",
        "sample.formula_units": list(formula_units) or "any",
        "sample.space_group": groups,
    }
    own = [f"{key}={json.dumps(value)}" for key, value in asked.items()]
    return load_experiment(_EXPERIMENT, (*own, *overrides))


def clear(formulas: Sequence[str], out: Path) -> None:
    """Remove what an earlier prediction left of these compositions, and nothing else."""
    for name in map(name_of, formulas):
        for file in (out / name / SAMPLES, out / name / RELAXED):
            file.unlink(missing_ok=True)
        if (out / name).is_dir():
            (out / name).rmdir()


def read_formulas(path: Path) -> list[str]:
    """The compositions of a text file, one on each line; UsageError if it cannot be read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected a text file with a composition on each line") from error
    return [line.strip() for line in lines if line.strip()]


def name_of(formula: str) -> str:
    """The folder of a composition: its elements and amounts as given, without brackets."""
    return "".join(f"{SYMBOLS[z]}{n if n > 1 else ''}" for z, n in composition(formula).items())


def _named(bundle: Bundle, name: str) -> Bundle:
    """The bundle with the composition as a column: other formulas of it differ in their order."""
    names = strings([name] * len(bundle))
    return bundle.with_columns({COMPOSITION: Column(names, "", "asked of pigen predict")})


def _apart(experiment: Experiment) -> Criterion:
    return Criterion("min_distance", low=experiment.filter.min_distance, unit="Å")


def _experiment(base: Experiment, formula: str) -> Experiment:
    """The experiment of one composition, named by it."""
    sample = replace(base.sample, composition=formula)
    return replace(base, name=name_of(formula), row="", sample=sample)


def _check(experiments: Iterable[Experiment], checkpoint: Path) -> None:
    """Refuse what can't be done before anything is."""
    header = read_header(checkpoint)
    for one in experiments:
        check_request(one.sample, header, one.name, library_of(one.sample, checkpoint))


def _relaxed(
    experiment: Experiment, samples: Path, output: Path, resume: bool, executor: Executor
) -> Bundle:
    """The samples that can be, relaxed; goes on where it was stopped."""
    if not (output.exists() and bundle_info(output).complete):
        config = experiment.energy
        config = replace(config, device=resolve_device(config.device).type)
        reference = load_reference(Path(config.reference) if config.reference else None)
        judged = FilterStage([_apart(experiment)]).over(iter_bundle(samples), executor)
        size = CHUNK[config.device]
        RelaxStage(config, reference).write(
            (part for chunk in judged for part in divide(chunk, size)),
            output,
            {
                **bundle_info(samples).provenance,
                "reference": reference.digest,
                "relaxed_by": source_of(config, executor),
                "judged_by": judged_by(config, executor),
            },
            executor=executor,
            resume=resume,
            total=experiment.sample.n,
            title="relax",
        )
    return read_bundle(output)


def rank(relaxed: Bundle, executor: Executor) -> Bundle:
    """The converged structures of a composition, one of each kind, lowest energy first.

    Of structures that pymatgen's matcher takes for the same the lowest stays. What the matcher
    can't compare counts as a kind of its own.

    Args:
        relaxed: of one composition, as `pigen.energy.stage.relax_bundle` makes it.
        executor: where cells are reduced for the matcher.
    """
    energy = relaxed.columns["e_relaxed"].values
    usable = np.flatnonzero(relaxed.columns["converged"].values & np.isfinite(energy))
    ordered = replace(relaxed.select(usable[np.argsort(energy[usable], kind="stable")]), rejects=())
    (prepared,) = prepare([ordered], executor)
    kinds, counts = np.unique(Distinct().firsts(prepared), return_counts=True)
    best = ordered.select(kinds)
    energy = best.columns["e_relaxed"].values
    made = {
        RANK: Column(np.arange(1, len(best) + 1), "", _SOURCE),
        ABOVE: Column(energy - energy[:1].sum(), "eV/atom", _SOURCE),
        FOUND: Column(counts, "", _SOURCE),
    }
    return evaluate(best.with_columns(made), [SPACE_GROUP])[0]
