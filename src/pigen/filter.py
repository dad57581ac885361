"""Filters: criteria on descriptors, verdicts on structures, and the funnel that counts them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import KEPT_BY, Bundle, KeepingAll, Reject, Verdict, strings
from pigen.descriptors import (
    column_source,
    descriptor_names,
    evaluate,
    get_descriptor,
    load_descriptors,
    loaded_files,
)
from pigen.descriptors.novelty import write_formulas
from pigen.errors import UsageError
from pigen.executor import map_ordered
from pigen.experiment import FilterConfig
from pigen.read import read_chunks
from pigen.tables import LETTERS, SEQUENCE, Rate

_LETTER_OF = {
    **{name: letter.replace("_prime", "′") for letter, name in LETTERS.items()},
    "e_hull": "E",
}
_ORDER = ("min_distance", "spp", "novel", "c", "mled", "e_hull", "prototype", "k")
"""The paper's order, and frameworks after motifs: the matcher takes the most time."""

_MADE_BEFORE = {"e_hull": ("eV/atom", "pigen energy")}
"""Columns of ours that no descriptor computes: the unit of each, and the verb that makes it."""


@dataclass(frozen=True)
class Criterion:
    """A window on the main value of a descriptor; ends are excluded.

    Attributes:
        name: the descriptor, or a column that is there before; also the verdict's name.
        low: values must exceed it; None for no lower end.
        high: values must be below it. Both ends None: the value itself must be true.
        absent: the value is a name, and there must be none.
        settings: of the descriptor.
        in_sequence: whether failing it takes a structure out; otherwise it is only counted alone.
    """

    name: str
    low: float | None = None
    high: float | None = None
    absent: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    in_sequence: bool = True

    @property
    def text(self) -> str:
        """Like ``0.55 < c < 0.85``, ``spp < 0.362``, ``novel`` or ``no prototype``."""
        if self.absent:
            return f"no {self.name}"
        if self.low is not None and self.high is None:
            return f"{self.name} > {self.low:g}"
        low = f"{self.low:g} < " if self.low is not None else ""
        return low + self.name + (f" < {self.high:g}" if self.high is not None else "")

    @property
    def heading(self) -> str:
        """The text after the letter that the paper gives the criterion, if it does."""
        letter = _LETTER_OF.get(self.name)
        return f"{letter or '':<3}{self.text}{' ' + self.unit if self.unit else ''}"

    @property
    def made_before(self) -> bool:
        """Whether it is on a column that no descriptor computes."""
        return self.name in _MADE_BEFORE or self.name not in descriptor_names()

    @property
    def unit(self) -> str:
        """Of the window, "" for a dimensionless one and where only the column would tell."""
        if self.made_before:
            return _MADE_BEFORE.get(self.name, ("", ""))[0]
        return get_descriptor(self.name).columns[0].unit


def provenance_of(criteria: Iterable[Criterion]) -> dict[str, str]:
    """All that verdicts depend on, to the last digit: for the provenance of a bundle.

    Raises:
        UsageError: a settings file that can't be read.
    """
    said = {}
    for criterion in criteria:
        name, ends = criterion.name, f"low={criterion.low}, high={criterion.high}"
        made = "" if criterion.made_before else column_source(name, criterion.settings)
        where = "in sequence" if criterion.in_sequence else "alone"
        said[f"criterion {name}"] = "; ".join(filter(None, (ends, where, made)))
    return said


def paper_criteria(config: FilterConfig | None = None) -> tuple[Criterion, ...]:
    """The paper's A′ A B C D K with the thresholds of a config, in the paper's order.

    A–D are in sequence, as in its Table 1; A′, K and those of ``config.where`` are counted alone.
    Without ``config.novel`` there is no B.

    Raises:
        UsageError: a window of ``config.where`` that is none.
    """
    config = config or FilterConfig()
    spp_settings = {"table": Path(config.spp_table)} if config.spp_table else {}
    novel_settings = {"known": Path(config.known)} if config.known else {}
    criteria = [
        Criterion("min_distance", low=config.min_distance),
        Criterion("spp", high=config.spp, settings=spp_settings),
        Criterion("novel", settings=novel_settings),
        Criterion("c", low=config.c[0], high=config.c[1]),
        Criterion("mled", low=config.mled),
        Criterion("k", low=config.k),
    ]
    sequence = {LETTERS[letter] for letter in SEQUENCE}
    return tuple(
        replace(criterion, in_sequence=criterion.name in sequence)
        for criterion in criteria
        if config.novel or criterion.name != "novel"
    ) + tuple(window_on(name, ends, in_sequence=False) for name, ends in config.where.items())


