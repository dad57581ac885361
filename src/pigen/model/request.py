"""What is asked of the sampler: whether the model can do it, and what each sample is to be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pigen.config import SampleConfig
from pigen.crystal.elements import SYMBOLS, Z_OF
from pigen.crystal.template_library import FILE_NAME, TemplateLibrary
from pigen.crystal.templates import Template
from pigen.model import template_prior
from pigen.model.asked import (
    composition,
    elements_to_place,
    fewest_elements,
    parts_of,
    sizes_asked,
    space_groups,
    units_asked,
)
from pigen.model.beginning import Beginning, beginning, check_beginning
from pigen.model.checkpoint import Header
from pigen.model.drawn import can_fill, draw_template
from pigen.model.spec import ModelSpec
from pigen.runtime.errors import UsageError
from pigen.runtime.resources import TEMPLATES

_GROUPS = 50
"""Groups that are tried for one sample."""
_NEAR = 2
"""Atoms by which a training structure's size may differ where groups are counted."""


@dataclass(frozen=True)
class Plan:
    """What is drawn for one sample before anything is computed.

    Attributes:
        index: its number; n_atoms: its size.
        targets: (n_labels,) raw values, NaN where none is asked for.
        elements: (n_atoms,) atomic numbers, 0 where the model is to choose.
        template: whose symmetry it has; None: as it comes.
        slots: (n_atoms,) class of the stoichiometry asked for, -1 where none is.
        start: the structure it begins from, if any.
        rng: continues the sample's own random stream.
    """

    index: int
    n_atoms: int
    targets: NDArray[np.float64]
    elements: NDArray[np.uint8]
    template: Template | None
    slots: NDArray[np.int64]
    rng: np.random.Generator
    start: Beginning | None = None

    @property
    def n_nodes(self) -> int:
        """Atoms that the network computes: one of each orbit."""
        return self.n_atoms if self.template is None else len(self.template.representative)

    def classes(self, spec: ModelSpec) -> NDArray[np.int64]:
        """Classes of the elements, (n_atoms,); 0 where the model is to choose."""
        found = np.zeros(self.n_atoms, dtype=np.int64)
        given = self.elements > 0
        found[given] = spec.classes(self.elements[given])
        return found


def library_of(config: SampleConfig, checkpoint: Path) -> TemplateLibrary | None:
    """The templates to draw from: those beside the checkpoint, else the shipped ones.

    None where symmetry is free.
    """
    if config.symmetry == "free":
        return None
    own = checkpoint.parent / FILE_NAME
    return _library(own if own.is_file() else TEMPLATES)


@lru_cache(maxsize=2)
def _library(path: Path) -> TemplateLibrary:
    return TemplateLibrary.load(path)


def check_request(
    config: SampleConfig, header: Header, where: str, library: TemplateLibrary | None = None
) -> None:
    """UsageError if the model can't do what is asked: a label, an element, a size or a symmetry.

    Args:
        config: what is asked. header: the model's. where: its name, for messages.
        library: `library_of` the request.
    """
    for label in config.targets:
        if label not in header.model.labels:
            known = ", ".join(header.model.labels) or "none"
            raise UsageError(
                f"{where}: the model was not trained with label {label!r} (has: {known})"
            )
    for key in ("elements_allowed", "elements_required"):
        for symbol in getattr(config, key):
            _check_element(symbol, header, f"{where}: sample.{key}")
    for group in config.elements_one_of:
        for symbol in group:
            _check_element(symbol, header, f"{where}: sample.elements_one_of")
    fewest = fewest_elements(config)
    largest = len(header.spec.sizes.frequency)
    sizes = sizes_asked(config)
    if sizes and not fewest <= min(sizes) <= max(sizes) <= largest:
        raise UsageError(
            f"{where}: sample.n_atoms: expected {fewest} … {largest} (the model's largest cell), "
            f"got {config.n_atoms}"
        )
    unit = sum(parts_of(config)) if config.stoichiometry else 1
    if unit > largest or any(size % unit for size in sizes):
        raise UsageError(
            f"{where}: sample.stoichiometry: a unit has {unit} atoms, the model's largest cell "
            f"{largest}; sample.n_atoms must be multiples of it"
        )
    check_beginning(config, header, where)
    _check_composition(config, header, where)
    _check_symmetry(config, header, where, library)


def _check_element(symbol: str, header: Header, where: str) -> None:
    z = Z_OF.get(symbol)
    if z is None or z not in header.spec.elements:
        raise UsageError(f"{where}: the model doesn't know element {symbol!r}")


def _check_composition(config: SampleConfig, header: Header, where: str) -> None:
    if not config.composition:
        if config.formula_units != "any":
            raise UsageError(f"{where}: sample.formula_units: give sample.composition with it")
        return
    counts = composition(config.composition)
    for z in counts:
        _check_element(SYMBOLS[z], header, f"{where}: sample.composition")
    for key in config.restrictions():
        raise UsageError(f"{where}: sample.{key}: sample.composition says the elements")
    if sizes_asked(config):
        raise UsageError(
            f"{where}: sample.n_atoms: sample.composition and sample.formula_units say the size"
        )
    largest, unit = len(header.spec.sizes.frequency), sum(counts.values())
    for units in units_asked(config) or (1,):
        if units * unit > largest:
            raise UsageError(
                f"{where}: sample.composition: {units} × {config.composition} has {units * unit} "
                f"atoms, the model's largest cell {largest}"
            )


