"""What verbs share: outputs, settings, provenance, and how results are printed."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.config import RelaxConfig
    from pigen.io import Limits
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard

_GAP = "  "
_TIE = "\N{NO-BREAK SPACE}"
_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"^\|[-:| ]+\|$")


def settings_of(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by descriptor from ``descriptor.setting=value`` texts, typed as their defaults.

    Raises:
        UsageError: an assignment that is none, of an unknown setting, or of a wrong type.
    """
    from pigen.descriptors import resolve_settings

    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        name, dot, key = target.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {assignment}: expected DESCRIPTOR.SETTING=VALUE")
        resolve_settings(name, {key: text})  # refuses what the descriptor does not have
        default: Any = resolve_settings(name, {})[key]
        try:
            value = Path(text) if isinstance(default, Path) else type(default)(text)
        except ValueError:
            expected = type(default).__name__
            raise UsageError(f"--set {assignment}: expected a {expected}") from None
        settings.setdefault(name, {})[key] = value
    return settings


def stem_of(source: Path) -> str:
    """Name of a source without its suffix, from which the names of outputs are made."""
    from pigen.io.files import stem

    return stem(source) if source.is_file() else source.resolve().name


def check_output(
    output: Path, sources: Sequence[Path], *, force: bool, resume: bool | None = None
) -> None:
    """UsageError unless a file may be written there, or gone on with.

    ``resume`` is None where a verb has no such option.
    """
    from pigen.runtime.files import check_writable

    if force and resume:
        raise UsageError(f"--resume goes on with {output} and --force replaces it; give one")
    if output.exists() and any(output.samefile(source) for source in sources):
        raise UsageError(f"{output} is a source too; write to another file")
    if output.is_dir():
        raise UsageError(f"{output} is a folder")
    if output.exists() and not (force or resume):
        goes_on = "" if resume is None else "--resume goes on with it, "
        raise UsageError(f"{output} exists; {goes_on}--force replaces it")
    if not output.parent.is_dir():
        raise UsageError(f"no such folder: {output.parent}; make it first")
    check_writable(output.parent)


def resolved(settings: RelaxConfig, where: Where) -> tuple[RelaxConfig, Where]:
    """The settings with the device that is there, and one worker where that is a GPU."""
    from pigen.runtime.device import resolve_device

    device = resolve_device(settings.device).type
    return replace(settings, device=device), where.for_few() if device == "cuda" else where


def output_of(output: Path, shard: Shard | None) -> Path:
    """The file to write: that of the shard, if it is one."""
    return shard.output(output) if shard else output


def provenance_of(
    made_by: str,
    sources: Iterable[Path],
    *,
    limits: Limits | None = None,
    shard: Shard | None = None,
) -> dict[str, str]:
    """What a bundle made from sources by a verb says of itself.

    That is version, time, files and hashes, and, if given, the limits, which decide about what is
    read at all, and the shard.
    """
    from datetime import datetime, timezone

    from pigen import __version__
    from pigen.runtime.files import sha256_of
    from pigen.runtime.shard import SHARD

    listed = list(sources)
    provenance = {
        "made_by": made_by,
        "pigen_version": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sources": "\n".join(str(source) for source in listed),
    }
    for source in listed[:100]:  # a folder is named, not hashed
        if source.is_file():
            provenance[f"sha256 of {source}"] = sha256_of(source, 64)
    if limits is not None:
        provenance["limits"] = ", ".join(f"{k}={value}" for k, value in asdict(limits).items())
    return provenance | ({SHARD: str(shard)} if shard else {})


def origin_of(sources: Sequence[Path]) -> dict[str, str]:
    """Provenance that depends on the sources alone, so equal input makes an equal file."""
    said = provenance_of("", sources)
    hashes = {source.name: said.get(f"sha256 of {source}") for source in sources}
    return {
        "sources": ", ".join(source.name for source in sources),
        **{f"sha256 of {name}": digest for name, digest in hashes.items() if digest},
    }


def show_result(as_json: bool, counts: Mapping[str, Any], *lines: str) -> None:
    """Print what a verb did: counts as JSON for a script, or lines for a person."""
    click.echo(json.dumps(counts, ensure_ascii=False) if as_json else "\n".join(lines))


def readable(markdown: str) -> str:
    """Markdown as it is for a file or a pipe, or laid out for the terminal that shows it."""
    if sys.stdout.isatty():
        markdown = for_terminal(markdown, shutil.get_terminal_size().columns)
    return markdown.removesuffix("\n")


def say(line: str) -> None:
    """Tell a person how the work goes."""
    click.echo(line, err=True)


def heading(text: str) -> str:
    """A line above a table; click leaves the colours out where stdout is no terminal."""
    return click.style(text, bold=True)


def count_lines(counts: Mapping[str, int]) -> Iterator[str]:
    """A line for each reason, the most frequent first."""
    return (f"  {n:7d}  {reason}" for reason, n in Counter(counts).most_common())


def for_terminal(text: str, width: int) -> str:
    """Headings in bold, prose wrapped, and tables in columns whose cells are wrapped to fit.

    No line is longer than ``width``, unless a table has more columns than fit.
    """
    lines: list[str] = []
    for is_table, block in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [_cells(line) for line in block if not _RULE.match(line)]
            lines += _table(rows, width)
        else:
            for line in block:
                lines += _prose(line, width)
    return "\n".join(lines) + "\n"


def _prose(line: str, width: int) -> list[str]:
    if line.startswith("#"):
        return [heading(part) for part in textwrap.wrap(line.lstrip("# "), width)]
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _cells(line: str) -> list[str]:
    cells = _CELLS.split(line.strip())[1:-1]
    return [cell.strip().replace("\\|", "|").replace(" %", f"{_TIE}%") for cell in cells]


def _table(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    widths = _widths(rows, width - len(_GAP) * (len(rows[0]) - 1))
    for i, row in enumerate(rows):
        cells = [textwrap.wrap(cell, w) or [""] for cell, w in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = (f"{part:<{w}}" for part, w in zip(parts, widths, strict=True))
            line = _GAP.join(padded).rstrip().replace(_TIE, " ")
            yield heading(line) if i == 0 else line
        if i == 0:
            yield click.style("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), dim=True)


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths of the columns; where they do not fit, those give way whose cells mostly are short."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [max(len(word) for cell in column for word in cell.split(" ")) for column in columns]
    while sum(widths) > room:
        can = [i for i, width in enumerate(widths) if width > least[i]]
        if not can:
            break
        wrapped = {i: sum(len(cell) >= widths[i] for cell in columns[i]) for i in can}
        widths[min(can, key=lambda i: (wrapped[i], -widths[i]))] -= 1
    return widths
