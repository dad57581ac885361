"""Counts noted in a bundle that somebody else may have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pigen.bundle import Criterion, Rate
from pigen.bundle.counts import EVERY, counts_text, parse_counts
from pigen.runtime.errors import PigenError
from pigen.screening.funnel import Funnel

PATH = Path("a.h5")
NONE = Funnel((Criterion("c", low=0.5),))


def test_counts_are_read_as_they_were_written() -> None:
    counts = {"no c, two\natoms": 3, "µ": 1}
    assert parse_counts(counts_text(counts), PATH, {EVERY: 0}) == counts
    assert parse_counts("", PATH, {EVERY: 0}) == {}
    noted = parse_counts(counts_text(NONE.counts()), PATH, Funnel.LIKE)
    assert Funnel.resumed(NONE.criteria, noted) == NONE


@pytest.mark.parametrize(
    "note",
    ["{", "[]", "3", '{"a": true}', '{"a": "b"}', '{"a": {}}', '{"a": null}', "[" * 100_000],
)
def test_other_notes_are_damage(note: str) -> None:
    with pytest.raises(PigenError, match=r"^a\.h5 is damaged"):
        parse_counts(note, PATH, {EVERY: 0})


@pytest.mark.parametrize(
    "note", ['{"criteria": 1}', '{"read": 3}', '{"left": 3}', '{"left": {"c": "3"}}']
)
def test_other_counts_are_no_funnel(note: str) -> None:
    with pytest.raises(PigenError, match=r"^a\.h5 is damaged"):
        parse_counts(note, PATH, Funnel.LIKE)


def test_the_share_of_nothing_is_a_dash() -> None:
    assert str(Rate(0, 0)) == "0 / 0 (–)"
    assert "nan" not in "\n".join(NONE.lines())
