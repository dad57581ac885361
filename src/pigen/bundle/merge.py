"""Shards of one run, put together into the bundle that the run in one piece would have written.

Each shard's bundle says which chunks of the whole run it holds (`bundle.marks`). Merging appends
the chunks in the order of the run: the entries, their values and their order are the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from pigen.bundle import Bundle, BundleWriter, bundle_info, strings
from pigen.bundle.counts import EVERY, counts_text, parse_counts
from pigen.bundle.names import Names
from pigen.bundle.reading import chunk_numbers, iter_shard
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.shard import SHARD, Shard

_CREATED = "created"
_NAMED_BY_PARENT = {"pigen energy"}
"""What makes crystals that have a name of their own: their entry's, and something after it."""


@dataclass(frozen=True)
class Shards:
    """All shards of one run.

    Attributes:
        paths: in order; provenance: of the whole run.
        n_chunks: numbers that the chunks of all shards have, from 0.
        state: what all have counted.
    """

    paths: tuple[Path, ...]
    provenance: Mapping[str, str]
    n_chunks: int
    state: Mapping[str, Any]


def check_shards(paths: Sequence[Path]) -> Shards:
    """The shards of one run, in order, if they are all there and complete.

    Raises:
        UsageError: a file that is no shard, or no complete one; a shard that is missing or given
            twice; shards of different runs. The message names the file, and the key that differs.
        PigenError: a damaged file.
    """
    found: dict[int, tuple[Path, Shard]] = {}
    first: tuple[Path, Mapping[str, str]] | None = None
    created: list[str] = []
    states: dict[Path, str] = {}
    for path in paths:
        info = bundle_info(path)
        if SHARD not in info.provenance:
            raise UsageError(f"{path} is no shard: it was made without --shard")
        shard = Shard.parse(info.provenance[SHARD])
        if not info.complete:
            raise UsageError(f"{path} is incomplete: finish shard {shard} with --resume")
        if shard.index in found:
            raise UsageError(f"{path} and {found[shard.index][0]} are both shard {shard}")
        said = {k: v for k, v in info.provenance.items() if k not in (SHARD, _CREATED)}
        said["number of shards"] = str(shard.count)
        first = first or (path, said)
        _check_same_run(first, (path, said))
        created += [info.provenance[_CREATED]] if _CREATED in info.provenance else []
        states[path] = info.state
        found[shard.index] = path, shard
    if first is None:
        raise UsageError("no shards given")
    count = int(first[1]["number of shards"])
    absent = [str(i) for i in range(1, count + 1) if i not in found]
    if absent:
        raise UsageError(f"missing of {count} shards: {', '.join(absent)} (beside {first[0]})")
    provenance = {k: v for k, v in first[1].items() if k != "number of shards"}
    if created:
        provenance[_CREATED] = min(created)
    ordered = [found[i] for i in sorted(found)]
    paths = tuple(path for path, _ in ordered)
    counts = _sum({path: states[path] for path in paths})
    return Shards(paths, provenance, _count_chunks(ordered), counts)


@dataclass(frozen=True)
class Merged:
    """What a merged bundle holds, and what the run would have counted: see `Stage.counts`."""

    crystals: int
    rejects: int
    counts: Mapping[str, Any]


def merge(
    shards: Shards, output: Path, watch: Callable[[int], None] = lambda chunks: None
) -> Merged:
    """Write the bundle of the whole run.

    Args:
        shards: from `check_shards`.
        output: replaced at once if it exists.
        watch: told how many chunks are done, after each.

    Raises:
        PigenError: a shard is damaged, the output cannot be written, or names that occur twice
            were joined with values.
    """
    names, state = Names(), shards.state
    chunks = heapq.merge(*map(iter_shard, shards.paths), key=itemgetter(0))
    with BundleWriter(output, shards.provenance) as writer:
        for number, chunk in chunks:
            writer.append(_renamed(chunk, names, shards.provenance), counts_text(state))
            watch(number + 1)
    return Merged(writer.n_written, writer.n_rejected, state.get("counts", {}))


def _renamed(chunk: Bundle, names: Names, provenance: Mapping[str, str]) -> Bundle:
    """A chunk in which no entry has the name of one before; each shard has named its own."""
    if provenance.get("made_by") in _NAMED_BY_PARENT:
        parents = names.take_again(chunk.parents)
        added = (i[len(p) :] for i, p in zip(chunk.ids, chunk.parents, strict=True))
        ids = [parent + more for parent, more in zip(parents, added, strict=True)]
        chunk = replace(chunk, parents=strings(parents))
    else:
        ids = names.take_again(chunk.ids)
    refused = names.take_again(reject.id for reject in chunk.rejects)
    if "values" in provenance:
        _check_joined(chunk.ids, ids)
    rejects = (replace(one, id=i) for one, i in zip(chunk.rejects, refused, strict=True))
    return replace(chunk, ids=strings(ids), rejects=tuple(rejects))


def _check_joined(before: Iterable[str], after: Iterable[str]) -> None:
    """PigenError if crystals that `label --values` joined by name have another in one piece."""
    for old, new in zip(before, after, strict=True):
        if old != new:
            raise PigenError(
                f"the sources have two entries named {old!r}, which `label --values` joins "
                f"otherwise in parts than in one piece: label without --shard"
            )


def _sum(states: Mapping[Path, str]) -> dict[str, Any]:
    """What all shards have counted; each is JSON of numbers, of texts, and of objects of them."""
    total: dict[str, Any] = {}
    for path, state in states.items():
        try:
            total = _plus(total, parse_counts(state, path, {EVERY: None}))
        except (TypeError, AttributeError, RecursionError):  # one has texts, the other numbers
            raise PigenError(
                f"{path} is damaged: its counts are of other kinds than those before"
            ) from None
    return total


def _plus(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for key, value in other.items():
        if isinstance(value, dict):
            found[key] = _plus(found.get(key, {}), value)
        else:
            found[key] = found.get(key, 0) + value if isinstance(value, int) else value
    return found


# -- whether they belong together -----------------------------------------------------------------
def _check_same_run(
    one: tuple[Path, Mapping[str, str]], other: tuple[Path, Mapping[str, str]]
) -> None:
    for key in sorted(one[1].keys() | other[1].keys()):
        was, now = one[1].get(key), other[1].get(key)
        if was != now:
            raise UsageError(
                f"{other[0]} is of another run than {one[0]}: {key} is {now!r}, not {was!r}"
            )


def _count_chunks(shards: Sequence[tuple[Path, Shard]]) -> int:
    """How many chunks there are; UsageError if the shards do not agree about it."""
    numbers = [chunk_numbers(path) for path, _ in shards]
    n = max((own[-1] + 1 for own in numbers if own), default=0)
    for (path, shard), own in zip(shards, numbers, strict=True):
        if list(dict.fromkeys(own)) != list(range(shard.index - 1, n, shard.count)):
            raise UsageError(f"{path} ends before the others: its source held something else")
    return n
