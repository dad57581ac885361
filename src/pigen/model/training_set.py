"""Reading training structures and their labels from any source."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from pigen.bundle import Bundle, Reject, count_rejects
from pigen.config import Experiment
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.template_library import FILE_NAME, TemplateLibrary
from pigen.crystal.templates import templates_of
from pigen.descriptors import descriptor_names, evaluate, get_descriptor
from pigen.io import read_chunks
from pigen.model.data import SymmetricData, TrainingData
from pigen.model.init_from import Start
from pigen.model.spec import ModelSpec, units_of
from pigen.runtime.errors import UsageError
from pigen.runtime.files import write_atomically
from pigen.screening.label import E_HULL_COLUMNS

_log = logging.getLogger(__name__)

MAX_HELD_OUT = 1_000
"""Structures held out for validation where no set is given for it."""
_MAY_CHANGE = (
    "train.device",
    "train.accumulate",
    "train.checkpoint_minutes",
    "train.hours",
    "train.init_from",
)
"""Settings that a resumed run need not share; what it started from is compared by its hash."""


@dataclass(frozen=True)
class Labelled:
    """Niggli-reduced crystals with their labels.

    Attributes:
        crystals: B crystals. labels: (B, n_labels), NaN where missing.
        left_out: reason → number of entries of the source that are not among them.
        units: of the labels, "" where the sources give none.
    """

    crystals: Crystals
    labels: NDArray[np.float64]
    left_out: dict[str, int]
    units: tuple[str, ...] = ()

    def keep(self, rows: NDArray[np.bool_], reason: str) -> Labelled:
        """Those with a True in ``rows`` (B,); the others are counted under ``reason``."""
        gone = int((~rows).sum())
        return Labelled(
            self.crystals[rows],
            self.labels[rows],
            {**self.left_out, reason: gone} if gone else self.left_out,
            self.units,
        )


@dataclass(frozen=True)
class TrainingSet:
    """All that a training run takes from its data; 100 MB for 600,000 structures.

    Attributes:
        spec: what the model must know of the training set. train, val: on the CPU.
        digests: name of each set → what `digest` says of it.
        start: the checkpoint that training starts from, if any.
    """

    spec: ModelSpec
    train: TrainingData
    val: TrainingData | None
    digests: dict[str, str]
    start: Start | None = None


def read_training_set(experiment: Experiment, cache: Path | None = None) -> TrainingSet:
    """The sets that an experiment names; what is left out of them is logged.

    The symmetry of training structures takes a while to find; a file ``cache`` keeps it.

    Raises:
        UsageError: as `read_labelled`, a label without values, or no readable checkpoint to start
            from.
    """
    data, labels = experiment.data, experiment.model.labels
    train = read_labelled(data.train, labels, data.max_atoms)
    val = read_labelled(data.val, labels, data.max_atoms) if data.val else None
    if val is None and data.val_share:
        train, val = split(train, data.val_share, experiment.seed)
    spec = ModelSpec.fit(train.crystals, labels, train.labels, train.units)
    start = Start.load(experiment.train.init_from) if experiment.train.init_from else None
    if start:
        spec = start.spec(spec, labels)
    sets = {"data.train": train}
    if val is not None:
        sets["data.val"] = known_only(val, spec.elements)
    for name, found in sets.items():
        for reason, count in found.left_out.items():
            _log.warning("%s: %d left out: %s", name, count, reason)
        if not len(found.crystals):
            raise UsageError(f"{name}: nothing is left of it: {found.left_out}")
    tensors = [TrainingData.of(found.crystals, found.labels, spec) for found in sets.values()]
    digests = {name: digest(found) for name, found in sets.items()}
    if experiment.train.symmetric:
        symmetry = symmetry_of(train, labels, spec, cache, digests["data.train"])
        tensors[0] = replace(tensors[0], symmetry=symmetry)
    return TrainingSet(spec, tensors[0], tensors[1] if val else None, digests, start)


def split(found: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled | None]:
    """Hold a share of the structures out for validation, `MAX_HELD_OUT` at most.

    Whole compositions are drawn, so that no structure held out has one of its own in the training
    set; those with an element that no other has stay in it. A set so small that the share is below
    one structure, or of few compositions, stays whole.
    """
    formulas = np.array(found.crystals.reduced_formulas(), dtype=object)
    wanted = min(round(share * len(formulas)), MAX_HELD_OUT)
    names, counts = np.unique(formulas, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = names[order[np.cumsum(counts[order]) <= wanted]]
    held_out = np.isin(formulas, drawn)
    elements = np.unique(found.crystals[~held_out].atomic_numbers).tolist()
    held_out &= ~_has_others(found.crystals, elements)
    if not held_out.any():
        return found, None
    of_both = [
        replace(found, crystals=found.crystals[rows], labels=found.labels[rows], left_out=left_out)
        for rows, left_out in ((~held_out, found.left_out), (held_out, {}))
    ]
    return of_both[0], of_both[1]


def _has_others(crystals: Crystals, elements: Sequence[int]) -> NDArray[np.bool_]:
    """Which crystals (B,) hold an element outside ``elements``."""
    strange = ~np.isin(crystals.atomic_numbers, list(elements))
    return np.bincount(crystals.batch[strange], minlength=len(crystals)) > 0


def symmetry_of(
    train: Labelled, labels: Sequence[str], spec: ModelSpec, cache: Path | None, digest: str
) -> SymmetricData:
    """The symmetry of a training set, from ``cache`` where it holds that of the same structures.

    Else it is written there, and the library of templates beside it, which sampling draws from.
    """
    names = [one.name for one in fields(SymmetricData)]
    if cache is not None:
        # What can't be read is made again.
        with (
            contextlib.suppress(OSError, ValueError, KeyError, BadZipFile),
            cache.open("rb") as opened,
            np.load(opened) as file,
        ):
            if str(file["digest"]) == digest:
                return SymmetricData(*(torch.from_numpy(file[name]) for name in names))
    templates, ideal = templates_of(train.crystals)
    found = SymmetricData.of(train.crystals, templates, ideal, spec)
    without = templates.count(None)
    if without:
        _log.warning("data.train: %d without a template; their noise is free", without)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        if without < len(templates):
            library = TemplateLibrary.of(train.crystals, templates, train.labels, labels)
            library.save(cache.with_name(FILE_NAME))
        buffer = io.BytesIO()
        arrays = {name: getattr(found, name).numpy() for name in names}
        np.savez_compressed(buffer, digest=np.array(digest), **arrays)
        write_atomically(cache, buffer.getvalue())
    return found


def settings_of(experiment: Experiment, data: TrainingSet) -> dict[str, str]:
    """What a training run depends on, by name: it may be gone on with only while this stays."""
    found = {"seed": str(experiment.seed), **data.digests}
    for name in ("model", "diffusion", "loss", "train"):
        part = asdict(getattr(experiment, name))
        found |= {f"{name}.{key}": str(value) for key, value in part.items()}
    found = {key: value for key, value in found.items() if key not in _MAY_CHANGE}
    if data.start:
        found["train.init_from"] = data.start.origin
    return found


def check_same_settings(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Raise UsageError that names what differs between a state and its resumption."""
    changed = [
        f"{key} was {old.get(key, 'not given')} and is now {new.get(key, 'not given')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        raise UsageError("; ".join(changed))


def read_labelled(sources: Sequence[str], labels: Sequence[str], max_atoms: int) -> Labelled:
    """All structures of the sources, with a column per label.

    A label with a column of its name is taken from it, E_hull also from ``e_above_hull``; the
    others are computed where a descriptor of that name exists.

    Raises:
        UsageError: no sources, an unreadable one, a label in two units, or nothing left.
    """
    if not sources:
        raise UsageError(
            "data.train is empty: a model needs structures to train on; give a labelled bundle, "
            "e.g. --set 'data.train=[\"train.h5\"]' (made by `pigen label`)"
        )
    # Of each chunk only this stays: its ids and further columns would be most of the memory.
    parts = [Crystals.empty()]
    values = [np.zeros((0, len(labels)))]
    rejects: list[Reject] = []
    too_large = 0
    units = dict(zip(labels, units_of(labels), strict=True))
    for read in read_chunks(sources):
        chunk, of_chunk = _labelled_chunk(read, units)
        small = chunk.crystals.n_atoms <= max_atoms
        parts.append(niggli(chunk.crystals[small]))
        values.append(of_chunk[small])
        rejects.extend(chunk.rejects)
        too_large += int((~small).sum())
    left_out = count_rejects(rejects)
    if too_large:
        left_out[f"more than {max_atoms} atoms"] = too_large
    found = Labelled(
        Crystals.concatenate(parts), np.concatenate(values), left_out, tuple(units.values())
    )
    if not len(found.crystals):
        raise UsageError(f"no structure to train on in {', '.join(sources)}: {found.left_out}")
    return found


def digest(found: Labelled) -> str:
    """How many structures there are, and 16 digits of the hash of them and their labels."""
    crystals = found.crystals
    arrays = (crystals.lattice, crystals.frac_coords, crystals.atomic_numbers, crystals.ptr)
    hashed = hashlib.sha256()
    for array in (*arrays, found.labels):
        hashed.update(np.ascontiguousarray(array).tobytes())
    return f"{len(crystals)} structures, sha256 {hashed.hexdigest()[:16]}"


def known_only(found: Labelled, elements: Sequence[int]) -> Labelled:
    """Without the crystals that hold an element outside ``elements``."""
    others = _has_others(found.crystals, elements)
    return found.keep(~others, "an element absent from the training set")


def _labelled_chunk(chunk: Bundle, units: dict[str, str]) -> tuple[Bundle, NDArray[np.float64]]:
    """The chunk, and a column (B, n_labels) for each label in ``units``, which learns new units."""
    values = np.full((len(chunk), len(units)), np.nan)
    for place, label in enumerate(units):
        names = E_HULL_COLUMNS if label == "e_hull" else (label,)
        present = [chunk.columns[name] for name in names if name in chunk.columns]
        if not present and label in descriptor_names():
            chunk, _ = evaluate(chunk, [label])
            present = [chunk.columns[get_descriptor(label).columns[0].name]]
        if not present or present[0].kind == "str" or present[0].per_atom:
            continue
        unit = present[0].unit
        if unit and units[label] not in ("", unit):
            raise UsageError(f"label {label!r} is in {units[label]!r} and in {unit!r}: choose one")
        units[label] = unit or units[label]
        numbers = present[0].values.astype(np.float64)
        values[:, place] = np.where(np.isfinite(numbers), numbers, np.nan)
    return chunk, values