def window_on(
    name: str, ends: tuple[float | None, float | None], *, in_sequence: bool = True
) -> Criterion:
    """The criterion that a descriptor or column lies between two ends; an infinite one is open.

    Raises:
        UsageError: both ends are open, or the lower one is not below the upper.
    """
    low, high = (None if end is None or math.isinf(end) else end for end in ends)
    if low is None and high is None:
        raise UsageError(f"{name}: neither a lower nor an upper end")
    if low is not None and high is not None and not low < high:
        raise UsageError(f"{name}: the lower end {low:g} must be below the upper, {high:g}")
    return Criterion(name, low, high, in_sequence=in_sequence)


def in_paper_order(criteria: Iterable[Criterion]) -> tuple[Criterion, ...]:
    """The criteria in one order, A′ A B C D E prototype K and others, however they were typed."""
    place = {name: i for i, name in enumerate(_ORDER)}
    return tuple(sorted(criteria, key=lambda one: (place.get(one.name, len(_ORDER)), one.name)))


def known_compositions(source: Path, folder: Path, executor: Executor | None = None) -> Path:
    """A file of formulas for the descriptor ``novel``, from formulas or from structures.

    Args:
        source: a text file of formulas (.txt, .txt.gz), or any source of structures.
        folder: where the formulas of structures are written.
        executor: where structures are parsed.

    Returns:
        The source itself if it is a text file, else the file written.

    Raises:
        UsageError: no structure in the source could be read.
    """
    name = source.name.lower().removesuffix(".gz")
    if name.endswith(".txt") and source.is_file():
        return source
    path = folder / f"{source.name}.compositions.txt.gz"
    chunks = read_chunks([source], executor=executor)
    formulas = (formula for chunk in chunks for formula in chunk.crystals.reduced_formulas())
    if not write_formulas(path, formulas, f"reduced formulas of {source.name}"):
        raise UsageError(f"{source}: no structure in it could be read")
    return path


# -- judging --------------------------------------------------------------------------------------
def apply_filters(bundle: Bundle, criteria: Sequence[Criterion]) -> Bundle:
    """The bundle with a verdict for each criterion, in place of any it had.

    Columns that the criteria need are computed unless they are there, made the same way. A
    structure that has no value fails with the reason for that. A reason's part before a colon says
    what kind it is; what follows is particular to the structure.

    Raises:
        UsageError: a column is missing that no descriptor makes.
    """
    settings = {c.name: c.settings for c in criteria if not c.made_before}
    bundle, reasons = evaluate(bundle, settings, settings)
    verdicts = {}
    for criterion in criteria:
        if criterion.made_before:
            values, reasons[criterion.name] = _made_before(bundle, criterion.name)
        else:
            values = bundle.columns[get_descriptor(criterion.name).columns[0].name].values
        inside, why = np.ones(len(bundle), dtype=bool), [""] * len(bundle)
        if criterion.absent:
            inside = values == ""
            why = [f"known {criterion.name}: {value}" for value in values]
        elif criterion.low is None and criterion.high is None:
            inside = values.astype(bool)
            why = [f"not {criterion.name}: {f}" for f in bundle.crystals.reduced_formulas()]
        if criterion.low is not None:
            above = values > criterion.low
            why = _name_failed(why, above, f"{criterion.name} not above {criterion.low:g}", values)
            inside = inside & above
        if criterion.high is not None:
            below = values < criterion.high
            text = f"{criterion.name} not below {criterion.high:g}"
            why = _name_failed(why, below, text, values)
            inside = inside & below
        for i in np.flatnonzero(reasons[criterion.name] != ""):
            inside[i], why[i] = False, f"no {criterion.name}, {reasons[criterion.name][i]}"
        shown = strings("" if ok else reason for ok, reason in zip(inside, why, strict=True))
        verdicts[criterion.name] = Verdict(inside, shown, criterion.text)
    return replace(bundle, verdicts=verdicts)


