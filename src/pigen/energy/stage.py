"""The stage: a bundle of candidates in, a bundle of relaxed structures out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen import __version__
from pigen.bundle import Bundle, Column, Reject, over_structures, strings
from pigen.bundle.counts import EVERY
from pigen.bundle.stage import Stage
from pigen.config import RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.energy.calibration.estimate import (
    E_HULL_EST,
    calibration_of,
    expected_share,
    expected_sums,
)
from pigen.energy.hull import Hull, Reference, with_energies_above_hull
from pigen.energy.hull.stage import E_HULL_REASON, checked_calibration
from pigen.energy.judge import load_judge, said_of, with_e_hull_judge, with_judgement
from pigen.energy.potential import Potential, load_potential
from pigen.energy.relax import CONVERGED, Relaxed, relax
from pigen.runtime.errors import PigenError

CHUNK = {"cpu": 32, "cuda": 1000}
"""Structures relaxed together: half a minute of work or less, which is all that a kill can lose."""
STEP_LIMIT = 300.0
"""s that a step of the relaxer may take, the first included, which may have to compile."""
MAX_STATUSES = 20
"""Statuses that are counted apart."""
WITH_ENERGY = (CONVERGED, "max_steps", "implausible")
"""How statuses begin of structures whose potential gave an energy at the end."""
SUFFIX = "-relaxed"
"""What the id of a relaxed structure adds to its parent's."""


PARENT = "parent_"
"""What begins the name of a column that describes the parent."""


def source_of(settings: RelaxConfig, executor: Executor) -> str:
    """How the columns are made, with the name and version of the potential, from a worker.

    The worker needs the potential anyway, and loading it takes seconds.
    """
    return executor.submit(_source, settings).result()


def level_of(settings: RelaxConfig, executor: Executor) -> str:
    """Name and version of the potential, from a worker."""
    return executor.submit(_level, settings).result()


def judged_by(settings: RelaxConfig, executor: Executor) -> str:
    """How the judge's energies are made, from a worker; "" without a judge.

    Raises:
        UsageError, PigenError: as `load_judge`.
    """
    return executor.submit(_judged, settings).result() if settings.judge else ""


def _judged(settings: RelaxConfig) -> str:
    return said_of(load_judge(settings))


def _source(settings: RelaxConfig) -> str:
    limits = f"fmax={settings.fmax:g}, max_steps={settings.max_steps}"
    if settings.rattle:
        limits += ", rattled"
    return f"pigen {__version__} relax(model={_level(settings)}, {limits})"


def _level(settings: RelaxConfig) -> str:
    return _potential(settings.potential, settings.device).name


def relax_bundle(
    bundle: Bundle, settings: RelaxConfig | None = None, *, only_passed: bool = False
) -> Bundle:
    """Relax every crystal of a bundle.

    Args:
        bundle: of candidates.
        settings: of the relaxation.
        only_passed: relax only structures that passed the criteria they were judged by.

    Returns:
        A bundle of the relaxed crystals, in order: id ``<parent>-relaxed``, parent the id in the
        input, and the columns ``e_relaxed`` (eV/atom; NaN where the status says there is none),
        ``converged``, ``n_steps``, ``max_force`` (eV/Å), ``rmsd`` (to the input, by pymatgen's
        matcher, over (V/n)^(1/3); NaN if they do not match), ``status``, ``rattle_gain`` (eV/atom)
        and ``symmetry_lost``, as of `Relaxed`. What was known of the input is there
        as ``parent_<column>``, for it describes that geometry. With a judge, also the columns of
        `with_judgement`. The input's rejects, and with
        ``only_passed`` the structures that failed a criterion, are rejects, so kept + rejected =
        read.

    Raises:
        UsageError: ``only_passed`` for structures that have not been judged.
    """
    settings = settings or RelaxConfig()
    rejects = bundle.rejects
    if only_passed:
        rejects = (*rejects, *bundle.failed())
        bundle = bundle.select(bundle.passed())
    empty = bundle.crystals.n_atoms == 0
    rejects = (*rejects, *(Reject(str(i), "no atoms") for i in bundle.ids[empty]))
    start = bundle.crystals[~empty]
    potential = _potential(settings.potential, settings.device)
    found = relax(
        start,
        potential,
        fmax=settings.fmax,
        max_steps=settings.max_steps,
        rattle=settings.rattle,
    )
    crystals = Crystals.concatenate([one.crystal for one in found])
    relaxed = Bundle(
        crystals=crystals,
        ids=strings(f"{i}{SUFFIX}" for i in bundle.ids[~empty]),
        parents=bundle.ids[~empty],
        columns={
            **_of_parents(bundle.select(~empty)),
            **_columns(start, crystals, found, _source(settings)),
        },
        rejects=rejects,
        provenance=bundle.provenance,
    )
    return with_judgement(relaxed, settings) if settings.judge else relaxed


