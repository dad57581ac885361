"""The one way in which stages go through structures: order, counts, and going on after a stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_crystals import assert_same, bundle_of

from pigen.bundle import KEEPS, Bundle, bundle_info, divide, read_bundle, write_bundle
from pigen.bundle.counts import EVERY
from pigen.bundle.memory import SURVIVORS
from pigen.bundle.stage import Stage, over_structures, skip_entries
from pigen.runtime.errors import PigenError
from pigen.runtime.executor import LocalPool


def _first_half(chunk: Bundle) -> Bundle:
    return chunk.select(slice(len(chunk) // 2))


class Halving(Stage[Bundle]):
    """Keeps half of each chunk, in a worker; counts crystals by their number of atoms."""

    like: Mapping[str, Any] = {EVERY: {EVERY: 0}}

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"atoms": Counter()}
        self.task = over_structures(_first_half)

    def take(self, result: Bundle) -> Bundle:
        self.counts["atoms"].update(map(str, result.crystals.n_atoms))
        return result


def chunks() -> list[Bundle]:
    return divide(bundle_of(30), 4)


def stopped_after(n: int) -> Iterator[Bundle]:
    yield from chunks()[:n]
    raise KeyboardInterrupt


def test_a_stage_writes_what_becomes_of_each_chunk(tmp_path: Path) -> None:
    stage = Halving()
    written = stage.write(chunks(), tmp_path / "b.h5", {"made_by": "a test"})
    expected = Bundle.concatenate([_first_half(chunk) for chunk in chunks()])
    found = read_bundle(tmp_path / "b.h5")
    assert_same(found, expected)
    assert (written.crystals, written.rejects) == (15, 1)
    assert (written.resumed_after, written.was_complete) == (0, False)
    assert stage.read == 31  # of the source, not of what is left of it
    assert stage.counts["atoms"] == Counter(map(str, expected.crystals.n_atoms))
    with LocalPool(2) as pool:
        assert_same(Bundle.concatenate(list(Halving().over(chunks(), pool))), expected)


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_a_stopped_stage_goes_on_with_its_counts(tmp_path: Path, n: int) -> None:
    whole, resumed = Halving(), Halving()
    whole.write(chunks(), tmp_path / "whole.h5", {})
    path = tmp_path / "b.h5"
    with pytest.raises(KeyboardInterrupt):
        Halving().write(stopped_after(n), path, {})
    assert not (path.exists() and bundle_info(path).complete)
    written = resumed.write(chunks(), path, {}, resume=True)
    assert written.resumed_after == sum(chunk.n_entries for chunk in chunks()[:n])
    assert_same(read_bundle(path), read_bundle(tmp_path / "whole.h5"))
    assert (resumed.counts, resumed.read) == (whole.counts, whole.read)
    assert bundle_info(path).state == bundle_info(tmp_path / "whole.h5").state


def test_what_is_complete_is_left_as_it_is_and_keeps_its_counts(tmp_path: Path) -> None:
    first, again = Halving(), Halving()
    first.write(chunks(), tmp_path / "b.h5", {})
    before = (tmp_path / "b.h5").read_bytes()
    written = again.write(stopped_after(0), tmp_path / "b.h5", {}, resume=True)
    assert written.was_complete
    assert (again.counts, again.read) == (first.counts, first.read)
    assert (tmp_path / "b.h5").read_bytes() == before


def test_other_sources_cannot_be_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Halving().write(stopped_after(2), tmp_path / "b.h5", {})
    with pytest.raises(PigenError, match="the sources do not hold what they held before"):
        Halving().write(divide(bundle_of(30), 5), tmp_path / "b.h5", {}, resume=True)


def chunk_of(n: int, n_rejects: int = 0) -> Bundle:
    source = bundle_of(n)
    return Bundle(crystals=source.crystals, ids=source.ids, rejects=source.rejects * n_rejects)


@pytest.mark.parametrize(("n", "left"), [(0, 3), (3, 2), (5, 1), (9, 0)])
def test_entries_that_are_done_are_skipped(n: int, left: int) -> None:
    chunks = [chunk_of(2, 1), chunk_of(0, 2), chunk_of(4)]
    assert len(list(skip_entries(chunks, n))) == left


@pytest.mark.parametrize("n", [1, 4, 10])
def test_a_stream_with_other_chunks_cannot_be_resumed(n: int) -> None:
    chunks = [chunk_of(2, 1), chunk_of(0, 2), chunk_of(4)]
    with pytest.raises(PigenError, match="cannot resume"):
        list(skip_entries(chunks, n))


def test_what_a_filter_took_out_was_not_read_again(tmp_path: Path) -> None:
    """It stays among the rejects from stage to stage, and shares are of what there was to do."""
    path = tmp_path / "kept.h5"
    write_bundle(path, replace(bundle_of(30), provenance={KEEPS: SURVIVORS}))
    for name in ("once.h5", "twice.h5"):
        survivors = read_bundle(path)
        assert (survivors.n_entries, survivors.n_read) == (31, 30)
        path = tmp_path / name
        written = Stage[Bundle]().write(divide(survivors, 4), path, {})
        assert (written.entries, written.rejects, written.before) == (30, 0, 1)
        assert Stage[Bundle]().write(divide(survivors, 4), path, {}, resume=True).before == 1
    assert Stage[Bundle]().write(chunks(), tmp_path / "all.h5", {}).entries == 31