def _made_before(bundle: Bundle, name: str) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Values of a column that is there before, and why one is missing."""
    column = bundle.columns.get(name)
    if not len(bundle):
        return np.zeros(0), np.zeros(0, dtype=object)
    if column is None or column.kind == "str" or column.per_atom:
        if name in _MADE_BEFORE:
            raise UsageError(f"no column {name}; run `{_MADE_BEFORE[name][1]}` first")
        numbers = [n for n, c in bundle.columns.items() if c.kind != "str" and not c.per_atom]
        raise UsageError(
            f"no column of numbers {name!r}; there are {', '.join(numbers) or 'none'}, and the "
            f"descriptors {', '.join(descriptor_names())}"
        )
    values = column.values.astype(np.float64)
    said = bundle.columns.get(f"{name}_reason")
    reasons = np.array([""] * len(bundle), dtype=object)
    for i in np.flatnonzero(np.isnan(values)):
        reasons[i] = (said.values[i] if said else "") or "not known"
    return values, reasons


def _name_failed(why: list[str], passed: Any, text: str, values: Any) -> list[str]:
    return [
        old if ok else f"{text}: {value:.4g}"
        for old, ok, value in zip(why, passed, values, strict=True)
    ]


def judge(
    chunks: Iterable[Bundle], criteria: Sequence[Criterion], executor: Executor
) -> Iterator[Bundle]:
    """`apply_filters` on every chunk of a stream, in order, a few at a time in the executor.

    A structure that hangs or kills a worker fails every criterion.
    """
    task = partial(_apply, criteria=tuple(criteria), own=loaded_files())
    return map_ordered(executor, KeepingAll(task, Bundle.concatenate), chunks)


def _apply(bundle: Bundle, criteria: tuple[Criterion, ...], own: tuple[Path, ...]) -> Bundle:
    load_descriptors(own)  # this may be a worker
    return apply_filters(bundle, criteria)


def check_criteria(criteria: Sequence[Criterion]) -> None:
    """Raise UsageError for a setting or a settings file that is wrong, before any work."""
    for criterion in criteria:
        if criterion.made_before:
            if criterion.settings:
                raise UsageError(f"{criterion.name} is no descriptor, and has no settings")
            continue
        column_source(criterion.name, criterion.settings)
        # An evaluation of nothing loads the tables and lists that the settings name.
        get_descriptor(criterion.name)(Bundle.empty().crystals, **criterion.settings)


# -- counting -------------------------------------------------------------------------------------
@dataclass
class Funnel:
    """Running counts over judged chunks; kept + rejected = read.

    Attributes:
        criteria: those of the verdicts.
        unread: entries of the sources that never became a crystal; they fail every criterion.
        judged: crystals.
        passed: criterion → crystals that pass it.
        left: criterion in sequence → crystals that pass it and all before it.
        reasons: why a crystal was rejected first → how many.
        rests_on: criterion on a column that was there before → how that was made.
    """

    criteria: tuple[Criterion, ...]
    unread: int = 0
    judged: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rests_on: dict[str, str] = field(default_factory=dict)

    @classmethod
    def resumed(cls, criteria: tuple[Criterion, ...], state: str) -> Funnel:
        """The funnel whose `state` that was; an empty one of no state."""
        counts: dict[str, Any] = json.loads(state or "{}")
        for key in ("passed", "left", "reasons"):
            counts[key] = Counter(counts.get(key, {}))
        return cls(criteria, **counts)

    def state(self) -> str:
        """All counts so far, for `resumed`."""
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "criteria"}
        return json.dumps(counts, ensure_ascii=False)

    def add(self, judged: Bundle) -> Bundle:
        """Count a chunk from `apply_filters`; returns its survivors.

        The survivors carry the rejected crystals among their `rejects`, each with the reason of the
        first criterion in sequence that it fails.
        """
        before = unread(judged)
        self.unread += len(before)
        self.judged += len(judged)
        for reject in before:
            self.reasons[_kind(reject.reason)] += 1
        alive = np.ones(len(judged), dtype=bool)
        rejected: dict[int, Reject] = {}
        for criterion in self.criteria:
            verdict = judged.verdicts[criterion.name]
            self.passed[criterion.name] += int(verdict.passed.sum())
            if criterion.made_before and len(judged):
                self.rests_on[criterion.name] = judged.columns[criterion.name].source
            if not criterion.in_sequence:
                continue
            for i in np.flatnonzero(alive & ~verdict.passed).tolist():
                rejected[i] = Reject(judged.ids[i], verdict.reasons[i])
                self.reasons[_kind(verdict.reasons[i])] += 1
            alive &= verdict.passed
            self.left[criterion.name] += int(alive.sum())
        survivors = judged.select(alive)
        in_order = tuple(rejected[i] for i in sorted(rejected))
        return replace(survivors, rejects=(*before, *in_order))

    @property
    def read(self) -> int:
        """Entries of the sources."""
        return self.unread + self.judged

    @property
    def kept(self) -> int:
        """Crystals that pass all criteria in sequence."""
        sequence = [criterion.name for criterion in self.criteria if criterion.in_sequence]
        return self.left[sequence[-1]] if sequence else self.judged

    @property
    def rejected(self) -> int:
        """Entries that are not kept."""
        return self.read - self.kept

    def alone(self, criterion: Criterion) -> Rate:
        """Share of all entries read that passes one criterion."""
        return Rate(self.passed[criterion.name], self.read)

    def sequence(self, criterion: Criterion) -> Rate | None:
        """Share that passes it and those before it; None for one that is not in sequence."""
        return Rate(self.left[criterion.name], self.read) if criterion.in_sequence else None

    def running(self) -> str:
        """The funnel so far on one line: ``A 93 % → B 61 %``."""
        shown = []
        for criterion in self.criteria:
            rate = self.sequence(criterion)
            if rate is not None and rate.total:
                name = _LETTER_OF.get(criterion.name, criterion.name)
                shown.append(f"{name} {100 * rate.fraction:.0f} %")
        return " → ".join(shown)

    def lines(self) -> Iterator[str]:
        """The table of rates and the reasons, for people."""
        width = max([len(criterion.heading) for criterion in self.criteria] + [9])
        column = 2 * len(str(self.read)) + 20
        yield f"{'criterion':<{width}}  {'alone':<{column}}  in sequence"
        for criterion in self.criteria:
            after = self.sequence(criterion)
            # Without the total, which stands beside it, a line keeps below 80 characters.
            left = str(after).replace(f" / {after.total} ", " ", 1) if after else "–"
            yield f"{criterion.heading:<{width}}  {self.alone(criterion)!s:<{column}}  {left}"
        for name, source in self.rests_on.items():
            yield f"{name}: {source}"
        yield ""
        yield f"read {self.read}, kept {self.kept}, rejected {self.rejected}"
        for reason, n in self.reasons.most_common():
            yield f"  {n:7d}  {reason}"

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "read": self.read,
            "unreadable": self.unread,
            "kept": self.kept,
            "rejected": self.rejected,
            "criteria": [
                {
                    "name": criterion.name,
                    "text": criterion.text,
                    "alone": _rate_json(self.alone(criterion)),
                    "sequence": _rate_json(self.sequence(criterion)),
                }
                for criterion in self.criteria
            ],
            "reasons": dict(self.reasons.most_common()),
            "rests_on": self.rests_on,
        }


def unread(chunk: Bundle) -> tuple[Reject, ...]:
    """Entries of a chunk's source that are no crystals; what an earlier filter took out is not."""
    return () if KEPT_BY in chunk.provenance else chunk.rejects


def entries_of(chunk: Bundle) -> int:
    """Entries of the source that a chunk stands for, as a `Funnel` counts them."""
    return len(chunk) + len(unread(chunk))


def _kind(reason: str) -> str:
    return reason.split(":")[0]


def _rate_json(rate: Rate | None) -> dict[str, float | int] | None:
    if rate is None:
        return None
    return {
        "passed": rate.passed,
        "total": rate.total,
        "percent": 100 * rate.fraction if rate.total else 0.0,
        "standard_error": 100 * rate.standard_error,
    }
