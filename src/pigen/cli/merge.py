"""The verb merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pigen.cli.common import check_output, show_result
from pigen.cli.options import EXISTING, output_option, writing_options


@click.command()
@click.argument("shards", nargs=-1, required=True, type=EXISTING, metavar="SHARD...")
@output_option
@writing_options
def merge(shards: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Put the bundles of `--shard 1/N` to `--shard N/N` together.

    The result has the entries, values and order of the run in one piece. All shards must be there,
    complete, and of one run. Shards of `pigen csp-run` need no merging: each wrote its own searches
    into the one folder that `pigen csp-collect` reads.

    \b
    Example:
        pigen merge data.*-of-8.h5 -o data.h5
    """
    from pigen.bundle.merge import check_shards
    from pigen.bundle.merge import merge as merge_shards
    from pigen.runtime.progress import progress_bar

    check_output(output, shards, force=force)
    run = check_shards(shards)
    with progress_bar(run.n_chunks, "chunk") as bar:
        merged = merge_shards(run, output, lambda done: bar.update(done - bar.n))
    n = len(run.paths)
    said = f"{output}: {merged.crystals} crystals, {merged.rejects} rejects of {n} shards"
    counts = {"shards": n, **asdict(merged), "output": str(output)}
    show_result(as_json, counts, said, *_lines(merged.counts))


def _lines(counts: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    """What the run counted, such as the funnel of `pigen filter`."""
    for key, value in counts.items():
        if isinstance(value, dict):
            yield from [f"{indent}{key}"] * bool(value)
            yield from _lines(value, indent + "  ")
        elif isinstance(value, int):
            yield f"{indent}{value:7d}  {key}"
        else:
            yield f"{indent}{key}: {value}"
