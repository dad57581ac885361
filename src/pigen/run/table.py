"""The table of a run: its rates as counts, and what they rest on.

Percentages, standard errors and differences are computed from the counts when a table is written.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pigen import __version__
from pigen.bundle import Criterion, Rate
from pigen.config import CRITERION_LABELS, Experiment
from pigen.descriptors import column_source
from pigen.runtime.checked import read_checked
from pigen.screening.funnel import Funnel


@dataclass(frozen=True)
class RunTable:
    """What a run measured.

    Attributes:
        name: of the experiment.
        row: its row in the published tables, "" if none.
        rates: criterion, ``sequence`` and, where energies were computed, columns of
            `stability.STABLE` and `stability.SUN` → rate, always of all structures generated.
            A criterion goes by its letter, ``A_prime`` or ``A``, else by its name.
        funnel: criterion in sequence → what is left after it and those before it.
        criteria: criterion → its text, e.g. ``spp < 0.362``.
        provenance: what the figures rest on: training set, checkpoint, SPP table, seed, versions,
            and under ``hull`` the reference of the energies above it.
        expected: key of a rate that rests on energies → share that DFT is expected to give; ``F`` →
            bits. Empty where the energies come without an estimate of DFT's.
        systematic: the same keys → error of that share which all estimates have in common.
        largest_mled: bits, for column F; None without energies or if nothing is below 50 meV/atom.
    """

    name: str
    row: str
    rates: Mapping[str, Rate]
    funnel: Mapping[str, Rate]
    criteria: Mapping[str, str]
    provenance: Mapping[str, str]
    largest_mled: float | None = None
    expected: Mapping[str, float] = field(default_factory=dict)
    systematic: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """ValueError for a criterion without a rate, or an expected share that is none."""
        if missing := self.criteria.keys() - self.rates.keys():
            raise ValueError(f"rates: none of {' and '.join(sorted(missing))}")
        for key, share in self.expected.items():
            if not 0 <= share <= (1 if key in self.rates else 100):
                raise ValueError(f"expected.{key}: {share} is no share")

    def to_json(self, beside: Mapping[str, Mapping[str, Any]] | None = None) -> str:
        """As JSON text, for other programs with percentages beside the counts.

        Args:
            beside: key of `rates` → what else to write with this rate.
        """
        content = asdict(self)
        for key, rate in self.rates.items():
            derived = {"percent": rate.percent, "standard_error": rate.percent_error}
            content["rates"][key] |= {**derived, **(beside or {}).get(key, {})}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, run_folder: str | Path) -> RunTable:
        """The table of a finished run; UsageError if there is none, PigenError if it is broken."""
        path = Path(run_folder) / "table.json"
        return read_checked(cls, path, otherwise=_unfinished(path.parent), extra=True)


def _unfinished(folder: Path) -> str:
    experiment = folder / "experiment.toml"
    if experiment.is_file():
        return f"not a finished run; to finish it: pigen run {experiment} --out {folder} --resume"
    return "not a finished run; `pigen run` makes one"


def run_files(table: RunTable) -> dict[str, str]:
    """The files of a run's folder that hold its table → their texts."""
    return {"table.json": table.to_json()}


def table_key(criterion: str) -> str:
    """What a criterion is called in a table's data: its letter in ASCII, or its name."""
    return CRITERION_LABELS.get(criterion, criterion).replace("′", "_prime")


def tabulate(experiment: Experiment, funnel: Funnel, provenance: dict[str, str]) -> RunTable:
    """The run's rates from a finished funnel, in the order of its criteria."""
    shown = {table_key(criterion.name): criterion for criterion in funnel.criteria}
    sequence = {
        key: rate
        for key, criterion in shown.items()
        if (rate := funnel.sequence(criterion)) is not None
    }
    rates = {key: funnel.alone(criterion) for key, criterion in shown.items()}
    return RunTable(
        name=experiment.name,
        row=experiment.row,
        rates={**rates, "sequence": list(sequence.values())[-1]},
        funnel=sequence,
        criteria={key: criterion.words for key, criterion in shown.items()},
        provenance=provenance,
    )


def provenance_of_table(
    experiment: Experiment, checkpoint: Path | None, criteria: tuple[Criterion, ...]
) -> dict[str, str]:
    """What the figures rest on, for the head of the table."""
    said = {"structures": f"{experiment.sample.n}, seed {experiment.seed}"}
    if experiment.generator == "import":
        n = experiment.n_structures
        said["structures"] = f"the first {n}, as far as there are so many" if n else "all there are"
        said["generator"] = f"another program: {Path(experiment.imported.source).name}"
    elif experiment.generator == "substitution":
        taken = ", ".join(experiment.data.train) or "the shipped stable phases"
        said["generator"] = f"elements exchanged in the frameworks of {taken}, no model"
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
