"""`Bundle`: the in-memory form, and the only thing that streams between stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle.columns import (
    Column,
    Strings,
    check_name,
    common_kind,
    convert,
    merge_sources,
    missing,
    strings,
    with_missing,
)
from pigen.bundle.criteria import Criterion
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import usual_formula
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:
    from ase import Atoms
    from pandas import DataFrame
    from pymatgen.core import Structure

Rows = slice | NDArray[np.bool_] | NDArray[np.int64]


KEEPS = "keeps"
"""Provenance key of a bundle that was filtered: `SURVIVORS`, or `EVERY_ONE` of the structures."""
SURVIVORS, EVERY_ONE = "survivors", "all"
"""Of survivors, the rejects are those that a criterion took out."""


_SHOWN = 8
"""Rows and columns of a bundle that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What one criterion said of every crystal.

    Attributes:
        passed: (B,) bool.
        reasons: (B,) str, "" where passed.
        criterion: what was asked.
    """

    passed: NDArray[np.bool_]
    reasons: Strings
    criterion: Criterion

    def __post_init__(self) -> None:
        """Check that both arrays have one shape (B,)."""
        passed = np.array(self.passed, dtype=bool)
        reasons = strings(self.reasons)
        if passed.shape != reasons.shape:
            raise ValueError(f"passed has shape {passed.shape} but reasons {reasons.shape}")
        passed.setflags(write=False)
        object.__setattr__(self, "passed", passed)
        object.__setattr__(self, "reasons", reasons)


@dataclass(frozen=True)
class Reject:
    """An input entry that never became a crystal, and why."""

    id: str
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Bundle:
    """B crystals with what is known of them. A chunk of a stream is a Bundle too.

    Attributes:
        crystals: the structures.
        ids: (B,) str, the name of each.
        parents: (B,) str, the id each was made from, "" if none.
        columns: named quantities, one value per crystal or per atom.
        verdicts: named criteria with pass or fail and reason.
        rejects: entries of the source that were refused; kept + rejected = read.
        provenance: how the bundle came about, text by key.
    """

    crystals: Crystals
    ids: Strings
    parents: Strings = field(default_factory=lambda: strings([]))
    columns: Mapping[str, Column] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    rejects: tuple[Reject, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that everything has the length of `crystals`; ValueError names what does not."""
        n = len(self.crystals)
        n_atoms = len(self.crystals.atomic_numbers)
        object.__setattr__(self, "ids", strings(self.ids))
        parents = self.parents if len(self.parents) else [""] * n
        object.__setattr__(self, "parents", strings(parents))
        object.__setattr__(self, "rejects", tuple(self.rejects))
        for what, array in (("ids", self.ids), ("parents", self.parents)):
            if len(array) != n:
                raise ValueError(f"{what} must have length {n}, got {len(array)}")
        for name, column in self.columns.items():
            check_name(name)
            expected = n_atoms if column.per_atom else n
            if len(column.values) != expected:
                raise ValueError(
                    f"column {name!r} must have length {expected}, got {len(column.values)}"
                )
        for name, verdict in self.verdicts.items():
            check_name(name)
            if name != verdict.criterion.name:
                raise ValueError(f"verdict {name!r} is by a criterion on {verdict.criterion.name}")
            if len(verdict.passed) != n:
                raise ValueError(
                    f"verdict {name!r} must have length {n}, got {len(verdict.passed)}"
                )

    def __len__(self) -> int:
        """Number of crystals B."""
        return len(self.crystals)

    @property
    def n_entries(self) -> int:
        """Crystals and rejects."""
        return len(self) + len(self.rejects)

    @property
    def n_read(self) -> int:
        """Crystals, and what could not be read: everywhere what shares are of.

        What an earlier filter took out does not count.
        """
        return len(self) if self.are_survivors else self.n_entries

    def __repr__(self) -> str:
        """Counts and names: the arrays are too long to print."""
        return (
            f"Bundle({_count(len(self), 'crystal')}, {_count(len(self.rejects), 'reject')}, "
            f"columns {list(self.columns)}, verdicts {list(self.verdicts)})"
        )

    def _repr_html_(self) -> str:
        """The first crystals as a table, for notebooks."""
        head = self.select(slice(0, _SHOWN)).to_pandas()
        more = len(head.columns) - _SHOWN
        table = head.iloc[:, :_SHOWN].to_html(border=0, float_format="{:.4g}".format)
        cut = [f"{len(self) - _SHOWN} more crystals"] if len(self) > _SHOWN else []
        cut += [f"{_count(more, 'more column')}"] if more > 0 else []
        cut += [_count(len(self.rejects), "reject")] if self.rejects else []
        return f"<p>{_count(len(self), 'crystal')}</p>{table}<p>{'; '.join(cut)}</p>"

    def __getitem__(self, key: str | int | Rows | Sequence[int] | Sequence[bool]) -> Bundle:
        """The chosen crystals with their values, as `select` gives them, without the rejects.

        Args:
            key: an id, a place, a mask (B,), indices, or a slice.

        Raises:
            KeyError: no crystal has the id.
            IndexError: no such place.
        """
        if isinstance(key, str):
            found = np.flatnonzero(self.ids == key)
            if not len(found):
                raise KeyError(key)
            key = found
        elif isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"no crystal {key} among {len(self)}")
            key = [int(key)]
        return replace(self.select(key), rejects=())

    def view(self) -> Any:
        """The crystals to turn and look at, as a widget of a notebook: `pigen.view`."""
        from pigen import view

        return view(self)

    @property
    def criteria(self) -> dict[str, Criterion]:
        """Verdict → what was asked."""
        return {name: verdict.criterion for name, verdict in self.verdicts.items()}

    def select(self, rows: Rows | Sequence[int] | Sequence[bool]) -> Bundle:
        """The chosen crystals with their values, in the order asked for; rejects are kept.

        Args:
            rows: a mask (B,), indices, or a slice.
        """
        chosen = np.arange(len(self))[_as_rows(rows)]
        ptr = self.crystals.ptr
        atoms = np.concatenate([np.arange(ptr[i], ptr[i + 1]) for i in chosen] or [np.arange(0)])
        return replace(
            self,
            crystals=self.crystals[chosen],
            ids=self.ids[chosen],
            parents=self.parents[chosen],
            columns={
                name: replace(c, values=c.values[atoms if c.per_atom else chosen])
                for name, c in self.columns.items()
            },
            verdicts={
                name: replace(v, passed=v.passed[chosen], reasons=v.reasons[chosen])
                for name, v in self.verdicts.items()
            },
        )

    def with_columns(self, columns: Mapping[str, Column]) -> Bundle:
        """This bundle with columns added, or replaced where the name exists."""
        return replace(self, columns={**self.columns, **columns})

    def with_verdicts(self, verdicts: Mapping[str, Verdict]) -> Bundle:
        """This bundle with verdicts added, or replaced where the name exists."""
        return replace(self, verdicts={**self.verdicts, **verdicts})

    @property
    def are_survivors(self) -> bool:
        """Whether a filter left these, so that the rejects are what it took out."""
        return self.provenance.get(KEEPS) == SURVIVORS

    def passed(self) -> NDArray[np.bool_]:
        """(B,) whether a crystal passes: every criterion in sequence, or an earlier filter.

        Raises:
            UsageError: the crystals were never judged.
        """
        if not self.verdicts and len(self) and not self.are_survivors:
            raise UsageError("the structures have no verdicts; run `pigen filter` first")
        passed = np.ones(len(self), dtype=bool)
        for verdict in self._in_sequence():
            passed &= verdict.passed
        return passed

    def failed(self) -> tuple[Reject, ...]:
        """A reject for each crystal that does not pass, with the first criterion's reason."""
        return tuple(
            Reject(
                str(self.ids[i]),
                next(str(v.reasons[i]) for v in self._in_sequence() if not v.passed[i]),
            )
            for i in np.flatnonzero(~self.passed()).tolist()
        )

    def _in_sequence(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts.values() if verdict.criterion.in_sequence]

    # -- the edge: other libraries -------------------------------------------------------------
    def to_pandas(self) -> DataFrame:
        """One row per crystal, indexed by id: formula, atoms, parents, columns and verdicts.

        A verdict's column ``verdict_<name>`` says "passed" or the reason. Columns with a value per
        atom are left out; ``pandas.DataFrame(bundle.rejects)`` lists what was refused.
        """
        from pandas import DataFrame, Index

        facts: dict[str, Any] = {
            "formula": list(map(usual_formula, self.crystals.reduced_formulas())),
            "n_atoms": self.crystals.n_atoms,
        }
        if any(self.parents):
            facts["parent"] = self.parents
        facts |= {name: c.values for name, c in self.columns.items() if not c.per_atom}
        for name, verdict in self.verdicts.items():
            said = np.where(verdict.passed, "passed", verdict.reasons)
            facts[f"verdict_{name}"] = said.astype(object)
        return DataFrame(facts, index=Index(self.ids, name="id", dtype=object))

    def to_pymatgen(self) -> list[Structure]:
        """One pymatgen Structure per crystal; id and columns are its ``properties``."""
        structures = self.crystals.to_pymatgen()
        for i, structure in enumerate(structures):
            structure.properties = self._facts(i)
        return structures

    def to_ase(self) -> list[Atoms]:
        """One periodic ASE Atoms per crystal; id and columns are its ``info``."""
        listed = self.crystals.to_ase()
        for i, atoms in enumerate(listed):
            atoms.info.update(self._facts(i))
        return listed

    def _facts(self, i: int) -> dict[str, Any]:
        """Id and per-crystal values of one crystal, as plain Python."""
        values = {
            n: c.values[i : i + 1].tolist()[0] for n, c in self.columns.items() if not c.per_atom
        }
        return {"id": self.ids[i], **values}

    @classmethod
    def empty(cls) -> Bundle:
        """No crystals, no columns."""
        return cls(crystals=Crystals.empty(), ids=strings([]))

    @classmethod
    def concatenate(cls, parts: Sequence[Bundle]) -> Bundle:
        """All parts, in order; the provenance is that of the first.

        A part lacking a column gets missing values there (an int64 or bool column becomes float64
        to hold them); columns of different kinds meet in float64 or else str.

        Raises:
            ValueError: a column has two units, or is per atom in one part only, or the parts that
                hold crystals have different verdicts, or verdicts by different criteria.
        """
        if not parts:
            return cls.empty()
        # A part without crystals lacks nothing: it must not turn an int column into float.
        filled = [p for p in parts if len(p)] or list(parts[:1])
        criteria = filled[0].criteria
        for part in filled:
            check_same_criteria(part.criteria, criteria)
        names = dict.fromkeys(name for part in filled for name in part.columns)
        return cls(
            crystals=Crystals.concatenate([p.crystals for p in parts]),
            ids=np.concatenate([p.ids for p in parts]),
            parents=np.concatenate([p.parents for p in parts]),
            columns={name: _concatenate_column(name, filled) for name in names},
            verdicts={
                name: Verdict(
                    np.concatenate([p.verdicts[name].passed for p in filled]),
                    np.concatenate([p.verdicts[name].reasons for p in filled]),
                    criterion,
                )
                for name, criterion in criteria.items()
            },
            rejects=tuple(reject for part in parts for reject in part.rejects),
            provenance=parts[0].provenance,
        )


