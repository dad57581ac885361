"""Shards of one run, put together into the bundle that the run in one piece would have written.

Each shard's bundle says which chunks of the whole run it holds (`bundle.marks`). Merging
takes the chunks in the order of the run, gives every entry the name it has in the whole stream,
and appends them as the run would have done: so the file is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pigen.bundle import Bundle, BundleWriter, Reject, bundle_info, strings
from pigen.bundle.counts import EVERY, counts_text, parse_counts
from pigen.bundle.marks import Written
from pigen.bundle.names import Names
from pigen.bundle.reading import chunks_of_shard, read_marked
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
    """

    paths: tuple[Path, ...]
    provenance: Mapping[str, str]
    n_chunks: int


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
    return Shards(tuple(path for path, _ in ordered), provenance, _count_chunks(ordered))


@dataclass(frozen=True)
class Merged:
    """What a merged bundle holds, and what the run would have counted: see `Funnel.state`."""

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
    names = Names()
    by_parent = shards.provenance.get("made_by") in _NAMED_BY_PARENT
    counts: dict[str, Any] = {}
    state = ""
    cursors = [_Cursor(path) for path in shards.paths]
    with BundleWriter(output, shards.provenance) as writer:
        for number in range(shards.n_chunks):
            cursor = cursors[number % len(cursors)]
            parts = cursor.take(number)
            try:
                renamed = _renamed(parts, names, by_parent)
            except KeyError as error:
                raise PigenError(
                    f"{cursor.path} is damaged: chunk {number} has no entry {error}"
                ) from error
            if "values" in shards.provenance:
                _check_joined(parts, renamed)
            for (written, _), part in zip(parts, renamed, strict=True):
                if written.state:
                    counts = cursor.counted(written.state, counts)
                    state = counts_text(counts)
                writer.append(part, state)
            watch(number + 1)
    return Merged(writer.n_written, writer.n_rejected, counts)


class _Cursor:
    """Goes through the chunks of one shard, the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._n, _ = chunks_of_shard(path)
        self._place = self._row = self._reject = 0
        self._next: tuple[Written, Bundle] | None = None
        self._counts: dict[str, Any] = {}

    def counted(self, state: str, before: dict[str, Any]) -> dict[str, Any]:
        """Counts with what this shard has counted since it was asked the last time."""
        own, self._counts = self._counts, parse_counts(state, self.path, {EVERY: None})
        try:
            return _plus(before, _minus(self._counts, own))
        except (TypeError, AttributeError, RecursionError):  # one has texts, the other numbers
            raise PigenError(
                f"{self.path} is damaged: its counts are of other kinds than those before"
            ) from None

    def take(self, number: int) -> list[tuple[Written, Bundle]]:
        """The parts of the chunk with this number, which is the next of this shard."""
        parts: list[tuple[Written, Bundle]] = []
        while self._place < self._n:
            written, chunk = self._next or read_marked(
                self.path, self._place, self._row, self._reject
            )
            if parts and written.mark.number != number:
                self._next = written, chunk
                break
            if written.mark.number != number:
                raise PigenError(f"{self.path} is damaged: chunk {number} is not where it belongs")
            self._next = None
            self._place += 1
            self._row += len(chunk)
            self._reject += len(chunk.rejects)
            parts.append((written, chunk))
        return parts


def _renamed(
    parts: list[tuple[Written, Bundle]], names: Names, named_by_parent: bool
) -> list[Bundle]:
    """Parts of one chunk with the names that their entries have in the whole stream.

    The reader names all crystals of what it parsed together, then its rejects.
    """
    marks = [written.mark for written, _ in parts]
    local = [name for mark in marks for name in mark.crystals]
    local += [name for mark in marks for name in mark.rejects]
    renamed = {name: was for mark in marks for name, was in mark.renamed.items()}
    name_of = dict(zip(local, names.take(renamed.get(n, n) for n in local), strict=True))
    if all(name == old for old, name in name_of.items()):
        return [part for _, part in parts]
    return [_with_names(part, name_of, named_by_parent) for _, part in parts]


def _with_names(chunk: Bundle, name_of: Mapping[str, str], named_by_parent: bool) -> Bundle:
    rejects = tuple(Reject(name_of[r.id], r.reason) for r in chunk.rejects)
    if not named_by_parent:
        return replace(chunk, ids=strings(name_of[i] for i in chunk.ids), rejects=rejects)
    parents = [name_of[p] for p in chunk.parents]
    added = [i[len(p) :] for i, p in zip(chunk.ids, chunk.parents, strict=True)]
    ids = strings(p + more for p, more in zip(parents, added, strict=True))
    return replace(chunk, ids=ids, parents=strings(parents), rejects=rejects)


def _check_joined(parts: list[tuple[Written, Bundle]], renamed: list[Bundle]) -> None:
    """PigenError if crystals that `label --values` joined by name have another in one piece."""
    for (_, before), after in zip(parts, renamed, strict=True):
        for old, new in zip(before.ids, after.ids, strict=True):
            if old != new:
                raise PigenError(
                    f"the sources have two entries named {old!r}, which `label --values` joins "
                    f"otherwise in parts than in one piece: label without --shard"
                )


# -- what stages count: JSON of numbers, of texts, and of objects of them ------------------------
def _plus(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(one)
    for key, value in other.items():
        if isinstance(value, dict):
            found[key] = _plus(found.get(key, {}), value)
        else:
            found[key] = found.get(key, 0) + value if isinstance(value, int) else value
    return found


def _minus(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in one.items():
        if isinstance(value, dict):
            found[key] = _minus(value, other.get(key, {}))
        else:
            found[key] = value - other.get(key, 0) if isinstance(value, int) else value
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
    last = [chunks_of_shard(path)[1] for path, _ in shards]
    n = max((mark.number + 1 for mark in last if mark is not None), default=0)
    for (path, shard), mark in zip(shards, last, strict=True):
        own = range(shard.index - 1, n, shard.count)
        if (mark.number if mark else None) != (own[-1] if own else None):
            raise UsageError(f"{path} ends before the others: its source held something else")
    return n
