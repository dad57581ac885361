"""PIGEN from Python: read, label, filter and sample, as the commands of these names do it.

All of them give a `Bundle`: crystals with columns and verdicts and, of what was refused or taken
out, ids and reasons. They work in this process unless an executor is given.
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

from pigen.bundle import KEEPS, Bundle, divide
from pigen.bundle.stage import CHUNK
from pigen.config import ChemistryConfig, Experiment
from pigen.crystal.crystals import Crystals
from pigen.descriptors import Settings, column_specs
from pigen.io import Limits, open_source, stream
from pigen.io.objects import is_object, open_objects
from pigen.io.values import read_values
from pigen.runtime.checked import checked
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor
from pigen.screening.criteria import LESS_IS_BETTER, MORE_IS_BETTER, criteria_of
from pigen.screening.filter import FilterStage
from pigen.screening.label import DEFAULT_LABELS, LabelStage

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    from pigen.io.source import Source

Structures: TypeAlias = Union[
    str, PathLike[str], Bundle, Crystals, "Structure", "Atoms", Iterable["Structures"]
]
"""A path of anything `pigen import` reads, structures in memory, or several of these."""
Window: TypeAlias = float | tuple[float | None, float | None]
"""``(lo, hi)``, ends excluded, None for an open one; a number is the natural bound."""


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
    opened: list[Source] = []
    objects: list[object] = []
    for one in _flat(sources):
        if not is_object(one):
            opened += [open_objects(objects, allowed)] if objects else []
            opened.append(open_source(one, allowed))
            objects = []
        else:
            objects.append(one)
    opened += [open_objects(objects, allowed)] if objects else []
    return Bundle.concatenate(list(stream(opened, limits=allowed)))


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
    prototypes: str | None = None,
    top: int | None = None,
    k: Window | None = None,
    where: Mapping[str, tuple[float | None, float | None]] | None = None,
    spp_table: str | PathLike[str] | None = None,
    known: str | PathLike[str] | None = None,
    settings: Settings | None = None,
    keep_all: bool = False,
    executor: Executor | None = None,
    **chemistry: Any,
) -> Bundle:
    """The structures that pass the criteria, as `pigen filter` keeps them.

    Args:
        source: what `read` takes.
        min_distance, spp, novel, c, mled, ehull, prototypes, top, k: as the options of `pigen
            filter`; a number is the least, of ``spp`` and ``ehull`` the most, and ``c`` wants a
            window. Without any: the paper's criteria, A to D taking structures out.
        where: windows on other descriptors, your own too, or columns of numbers.
        spp_table, known: files of criteria A and B, if not those shipped.
        settings: by descriptor.
        keep_all: return every structure with its verdicts.
        executor: where descriptors are computed; None for this process.
        chemistry: what compositions must be: ``elements_required``, ``elements_allowed``,
            ``elements_excluded``, ``elements_one_of``, ``n_elements`` (a number, or both ends,
            included), ``charge_balanced``, ``stoichiometry``.

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
        >>> pigen.filter(salt, c=(0.55, 0.85), k=3.9).rejects
        (Reject(id='crystal-0', reason='k not above 3.9: 1'),)
    """
    windows: dict[str, Window | None] = {
        "min_distance": min_distance,
        "spp": spp,
        "c": c,
        "mled": mled,
        "e_hull": ehull,
        "k": k,
    }
    apart = {*windows, "novel", "prototype", *ChemistryConfig.__slots__}
    for name in (where or {}).keys() & apart:
        raise UsageError(f"where: {name} has an argument of its own")
    runs = executor or SerialExecutor()
    with tempfile.TemporaryDirectory() as folder:
        criteria = criteria_of(
            {name: _ends(name, one) for name, one in {**windows, **(where or {})}.items()},
            Path(folder),
            runs,
            chemistry=checked(ChemistryConfig, _plain(chemistry), "pigen.filter"),
            novel=novel,
            prototypes=prototypes,
            top=top,
            spp_table=None if spp_table is None else Path(spp_table),
            known=None if known is None else Path(known),
            settings=settings,
        )
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
    from pigen.model.checkpoint import find_checkpoint
    from pigen.model.sample import sample_in_memory

    asked = {"n": n, "targets": targets or {}, "checkpoint": str(checkpoint), **settings}
    tree = _plain({"name": "sample", "seed": seed, "sample": asked})
    experiment = checked(Experiment, tree, "pigen.sample")
    path = find_checkpoint(experiment.sample.checkpoint)
    return sample_in_memory(experiment, path, progress=progress)


def _plain(value: Any) -> Any:
    """A value as TOML has it: numbers of numpy's as Python's, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def _flat(sources: Iterable[Any]) -> Iterable[Any]:
    for one in sources:
        if is_object(one) or isinstance(one, str | PathLike):
            yield one
        elif isinstance(one, Iterable):
            yield from _flat(one)
        else:
            open_objects([one], Limits())  # says what it is


def _ends(name: str, window: Window | None) -> tuple[float | None, float | None] | None:
    """Both ends of a window; a bare number is the natural bound of a quantity that has one."""
    if window is None or isinstance(window, tuple | list):
        if window is not None and len(window) != 2:
            raise UsageError(f"{name}: expected (lo, hi), got {window}")
        return None if window is None else (window[0], window[1])
    if name in MORE_IS_BETTER:
        return window, None
    if name in LESS_IS_BETTER:
        return None, window
    raise UsageError(f"{name}: give a window, like (0.55, 0.85) or (0.55, None)")
