"""Criteria on descriptors: those of the paper, and those that a user asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from pigen.bundle import Bundle, Criterion
from pigen.config import (
    CRITERION_LABELS,
    LESS_IS_BETTER,
    MORE_IS_BETTER,
    ChemistryConfig,
    FilterConfig,
)
from pigen.descriptors import column_source, descriptor_names, get_descriptor
from pigen.descriptors.novelty import known_list, new_to, write_formulas
from pigen.io import read_chunks
from pigen.runtime import resources
from pigen.runtime.checked import checked, plain
from pigen.runtime.errors import UsageError

Ends = tuple[float | None, float | None]
Window = float | Ends
"""``(lo, hi)``, ends excluded, None for an open one; a number is the natural bound."""

_CHEMISTRY = ("elements", "n_elements", "charge_balanced", "stoichiometry")
ORDER = (
    *_CHEMISTRY,
    *("min_distance", "spp", "novel", "c", "mled"),
    *("e_hull", "p_hull_050", "p_hull_100", "prototype", "k"),
)
"""What needs a composition alone, the paper's order, and frameworks after motifs: the matcher takes
the most time."""
IN_SEQUENCE = ("spp", "novel", "c", "mled")
"""Criteria of an experiment that take structures out; its others are counted alone."""

MADE_BEFORE = {
    "e_hull": ("eV/atom", "pigen energy"),
    "e_hull_est": ("eV/atom", "pigen energy"),
    "p_hull_050": ("", "pigen energy"),
    "p_hull_100": ("", "pigen energy"),
}
"""Columns of ours that no descriptor computes: the unit of each, and the verb that makes it."""


def letter_of(criterion: Criterion) -> str:
    """What tables call a criterion, "" for one that has its name alone."""
    return CRITERION_LABELS.get(criterion.name, "")


def heading_of(criterion: Criterion) -> str:
    """The criterion in words, after its letter."""
    return f"{letter_of(criterion):<3}{criterion.words}"


def is_made_before(criterion: Criterion) -> bool:
    """Whether a criterion is on a column that no descriptor computes."""
    return criterion.name in MADE_BEFORE or criterion.name not in descriptor_names()


def with_unit(criterion: Criterion) -> Criterion:
    """The criterion with the unit of its descriptor; none where only the column would tell."""
    if is_made_before(criterion):
        return replace(criterion, unit=MADE_BEFORE.get(criterion.name, ("", ""))[0])
    return replace(criterion, unit=get_descriptor(criterion.name).columns[0].unit)


def provenance_of(criteria: Iterable[Criterion]) -> dict[str, str]:
    """All that verdicts depend on, to the last digit: for the provenance of a bundle.

    Raises:
        UsageError: a settings file that can't be read.
    """
    said = {}
    for criterion in criteria:
        name, ends = criterion.name, f"low={criterion.low}, high={criterion.high}"
        ends = criterion.text if criterion.is_on_names else ends
        made = "" if is_made_before(criterion) else column_source(name, criterion.settings)
        where = "in sequence" if criterion.in_sequence else "alone"
        said[f"criterion {name}"] = "; ".join(filter(None, (ends, where, made)))
    return said


def paper_criteria(config: FilterConfig | None = None) -> tuple[Criterion, ...]:
    """The paper's A′ A B C D K with the thresholds of a config, in the paper's order.

    A–D are in sequence, as in its Table 1, and before them what is asked of compositions; A′, K
    and those of ``config.where`` are counted alone. Without ``config.novel`` there is no B.

    Raises:
        UsageError: a window of ``config.where`` is not valid.
    """
    config = config or FilterConfig()
    spp_settings = {"table": Path(config.spp_table)} if config.spp_table else {}
    novel_settings = {"known": known_list(config.known)} if config.known else {}
    criteria = [
        Criterion("min_distance", low=config.min_distance),
        Criterion("spp", high=config.spp, settings=spp_settings),
        novelty(novel_settings),
        Criterion("c", low=config.c[0], high=config.c[1]),
        Criterion("mled", low=config.mled),
        Criterion("k", low=config.k),
    ]
    return (
        *chemistry_criteria(config),
        *(
            with_unit(replace(criterion, in_sequence=criterion.name in IN_SEQUENCE))
            for criterion in criteria
            if config.novel or criterion.name != "novel"
        ),
        *(window_on(name, ends, in_sequence=False) for name, ends in config.where.items()),
    )


def novelty(settings: Mapping[str, Any]) -> Criterion:
    """Criterion B: the composition is not in a list, which its text names."""
    known = settings.get("known", resources.KNOWN_COMPOSITIONS)
    return Criterion("novel", settings=settings, wording=f"new to {new_to(known)}")


def chemistry_criteria(config: ChemistryConfig) -> tuple[Criterion, ...]:
    """Criteria on compositions, in sequence; none where nothing is asked of them."""
    found = []
    groups = (*((symbol,) for symbol in config.elements_required), *config.elements_one_of)
    on_elements = Criterion(
        "elements",
        among=config.elements_allowed or None,
        holding=groups,
        without=config.elements_excluded,
    )
    if on_elements.is_on_names:
        found.append(on_elements)
    chemistry, free = config.chemistry(), ChemistryConfig().chemistry()
    if (chemistry.fewest, chemistry.most) != (free.fewest, free.most):
        found.append(
            Criterion("n_elements", low=chemistry.fewest, high=chemistry.most, inclusive=True)
        )
    if config.charge_balanced:
        found.append(Criterion("charge_balanced"))
    if config.stoichiometry:
        amounts = config.stoichiometry
        settings = {"amounts": amounts}
        found.append(Criterion("stoichiometry", settings=settings, wording=amounts))
    return tuple(found)


def windows_of(
    own: Mapping[str, Window | None], where: Mapping[str, Window]
) -> dict[str, Ends | None]:
    """Both ends of each window; a bare number is the natural bound of a quantity that has one.

    Args:
        own: quantities that have an argument of their own. where: others.

    Raises:
        UsageError: ``where`` names a quantity that has its own argument, or a window is not valid.
    """
    for name in where.keys() & {*own, "novel", "prototype", *ChemistryConfig.__slots__}:
        raise UsageError(f"where: {name} has an argument of its own")
    return {name: _ends(name, window) for name, window in {**own, **where}.items()}


def _ends(name: str, window: Window | None) -> Ends | None:
    if window is None or isinstance(window, tuple | list):
        if window is not None and len(window) != 2:
            raise UsageError(f"{name}: expected (lo, hi), got {window}")
        return None if window is None else (window[0], window[1])
    if name in MORE_IS_BETTER:
        return window, None
    if name in LESS_IS_BETTER:
        return None, window
    raise UsageError(f"{name}: give a window, like (0.55, 0.85) or (0.55, None)")


def window_on(name: str, ends: Ends, *, in_sequence: bool = True) -> Criterion:
    """The criterion that a descriptor or column lies between two ends; an infinite one is open.

    Ends are excluded, but those of a descriptor of whole numbers belong to the window.

    Raises:
        UsageError: both ends are open, the lower one is not below the upper, or the descriptor has
            no numbers.
    """
    made = None if is_made_before(Criterion(name)) else get_descriptor(name).columns[0].kind
    if made in ("text", "flag"):
        raise UsageError(f"{name} has no numbers: it takes no window")
    low, high = (None if end is None or math.isinf(end) else end for end in ends)
    if low is None and high is None:
        raise UsageError(f"{name}: neither a lower nor an upper end")
    whole = made == "whole"
    if low is not None and high is not None and not (low <= high if whole else low < high):
        raise UsageError(f"{name}: the lower end {low:g} must be below the upper, {high:g}")
    return with_unit(Criterion(name, low, high, in_sequence=in_sequence, inclusive=whole))


def in_paper_order(criteria: Iterable[Criterion]) -> tuple[Criterion, ...]:
    """Sort criteria: A′ A B C D E, prototype, K, then others by name."""
    place = {name: i for i, name in enumerate(ORDER)}
    return tuple(sorted(criteria, key=lambda one: (place.get(one.name, len(ORDER)), one.name)))


def lists_formulas(source: Path) -> bool:
    """Whether a source is a list of formulas, shipped or a text file, and not structures."""
    name = source.name.lower().removesuffix(".gz")
    return str(source) in resources.KNOWN_LISTS or name.endswith(".txt")


def known_compositions(source: Path, folder: Path, executor: Executor | None = None) -> Path:
    """A file of formulas for the descriptor ``novel``, from formulas or from structures.

    Args:
        source: a shipped list by name (mp, training), a text file of formulas (.txt, .txt.gz), or
            any source of structures.
        folder: where the formulas of structures are written.
        executor: where structures are parsed.

    Returns:
        The list if it is one, else the file written.

    Raises:
        UsageError: no structure in the source could be read.
    """
    listed = known_list(str(source))
    if lists_formulas(source) and listed.is_file():
        return listed
    path = folder / f"{source.name}.compositions.txt.gz"
    chunks = read_chunks([source], executor=executor)
    formulas = (formula for chunk in chunks for formula in chunk.crystals.reduced_formulas())
    if not write_formulas(path, formulas, f"reduced formulas of {source.name}"):
        raise UsageError(f"{source}: no structure in it could be read")
    return path


def criteria_of(
    windows: Mapping[str, Ends | None],
    folder: Path,
    executor: Executor,
    *,
    chemistry: ChemistryConfig | None = None,
    novel: bool = False,
    prototypes: str | None = None,
    top: int | None = None,
    spp_table: Path | None = None,
    known: Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Criterion, ...]:
    """The criteria that a user asks for, in the paper's order; without any, the paper's own.

    Args:
        windows: descriptor or column → its ends; None where there is no criterion.
        folder: where lists and libraries made for the criteria are written.
        executor: where structures are read for these.
        chemistry: what is asked of compositions.
        novel: criterion B.
        prototypes, top: no framework of this library, as far as that rank.
        spp_table, known: files of A and B, if not those shipped; or the name of a shipped list.
        settings: further settings by descriptor.

    Raises:
        UsageError: a window is not valid, a setting is unknown, or a file does not hold what it
            should.
    """
    from pigen.descriptors.prototypes.library import library_file

    given = [window_on(name, ends) for name, ends in windows.items() if ends is not None]
    given += chemistry_criteria(chemistry or ChemistryConfig())
    chosen = {name: dict(some) for name, some in (settings or {}).items()}
    if prototypes is not None:
        given.append(Criterion("prototype", absent=True))
        chosen.setdefault("prototype", {})["library"] = library_file(prototypes, folder)
    elif top is not None:
        raise UsageError("--top is of --prototypes, which is not given")
    if top is not None:
        chosen.setdefault("prototype", {})["top"] = top
    if spp_table is not None:
        chosen.setdefault("spp", {})["table"] = spp_table
    if known is not None:
        chosen.setdefault("novel", {})["known"] = known_compositions(known, folder, executor)
    if novel:
        given.append(novelty(chosen.get("novel", {})))
    criteria = in_paper_order(given) or paper_criteria()
    unused = chosen.keys() - {criterion.name for criterion in criteria}
    if unused:
        raise UsageError(f"settings for {', '.join(sorted(unused))}, which is no criterion here")
    criteria = tuple(replace(c, settings=chosen.get(c.name, c.settings)) for c in criteria)
    check_criteria(criteria)
    return criteria


def request_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `criteria_of` from those of `pigen.filter`; UsageError for one that is wrong."""
    chemistry = dict(options)
    given = {n: chemistry.pop(n, None) for n in ("prototypes", "top", "settings")}
    for name in ("spp_table", "known"):
        path = chemistry.pop(name, None)
        given[name] = None if path is None else Path(path)
    return {**given, "chemistry": checked(ChemistryConfig, plain(chemistry), "pigen.filter")}


def check_criteria(criteria: Sequence[Criterion]) -> None:
    """Raise UsageError for a setting or a settings file that is wrong, before any work."""
    for criterion in criteria:
        if is_made_before(criterion):
            if criterion.settings:
                raise UsageError(f"{criterion.name} is no descriptor, and has no settings")
            continue
        column_source(criterion.name, criterion.settings)
        # An evaluation of nothing loads the tables and lists that the settings name.
        get_descriptor(criterion.name)(Bundle.empty().crystals, **criterion.settings)
