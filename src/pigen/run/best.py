"""The best structures of a bundle: ranked, without duplicates and known compounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from pigen.bundle import Bundle, divide, iter_bundle
from pigen.bundle.stage import CHUNK
from pigen.descriptors import descriptor_names
from pigen.descriptors.novelty import read_formulas
from pigen.energy.hull import load_reference
from pigen.io import read_chunks
from pigen.screening.criteria import lists_formulas
from pigen.screening.label import LabelStage
from pigen.screening.rank import FACTS, Key, Ranked, rank, with_facts

PREFERRED = ("p_hull_050", "e_hull", "mled")
"""What structures are ranked by: the first of these that is a column; the last can be computed."""


def best_of(
    bundle: Bundle,
    n: int,
    executor: Executor,
    *,
    by: Sequence[str] = (),
    per_system: int | None = None,
    known: Path | None = None,
    keep_known: bool = False,
    watch: Callable[[int], object] = lambda n: None,
) -> Ranked:
    """The first n of a ranking, with space group, volume and density.

    Args:
        bundle: structures; columns to rank by that descriptors make are computed if they lack.
        n: how many; fewer if there are no more.
        executor: where structures are labelled and compared.
        by: columns, as `Key.parse` takes them, the first decides; `PREFERRED` without any.
        per_system: most of one chemical system.
        known: formulas (.txt) or structures of known compounds; None for those of the shipped hull.
        keep_known: keep known compounds.
        watch: is told of structures as they are labelled.

    Raises:
        UsageError: no such column or descriptor, or a file of known compounds that is none.
    """
    there = next((name for name in PREFERRED if name in bundle.columns), PREFERRED[-1])
    keys = [Key.parse(text) for text in by or (there,)]
    if any(key.column in FACTS for key in keys):
        bundle = with_facts(bundle)
    lacking = {key.column for key in keys} - bundle.columns.keys()
    bundle = _labelled(bundle, sorted(lacking & set(descriptor_names())), executor, watch)
    formulas, structures = (frozenset[str](), ()) if keep_known else _known(known, executor)
    found = rank(
        bundle,
        n,
        keys,
        executor,
        known_formulas=formulas,
        known=structures,
        per_system=per_system,
    )
    best = _labelled(with_facts(found.bundle), ["space_group"], executor)
    return Ranked(best, found.keys, found.left_out)


def _labelled(
    bundle: Bundle,
    names: Sequence[str],
    executor: Executor,
    watch: Callable[[int], object] = lambda n: None,
) -> Bundle:
    if not names or not len(bundle):
        return bundle
    parts = []
    for part in LabelStage(names).over(divide(bundle, CHUNK), executor):
        parts.append(part)
        watch(len(part))
    return Bundle.concatenate(parts)


def _known(path: Path | None, executor: Executor) -> tuple[frozenset[str], Iterable[Bundle]]:
    """Formulas and structures of known compounds."""
    if path is None:
        reference = load_reference()
        formulas = frozenset(entry.formula for entry in reference.entries)
        return formulas, _Stored(reference.phases) if reference.phases else ()
    if lists_formulas(path):
        return read_formulas(path), ()
    chunks = list(read_chunks([str(path)], executor=executor))
    return frozenset(f for c in chunks for f in c.crystals.reduced_formulas()), chunks


class _Stored:
    """The chunks of a bundle file, as often as somebody asks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Bundle]:
        return iter_bundle(self._path)