def count_rejects(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many rejects have each reason, the most frequent first.

    What follows a colon in a reason is detail of that one entry ("unknown element: Xx") and is
    left out of the count's key.
    """
    counts = Counter(reject.reason.split(":")[0] for reject in rejects)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def check_same_criteria(new: Mapping[str, Criterion], old: Mapping[str, Criterion]) -> None:
    """ValueError if crystals that are put together were judged by different criteria."""
    if new.keys() != old.keys():
        raise ValueError(f"some structures have the verdicts {sorted(old)}, others {sorted(new)}")
    for name, criterion in old.items():
        if new[name] != criterion:
            raise ValueError(
                f"verdict {name!r} is by {criterion.text!r} on some structures and by "
                f"{new[name].text!r} on others"
            )


def _as_rows(rows: Rows | Sequence[int] | Sequence[bool]) -> Rows:
    if isinstance(rows, slice):
        return rows
    array = np.asarray(rows)
    return array.astype(np.int64) if array.size == 0 and array.dtype != bool else array


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _concatenate_column(name: str, parts: Sequence[Bundle]) -> Column:
    present = [p.columns[name] for p in parts if name in p.columns]
    first = present[0]
    for column in present:
        if (column.unit, column.per_atom) != (first.unit, first.per_atom):
            raise ValueError(
                f"column {name!r} is (unit {first.unit!r}, per_atom {first.per_atom}) in one part "
                f"and (unit {column.unit!r}, per_atom {column.per_atom}) in another"
            )
    kind = present[0].kind
    for column in present:
        kind = common_kind(kind, column.kind)
    if len(present) < len(parts):
        kind = with_missing(kind)
    pieces = []
    for part in parts:
        if name in part.columns:
            pieces.append(convert(part.columns[name].values, kind))
        else:
            n = len(part.crystals.atomic_numbers) if first.per_atom else len(part)
            pieces.append(missing(kind, n))
    source = merge_sources(column.source for column in present)
    return replace(first, values=np.concatenate(pieces), source=source)
