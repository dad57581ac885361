"""PIGEN from Python: read, label, filter, sample, energy, rank, report and export.

They do what the commands of these names do, and give a `Bundle`: crystals with columns and verdicts
and, of what was refused or taken out, ids and reasons. They work in this process unless an executor
is given.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from pigen.bundle import KEEPS, Bundle, divide, write_bundle
from pigen.bundle.stage import CHUNK
from pigen.config import Experiment, RelaxConfig
from pigen.crystal.crystals import Crystals
from pigen.descriptors import Settings, column_specs
from pigen.io import Limits, stream
from pigen.io.sources import open_all
from pigen.io.values import read_values
from pigen.runtime.checked import checked, plain
from pigen.runtime.executor import SerialExecutor
from pigen.screening.criteria import Window, criteria_of, request_of, windows_of
from pigen.screening.filter import FilterStage
from pigen.screening.label import DEFAULT_LABELS, LabelStage

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

Structures: TypeAlias = Union[
    str, PathLike[str], Bundle, Crystals, "Structure", "Atoms", Iterable["Structures"]
]
"""A path of anything `pigen import` reads, structures in memory, or several of these."""


def read(*sources: Structures, limits: Limits | None = None) -> Bundle:
    """All structures of files, folders or objects in memory, as one bundle.

    Args:
        sources: paths of CIF, zip, CSV, parquet, extxyz, POSCAR, JSON or bundle files and of
            folders; pymatgen Structures, ASE Atoms, `Crystals`, `Bundle`; or lists of these.
        limits: what is too large to take in.

    Returns:
        One crystal for each entry that is one; the others are its `rejects`, with reasons. Columns
        of tables, and scalars that came with a structure, are its columns.

    Raises:
        UsageError: a source is missing, of no known kind, or no structure.
        PigenError: more entries than the limit, or a damaged bundle.

    Example:
        >>> import pigen
        >>> from pymatgen.core import Lattice, Structure
        >>> salt = Structure.from_spacegroup(
        ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]
        ... )
        >>> pigen.read(salt, salt.get_primitive_structure())
        Bundle(2 crystals, 0 rejects, columns [], verdicts [])
    """
    allowed = limits or Limits()
    return Bundle.concatenate(list(stream(open_all(sources, allowed), limits=allowed)))


def label(
    source: Structures,
    columns: Sequence[str] = DEFAULT_LABELS,
    *,
    values: str | PathLike[str] | None = None,
    settings: Settings | None = None,
    executor: Executor | None = None,
) -> Bundle:
    """The structures with the columns of descriptors, as `pigen label` makes them.

    What has no value stays, with NaN; how many there are and why is a warning.

    Args:
        source: what `read` takes.
        columns: descriptors, your own too.
        values: a CSV file with a column ``id`` and columns of numbers, joined to the structures.
        settings: by descriptor, e.g. ``{"k": {"symprec": 0.05}}``.
        executor: where descriptors are computed; None for this process.

    Raises:
        UsageError: as `read`, or an unknown descriptor or setting.

    Example:
        >>> import pigen
        >>> cell = [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]
        >>> salt = pigen.Crystals.single(cell, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> labelled = pigen.label(salt, ["c", "k"])
        >>> labelled.columns["c"].values.round(3), labelled.columns["k"].unit
        (array([0.638]), 'bits/atom')
    """
    bundle = read(source)
    table = None if values is None else read_values(Path(values))
    if table is not None:
        table.check_apart(column_specs(columns))
    stage = LabelStage(columns, settings, table)
    labelled = Bundle.concatenate(list(stage.over(divide(bundle, CHUNK), executor)))
    if stage.counts:
        said = "; ".join(f"{n} {reason}" for reason, n in stage.counts.most_common())
        warnings.warn(f"of {len(bundle)} structures: {said}", stacklevel=2)
    return labelled


def filter(
    source: Structures,
    *,
    min_distance: Window | None = None,
    spp: Window | None = None,
    novel: bool = False,
    c: Window | None = None,
    mled: Window | None = None,
    ehull: Window | None = None,
    k: Window | None = None,
    where: Mapping[str, tuple[float | None, float | None]] | None = None,
    keep_all: bool = False,
    executor: Executor | None = None,
    **options: Any,
) -> Bundle:
    """The structures that pass the criteria, as `pigen filter` keeps them.

    Args:
        source: what `read` takes.
        min_distance, spp, novel, c, mled, ehull, k: as the options of `pigen filter`; a number is
            the least, of ``spp`` and ``ehull`` the most, and ``c`` wants a window. Without any
            criterion: the paper's, A to D taking structures out.
        where: windows on other descriptors, your own too, or columns of numbers.
        keep_all: return every structure with its verdicts.
        executor: where descriptors are computed; None for this process.
        options: ``prototypes``, ``top``, ``spp_table``, ``known`` as those of `pigen filter`;
            ``settings`` by descriptor; and what compositions must be: ``elements_required``,
            ``elements_allowed``, ``elements_excluded``, ``elements_one_of``, ``n_elements`` (a
            number, or both ends, included), ``charge_balanced``, ``stoichiometry``.

    Returns:
        The survivors; the others are among `rejects`, each with the reason of the first criterion
        that it failed: kept + rejected = read.

    Raises:
        UsageError: as `read`, or a criterion that is none.

    Example:
        >>> import pigen
        >>> cell = [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]
        >>> salt = pigen.Crystals.single(cell, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> pigen.filter(salt, c=(0.55, 0.85))
        Bundle(1 crystal, 0 rejects, columns ['c'], verdicts ['c'])
    """
    own = {"min_distance": min_distance, "spp": spp, "c": c, "mled": mled, "e_hull": ehull, "k": k}
    windows = windows_of(own, where or {})
    with tempfile.TemporaryDirectory() as folder:
        runs = executor or SerialExecutor()
        criteria = criteria_of(windows, Path(folder), runs, novel=novel, **request_of(options))
        stage = FilterStage(criteria, keep_all=keep_all)
        found = Bundle.concatenate(list(stage.over(divide(read(source), CHUNK), runs)))
    kept = {KEEPS: stage.provenance[KEEPS]}
    return replace(found, provenance={**found.provenance, **kept})


def sample(
    n: int = 10,
    *,
    targets: Mapping[str, float | tuple[float, float]] | None = None,
    checkpoint: str | PathLike[str] = "pigen",
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> Bundle:
    """New crystals from a trained model, as `pigen sample` draws them.

    Args:
        n: how many.
        targets: label → value, or ``(lo, hi)`` to draw each crystal's target from.
        checkpoint: a file that `pigen train` wrote, or the name of a shipped one.
        seed: crystal i depends on it and on i alone.
        progress: show a bar where there is a terminal.
        settings: others of the table ``[sample]`` of an experiment, such as ``guidance``,
            ``elements_required``, ``n_atoms`` or ``steps``.

    Returns:
        The crystals, with a column ``target_<label>`` for each target. A chain that failed is a
        reject.

    Raises:
        UsageError: an unknown or impossible setting, or what the model cannot do: a label, an
            element or a size.

    Example:
        >>> import pigen
        >>> pigen.sample(2, targets={"c": 0.7}, steps=5)
        Bundle(2 crystals, 0 rejects, columns ['target_c'], verdicts [])
    """
    from pigen.model.sample import sample_in_memory
    from pigen.runtime.resources import find_checkpoint

    asked = {"n": n, "targets": targets or {}, "checkpoint": str(checkpoint), **settings}
    tree = plain({"name": "sample", "seed": seed, "sample": asked})
    experiment = checked(Experiment, tree, "pigen.sample")
    path = find_checkpoint(experiment.sample.checkpoint)
    return sample_in_memory(experiment, path, progress=progress)


def energy(
    source: Structures,
    *,
    potential: str = "chgnet",
    reference: str | PathLike[str] | None = None,
    only_passed: bool = False,
    executor: Executor | None = None,
    **settings: Any,
) -> Bundle:
    """The structures relaxed, with energies above the hull, as `pigen energy` makes them.

    Args:
        source: what `read` takes.
        potential: as the option ``--model``.
        reference: folder of the hull's energies; None for the shipped one of CHGNet.
        only_passed: relax only structures that passed the criteria they were judged by.
        executor: where structures are relaxed; None for this process.
        settings: others of a relaxation: ``fmax``, ``max_steps``, ``rattle``, ``device``.

    Raises:
        UsageError: as `read`, an unknown setting or potential, or a reference that is none.
        PigenError: no structure of all has an energy.
    """
    from pigen.energy.hull.stage import reference_for
    from pigen.energy.stage import CHUNK as RELAXED_TOGETHER
    from pigen.energy.stage import RelaxStage, source_of
    from pigen.runtime.device import resolve_device

    device = resolve_device(str(settings.pop("device", "auto"))).type
    asked = plain({"potential": potential, **settings, "device": device})
    relax = checked(RelaxConfig, asked, "pigen.energy")
    bundle, runs = read(source), executor or SerialExecutor()
    loaded = reference_for(source_of(relax, runs), None if reference is None else Path(reference))
    stage = RelaxStage(relax, loaded, only_passed=only_passed)
    relaxed = list(stage.over(divide(bundle, RELAXED_TOGETHER[device]), runs))
    stage.check_any(Path("pigen.energy"))
    return Bundle.concatenate(relaxed)


def rank(
    source: Structures,
    n: int = 20,
    *,
    by: str | Sequence[str] = (),
    per_system: int | None = None,
    known: str | PathLike[str] | None = None,
    keep_known: bool = False,
    out: str | PathLike[str] | None = None,
    executor: Executor | None = None,
) -> Bundle:
    """The best structures in order, as `pigen rank` finds them.

    Args:
        source: what `read` takes.
        n: how many.
        by: columns or descriptors to sort by, as the option ``--by``.
        per_system: most of one chemical system.
        known: formulas (.txt) or structures of known compounds; None for those of the hull.
        keep_known: keep known compounds.
        out: how the names of bundle, table, CIFs and sheet begin; None to write nothing.
        executor: where structures are compared; None for this process.

    Returns:
        The best, with columns ``rank``, ``space_group``, ``volume`` (Å^3), ``density`` (g/cm^3).

    Raises:
        UsageError: as `read`, no such column, or an output that is there.
    """
    from pigen.report.best import BestFiles
    from pigen.run.best import best_of

    files = None if out is None else BestFiles.at(Path(out))
    if files:
        files.check(force=False)
    bundle = read(source)
    found = best_of(
        bundle,
        n,
        executor or SerialExecutor(),
        by=by.split(",") if isinstance(by, str) else by,
        per_system=per_system,
        known=None if known is None else Path(known),
        keep_known=keep_known,
    )
    if files:
        files.write(found, bundle.n_read, {**found.bundle.provenance, "made_by": "pigen.rank"})
    return replace(found.bundle, rejects=())


def match(source: Structures, to: Structures, *, executor: Executor | None = None) -> Bundle:
    """The structures with the nearest known entry of each, as `pigen match` finds it.

    Args:
        source: what `read` takes.
        to: known structures, likewise.
        executor: where structures are compared; None for this process.

    Returns:
        All of them, with columns ``nearest`` (its id), ``nearest_formula``, ``same_composition``,
        ``same_structure`` and ``rmsd``, in (volume per atom)^(1/3).

    Raises:
        UsageError: as `read`.

    Example:
        >>> import pigen
        >>> cell = [[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]
        >>> salt = pigen.Crystals.single(cell, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17])
        >>> found = pigen.match(salt, to=salt)
        >>> found.columns["nearest_formula"].values, found.columns["same_structure"].values
        (array(['NaCl'], dtype=object), array([ True]))
    """
    from pigen.screening.match import match as matched_of

    return matched_of(read(source), [read(to)], executor or SerialExecutor())[0]


def view(source: Structures) -> Any:
    """Structures to turn and look at, as a widget of a notebook.

    Args:
        source: what `read` takes; the first 200 are shown.

    Raises:
        UsageError: as `read`, or a package lacks: ``pip install 'pigen[report]'`` brings it.
    """
    from pigen.report.viewer import widget

    return widget(read(source))


def report(source: Structures, out: str | PathLike[str], *, most: int = 1000) -> Path:
    """A page about structures, or about the folder of a finished run, as `pigen report` writes it.

    Args:
        source: what `read` takes, or the folder of a run.
        out: the page.
        most: structures to list.

    Returns:
        Where it is.

    Raises:
        UsageError: as `read`, or a run that is not finished.
    """
    from pigen.report import prepare, report_of_chunks, report_of_run, to_html
    from pigen.run.folder import RunFolder
    from pigen.runtime.files import write_atomically

    path = Path(source) if isinstance(source, str | PathLike) else None
    if path and RunFolder(path).experiment.is_file():
        made = report_of_run(path, most)
    else:
        judged = map(prepare, divide(read(source), CHUNK))
        made = report_of_chunks(judged, path.name if path else Path(out).stem, most)
    write_atomically(Path(out), to_html(made))
    return Path(out)


def export(
    source: Structures, out: str | PathLike[str], form: str | None = None, *, force: bool = False
) -> int:
    """Write structures for other programs, as `pigen export` does; return how many.

    Args:
        source: what `read` takes.
        out: a file or folder.
        form: "cif", "poscar", "extxyz" or "csv"; None for what the name ends in, .csv or .extxyz,
            and else CIFs in a folder, or in an archive that ends in .zip.
        force: replace what is there.

    Raises:
        UsageError: as `read`, an unknown form, or an output that is there.
    """
    from pigen.io.export import export_bundle

    named = {".csv": "csv", ".extxyz": "extxyz", ".xyz": "extxyz"}
    chosen = form or named.get(Path(out).suffix.lower(), "cif")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.h5"
        write_bundle(path, read(source))
        return export_bundle(path, out, chosen, force=force)
