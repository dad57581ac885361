"""The table of a run: its rates, and what they rest on."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from pigen import __version__
from pigen.criteria import Criterion
from pigen.descriptors import column_source
from pigen.experiment import Experiment
from pigen.funnel import Funnel
from pigen.tables import LETTERS, RunTable


def tabulate(experiment: Experiment, funnel: Funnel, provenance: dict[str, str]) -> RunTable:
    """The run's rates from a finished funnel over the paper's criteria, and others by name."""
    by_letter = {
        letter: criterion
        for letter, name in LETTERS.items()
        for criterion in funnel.criteria
        if criterion.name == name
    }
    others = {c.name: c for c in funnel.criteria if c.name not in LETTERS.values()}
    sequence = {
        letter: rate
        for letter, criterion in by_letter.items()
        if (rate := funnel.sequence(criterion)) is not None
    }
    shown = {**by_letter, **others}
    rates = {letter: funnel.alone(criterion) for letter, criterion in shown.items()}
    return RunTable(
        name=experiment.name,
        row=experiment.row,
        rates={**rates, "sequence": list(sequence.values())[-1]},
        funnel=sequence,
        criteria={letter: _in_words(criterion) for letter, criterion in shown.items()},
        provenance=provenance,
    )


def _in_words(criterion: Criterion) -> str:
    return f"{criterion.text} {criterion.unit}".strip()


def provenance_of_table(
    experiment: Experiment, checkpoint: Path | None, criteria: tuple[Criterion, ...]
) -> dict[str, str]:
    """What the figures rest on, for the head of the table."""
    said = {"structures": f"{experiment.sample.n}, seed {experiment.seed}"}
    if experiment.generator == "import":
        said["structures"] = f"the first {experiment.sample.n}, as far as there are so many"
        said["generator"] = f"another program: {Path(experiment.imported.source).name}"
    elif checkpoint is None:
        trained_on = ", ".join(experiment.data.train) or "the shipped model's training set"
        said["generator"] = "pseudo-random cells, no model"
        said["elements"] = "as given" if experiment.pseudo_random.elements else f"of {trained_on}"
    else:
        from pigen.model.checkpoint import checkpoint_hash, read_header

        training = read_header(checkpoint).training
        said["sampling"] = _sampling(experiment)
        said["checkpoint"] = f"{checkpoint.name} sha256 {checkpoint_hash(checkpoint)}"
        said["training"] = ", ".join(f"{key} {value}" for key, value in training.items())
    for criterion in criteria:
        if criterion.name in ("spp", "novel"):
            said[criterion.name] = column_source(criterion.name, criterion.settings)
    libraries = [f"{name} {version(name)}" for name in ("numpy", "torch", "spglib", "moyopy")]
    said["versions"] = ", ".join(
        [f"pigen {__version__}", f"Python {platform.python_version()}", *libraries]
    )
    return said


def _sampling(experiment: Experiment) -> str:
    config = experiment.sample
    targets = ", ".join(f"{label} = {value}" for label, value in config.targets.items())
    first, last = config.guidance_interval
    return (f"{config.steps} steps, noise {config.noise:g}, sharpness {config.sharpness:g}, ") + (
        f"targets {targets}, guidance {config.guidance:g} at {first:g} ≤ t ≤ {last:g}"
        if targets
        else "no targets"
    )
