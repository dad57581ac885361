"""The criteria that somebody asks for, in words or from Python."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from pigen.errors import UsageError
from pigen.filter import (
    Criterion,
    check_criteria,
    in_paper_order,
    known_compositions,
    paper_criteria,
    window_on,
)

Ends = tuple[float | None, float | None]


def criteria_of(
    windows: Mapping[str, Ends | None],
    folder: Path,
    executor: Executor,
    *,
    novel: bool = False,
    prototypes: str | None = None,
    top: int | None = None,
    spp_table: Path | None = None,
    known: Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Criterion, ...]:
    """The criteria asked for, in one order; the paper's, counted alone and in sequence, of none.

    Args:
        windows: descriptor or column → its ends, excluded; None where there is no criterion.
        folder: where lists and libraries made for the criteria are written.
        executor: where structures are read for these.
        novel: criterion B.
        prototypes, top: no framework of this library, as far as that rank.
        spp_table, known: files of A and B, if not those shipped.
        settings: further settings by descriptor.

    Raises:
        UsageError: a window that is none, an unknown setting, or a file that is not what it should
            be.
    """
    from pigen.prototypes.library import library_file

    given = [window_on(name, ends) for name, ends in windows.items() if ends is not None]
    chosen = {name: dict(some) for name, some in (settings or {}).items()}
    if novel:
        given.append(Criterion("novel"))
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
    criteria = in_paper_order(given) or paper_criteria()
    unused = chosen.keys() - {criterion.name for criterion in criteria}
    if unused:
        raise UsageError(f"settings for {', '.join(sorted(unused))}, which is no criterion here")
    criteria = tuple(replace(c, settings=chosen.get(c.name, {})) for c in criteria)
    check_criteria(criteria)
    return criteria