def _check_symmetry(
    config: SampleConfig, header: Header, where: str, library: TemplateLibrary | None
) -> None:
    groups = space_groups(config)
    if library is None:
        if groups is not None:
            raise UsageError(
                f"{where}: sample.space_group and sample.crystal_system need sample.symmetry = "
                '"training" or "drawn"'
            )
        return
    drawn = config.symmetry == "drawn"
    if drawn and _drawable(config, header, library):
        return
    if not drawn and _candidates(config, header, library).any():
        return
    asked = [config.composition] if config.composition else []
    asked += [f"{fewest_elements(config)} elements"] if fewest_elements(config) > 1 else []
    asked += [config.stoichiometry] if config.stoichiometry else []
    asked += [f"{config.n_atoms} atoms"] if sizes_asked(config) else []
    asked += [config.crystal_system] if config.crystal_system else []
    asked += [f"space group {config.space_group}"] if config.space_group else []
    if drawn:
        problem = "no sites of a group can be filled with"
    else:
        problem = 'ask for less, or for symmetry = "drawn": no structure of the training set has'
    raise UsageError(f"{where}: sample.symmetry: {problem} {', '.join(asked)}")


def plan(
    index: int,
    seed: int,
    config: SampleConfig,
    header: Header,
    library: TemplateLibrary | None = None,
    attempt: int = 0,
) -> Plan:
    """Draw what sample ``index`` is to be: a function of (seed, index, attempt) and the settings.

    Raises:
        UsageError: sites were drawn again and again without giving one of the groups asked for.
    """
    rng = np.random.default_rng([seed, index, attempt] if attempt else [seed, index])
    targets = np.full(len(header.model.labels), np.nan)
    for place, label in enumerate(header.model.labels):
        wanted = config.targets.get(label)
        if isinstance(wanted, tuple):
            targets[place] = rng.uniform(*wanted)
        elif wanted is not None:
            targets[place] = wanted
    start = beginning(config)
    if start is not None:
        elements = start.elements(header, rng)
        return Plan(index, len(elements), targets, elements, None, _no_slots(elements), rng, start)
    if library is not None:
        return _symmetric_plan(index, rng, targets, config, header, library)
    asked = sizes_asked(config)
    if asked:
        n_atoms = int(rng.choice(asked))
    else:
        p = _sizes(targets, config, header)
        n_atoms = int(rng.choice(len(p), p=p / p.sum())) + 1
    elements = np.zeros(n_atoms, dtype=np.uint8)
    if config.composition:
        counts = composition(config.composition)
        units = n_atoms // sum(counts.values())
        elements[:] = np.repeat(list(counts), [units * count for count in counts.values()])
    slots, parts = _no_slots(elements), parts_of(config)
    if config.stoichiometry:
        slots = np.repeat(np.arange(len(parts)), np.multiply(parts, n_atoms // sum(parts)))
    _place(elements, slots, np.arange(n_atoms), config, rng)
    return Plan(index, n_atoms, targets, elements, None, slots, rng)


def _no_slots(elements: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.full(len(elements), -1)


def _place(
    elements: NDArray[np.uint8],
    slots: NDArray[np.int64],
    order: NDArray[np.int64],
    config: SampleConfig,
    rng: np.random.Generator,
) -> None:
    """Give what must be there a place each, the first in an order that is free and may hold it."""
    wanted = config.chemistry().stoichiometry
    for z in elements_to_place(config, rng):
        for place in order:
            free = not elements[place]
            if free and (slots[place] < 0 or (wanted and z in wanted.classes[slots[place]])):
                elements[place] = z
                break


def _symmetric_plan(
    index: int,
    rng: np.random.Generator,
    targets: NDArray[np.float64],
    config: SampleConfig,
    header: Header,
    library: TemplateLibrary,
) -> Plan:
    shares: NDArray[np.int64] | None = None
    if config.symmetry == "drawn":
        template, shares = _drawn(rng, targets, config, header, library)
        known = list(composition(config.composition)) if config.composition else [0] * len(shares)
        orbits = np.array(known, dtype=np.uint8)[shares]
    else:
        row = _chosen(rng, targets, config, header, library)
        template = library[row]
        orbits = np.zeros(len(template.representative), dtype=np.uint8)
        parts = _counts(config, template.n_atoms)
        if config.composition:
            counts = dict(zip(composition(config.composition), parts, strict=True))
            orbits = template_prior.elements_of(
                library, row, counts, _relatives(config, library), rng
            )
        elif config.targets and not config.restrictions():
            place, element = template_prior.first_element(library, row, rng)
            orbits[place] = element if element in header.spec.elements else 0
        if config.stoichiometry:
            shares = template_prior.shared_out(np.array(library.multiplicities[row]), parts, rng)
    slots = shares if config.stoichiometry and shares is not None else _no_slots(orbits)
    _place(orbits, slots, rng.permutation(len(orbits)), config, rng)
    orbit = template.orbit
    return Plan(index, template.n_atoms, targets, orbits[orbit], template, slots[orbit], rng)


def _chosen(
    rng: np.random.Generator,
    targets: NDArray[np.float64],
    config: SampleConfig,
    header: Header,
    library: TemplateLibrary,
) -> int:
    """Row of a template of the library."""
    rows = _candidates(config, header, library)
    weights = template_prior.weights(library, header, targets) * rows
    asked = sizes_asked(config)
    if config.composition:
        weights *= _relatives(config, library).weights
    if asked or units_asked(config) or (config.n_atoms == "train" and not config.composition):
        sizes = np.unique(library.n_atoms[rows])
        p = np.ones(len(sizes)) if asked else _sizes(targets, config, header)[sizes - 1]
        n_atoms = int(rng.choice(sizes, p=p / p.sum()))
        weights = weights * (library.n_atoms == n_atoms)
    return int(rng.choice(len(library), p=weights / weights.sum()))


def _drawn(
    rng: np.random.Generator,
    targets: NDArray[np.float64],
    config: SampleConfig,
    header: Header,
    library: TemplateLibrary,
) -> tuple[Template, NDArray[np.int64]]:
    """A template whose sites are drawn, and which of `_counts` each orbit is part of.

    Groups are as frequent as among training structures of about the size.
    """
    pairs = _drawable(config, header, library)
    p = _sizes(targets, config, header)
    sizes = np.array(sorted(pairs))
    weights = np.ones(len(sizes)) if sizes_asked(config) else p[sizes - 1] + 1e-12
    for _ in range(_GROUPS):  # a group whose sites have a larger one is left for another
        n_atoms = int(rng.choice(sizes, p=weights / weights.sum()))
        groups = np.array(pairs[n_atoms])
        near = np.abs(library.n_atoms - n_atoms) <= _NEAR
        frequency = np.bincount(library.space_group[near], minlength=231)[groups] + 1e-3
        group = int(rng.choice(groups, p=frequency / frequency.sum()))
        counts = _counts(config, n_atoms)
        found = draw_template(group, counts, rng, fewest_elements(config))
        if found is not None:
            return found
    raise UsageError(
        f"sample.symmetry: {_GROUPS} times in a row the sites drawn had a larger group than "
        f"{group}, in a cell of {n_atoms} atoms; ask for another space group or size"
    )


def _counts(config: SampleConfig, n_atoms: int) -> list[int]:
    """Atoms in a cell, of each part of what is asked; all of them where nothing is."""
    parts = parts_of(config)
    return [n_atoms // sum(parts) * count for count in parts] or [n_atoms]


def _drawable(
    config: SampleConfig, header: Header, library: TemplateLibrary
) -> dict[int, list[int]]:
    """Sizes of a cell that fit what is asked → the groups whose sites can fill it."""
    targets = np.full(len(header.model.labels), np.nan)
    sizes = sizes_asked(config) or tuple(np.flatnonzero(_sizes(targets, config, header)) + 1)
    groups = space_groups(config) or frozenset(np.unique(library.space_group).tolist())
    found = {}
    for n_atoms in sorted({int(size) for size in sizes}):
        counts = _counts(config, n_atoms)
        fitting = [group for group in sorted(groups) if can_fill(group, counts)]
        if fitting:
            found[n_atoms] = fitting
    return found


def _candidates(
    config: SampleConfig, header: Header, library: TemplateLibrary
) -> NDArray[np.bool_]:
    """(M,) the templates that fit what is asked, whatever the targets."""
    rows = library.n_atoms <= len(header.spec.sizes.frequency)
    if (groups := space_groups(config)) is not None:
        rows &= np.isin(library.space_group, list(groups))
    rows &= np.diff(library.orbits_ptr) >= fewest_elements(config)
    if asked := sizes_asked(config):
        rows &= np.isin(library.n_atoms, asked)
    if config.composition:
        rows &= _relatives(config, library).weights > 0
    if config.stoichiometry:
        rows &= template_prior.holding(library, parts_of(config))
    return rows


def _relatives(config: SampleConfig, library: TemplateLibrary) -> template_prior.Relatives:
    """The templates that can hold the composition asked for."""
    return template_prior.relatives(library, composition(config.composition), units_asked(config))


def _sizes(
    targets: NDArray[np.float64], config: SampleConfig, header: Header
) -> NDArray[np.float64]:
    """Weights of the sizes 1 … M of a cell."""
    sizes = header.spec.sizes
    p = sizes.frequency
    if config.n_atoms == "targets":
        p = sizes.given(header.spec.standardise(targets[None])[0])
    n_atoms = np.arange(1, len(p) + 1)
    unit = sum(parts_of(config))
    if not unit:
        return np.where(n_atoms >= fewest_elements(config), p, 0.0)
    asked = units_asked(config)
    fits = np.isin(n_atoms, np.multiply(asked, unit)) if asked else n_atoms % unit == 0
    return np.where(fits, np.ones(len(p)) if asked else np.maximum(p, 1e-12), 0.0)