class RelaxStage(Stage[Bundle]):
    """`relax_bundle` on every chunk, and energies above the hull of a reference.

    A chunk's result depends on the chunk alone, to the last bit on a CPU, so a stream that is
    taken up again after some chunks ends in the same bundle. A structure that hangs or kills a
    worker becomes a reject. Counted are how relaxations ended, why there is no hull, and what
    `expected` is made of.
    """

    like: Mapping[str, Any] = {EVERY: {EVERY: 0}, "expected": {EVERY: 0.0}}

    def __init__(
        self,
        settings: RelaxConfig,
        reference: Reference | None = None,
        *,
        calibration: Path | None = None,
        only_passed: bool = False,
    ) -> None:
        """Without a reference there are no energies above the hull.

        Raises:
            UsageError: a calibration that does not go with the reference.
        """
        super().__init__()
        self._calibration = checked_calibration(calibration, reference)
        self.counts = {"status": Counter(), "no_hull": Counter(), "expected": Counter()}
        self._reference, self._hull = reference, Hull(reference) if reference else None
        self._estimated_by = ""
        task = partial(relax_bundle, settings=settings, only_passed=only_passed)
        self.task = over_structures(task, time_limit=STEP_LIMIT)

    def take(self, result: Bundle) -> Bundle:
        """Count; the relaxed chunk."""
        if self._reference is not None and self._hull is not None:
            result = with_energies_above_hull(
                result, self._reference, self._hull, self._calibration
            )
            reasons = result.columns[E_HULL_REASON].values
            self.counts["no_hull"].update(r for r in reasons if r.startswith("no hull"))
            self.counts["expected"].update(expected_sums(result))
            if E_HULL_EST in result.columns:
                self._estimated_by = result.columns[E_HULL_EST].source
        else:
            result = with_e_hull_judge(result)
        for status in result.columns["status"].values:
            count_status(self.counts["status"], status)
        return result

    @property
    def expected(self) -> dict[str, float | str] | None:
        """How many structures DFT is expected to put near the hull, as of `expected_share`."""
        if self._reference is None:
            return None
        found = calibration_of(self._reference, self._calibration)
        if found is None:
            return None
        return expected_share(self.counts["expected"], self._estimated_by or found.said)

    def check_any(self, output: Path) -> None:
        """PigenError with the commonest reason if no structure of all has an energy."""
        failed: Counter[str] = self.counts["status"]
        if failed and not any(name.startswith(WITH_ENERGY) for name in failed):
            (reason, n), *_ = failed.most_common()
            raise PigenError(
                f"{output}: none of {failed.total()} structures has an energy; {n}: {reason}"
            )


def count_status(counts: Counter[str], status: str) -> None:
    """Count a status, by its first words alone where the rest differs from case to case."""
    apart = len(counts) < MAX_STATUSES and not status.startswith("implausible")
    counts[status if status in counts or apart else status.split(": ")[0]] += 1


@lru_cache(maxsize=2)
def _potential(model: str, device: str) -> Potential:
    return load_potential(model, device)


def _of_parents(bundle: Bundle) -> dict[str, Column]:
    """Columns of the input, of one value for each crystal; what it says of its own parents too."""
    own = {n: c for n, c in bundle.columns.items() if not c.per_atom}
    older = {n: c for n, c in own.items() if n.startswith(PARENT)}
    return older | {f"{PARENT}{n}": c for n, c in own.items() if n not in older}


def _columns(
    start: Crystals, relaxed: Crystals, found: list[Relaxed], source: str
) -> dict[str, Column]:
    converged = np.array([one.converged for one in found], dtype=bool)
    return {
        "e_relaxed": Column(_floats(one.energy for one in found), "eV/atom", source),
        "converged": Column(converged, "", source),
        "n_steps": Column(np.array([one.n_steps for one in found], dtype=np.int64), "", source),
        "max_force": Column(_floats(one.max_force for one in found), "eV/Å", source),
        "rmsd": Column(rms_displacements(start, relaxed, converged), "", source),
        "status": Column(strings(one.status for one in found), "", source),
        "rattle_gain": Column(_floats(one.rattle_gain for one in found), "eV/atom", source),
        "symmetry_lost": Column(np.array([one.symmetry_lost for one in found], bool), "", source),
    }


def _floats(values: Iterable[float]) -> NDArray[np.float64]:
    return np.fromiter(values, dtype=np.float64)


def rms_displacements(
    before: Crystals, after: Crystals, rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """RMS displacement (B,) by pymatgen's StructureMatcher, in units of (V/n)^(1/3).

    NaN for structures that do not match, and where ``rows`` is False. Tolerances are wide, for the
    number says how far a relaxation went, not whether two structures are the same; and cells are
    matched as they are, for a reduction may make their numbers of atoms differ.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    # Any: pymatgen is half typed.
    matcher: Any = StructureMatcher(ltol=0.5, stol=1.0, angle_tol=15, primitive_cell=False)
    values = np.full(len(before), np.nan)
    for i in np.flatnonzero(rows).tolist():
        (one,), (other,) = before[i].to_pymatgen(), after[i].to_pymatgen()
        match = matcher.get_rms_dist(one, other)
        if match is not None:
            values[i] = match[0]
    return values
