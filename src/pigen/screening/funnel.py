"""The funnel of a filter: how many structures pass each criterion, alone and in sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from pigen.bundle import Bundle, Criterion, Rate, Reject
from pigen.bundle.counts import EVERY
from pigen.screening.criteria import heading_of, is_made_before, letter_of


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

    LIKE: ClassVar[dict[str, Any]] = {
        "unread": 0,
        "judged": 0,
        "passed": {EVERY: 0},
        "left": {EVERY: 0},
        "reasons": {EVERY: 0},
        "rests_on": {EVERY: ""},
    }
    """An example of `counts`."""

    @classmethod
    def resumed(cls, criteria: tuple[Criterion, ...], counts: Mapping[str, Any]) -> Funnel:
        """A funnel that goes on from these `counts`; without counts an empty one."""
        found = dict(counts)
        for key in ("passed", "left", "reasons"):
            found[key] = Counter(counts.get(key, {}))
        return cls(criteria, **found)

    def counts(self) -> dict[str, Any]:
        """All counts so far, for `resumed`."""
        return {name: getattr(self, name) for name in self.LIKE}

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
        left = np.ones(len(judged), dtype=bool)
        for criterion in self.criteria:
            verdict = judged.verdicts[criterion.name]
            self.passed[criterion.name] += int(verdict.passed.sum())
            if is_made_before(criterion) and len(judged) and criterion.name in judged.columns:
                self.rests_on[criterion.name] = judged.columns[criterion.name].source
            if criterion.in_sequence:
                left &= verdict.passed
                self.left[criterion.name] += int(left.sum())
        survivors = survivors_of(judged)
        failed = survivors.rejects[len(before) :]
        self.reasons.update(_kind(reject.reason) for reject in failed)
        return survivors

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
                shown.append(f"{letter_of(criterion) or criterion.name} {rate.percent:.0f} %")
        return " → ".join(shown)

    def lines(self) -> Iterator[str]:
        """The table of rates and the reasons, for people."""
        width = max([len(heading_of(criterion)) for criterion in self.criteria] + [9])
        column = 2 * len(str(self.read)) + 20
        yield f"{'criterion':<{width}}  {'alone':<{column}}  in sequence"
        for criterion in self.criteria:
            after = self.sequence(criterion)
            # Without the total, which stands beside it, a line keeps below 80 characters.
            left = str(after).replace(f" / {after.total} ", " ", 1) if after else "–"
            yield f"{heading_of(criterion):<{width}}  {self.alone(criterion)!s:<{column}}  {left}"
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


def survivors_of(judged: Bundle) -> Bundle:
    """The crystals of a chunk that pass; its rejects tell why each of the others does not."""
    rejects = (*unread(judged), *judged.failed())
    return replace(judged.select(judged.passed()), rejects=rejects)


def unread(chunk: Bundle) -> tuple[Reject, ...]:
    """Count the rejects of a chunk that never became crystals; those of an earlier filter did."""
    return () if chunk.are_survivors else chunk.rejects


def _kind(reason: str) -> str:
    return reason.split(":")[0]


def _rate_json(rate: Rate | None) -> dict[str, float | int] | None:
    if rate is None:
        return None
    return {
        "passed": rate.passed,
        "total": rate.total,
        "percent": rate.percent if rate.total else 0.0,
        "standard_error": rate.percent_error,
    }
