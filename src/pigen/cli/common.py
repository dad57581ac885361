"""What the verbs that go through structures share: sources, outputs, progress, provenance."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from tqdm import tqdm

    from pigen.bundle import Bundle
    from pigen.io import Limits
    from pigen.io.source import Source
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard

CHUNK = 250
"""Structures in a task for a worker: about a second of work."""
FEW = 500
"""Starting workers takes seconds: not worth it for fewer structures."""


class Sources:
    """Opened sources, and the pool of processes they are worth.

    Attributes:
        total: entries, about, of a shard; None if only reading them all would tell.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        limits: Limits,
        *,
        chunk_size: int | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Open all; UsageError for one that is missing or of no known kind."""
        from pigen.io import open_source

        self._shard = shard

        self._limits, self._chunk_size = limits, chunk_size or CHUNK
        self._opened: list[Source] = [
            open_source(path, limits, chunk_size=self._chunk_size) for path in paths
        ]
        totals = [source.total for source in self._opened]
        self.total = None if None in totals else sum(t for t in totals if t is not None)
        if self.total is not None and shard is not None:
            self.total = shard.share(self.total)

    @contextmanager
    def executor(self, where: Where, *, few: int = FEW) -> Iterator[Executor]:
        """Open an executor, of one worker for at most ``few`` structures."""
        from pigen.runtime.executor import open_executor

        is_few = self.total is not None and self.total <= few
        with open_executor(where.for_few() if is_few else where) as executor:
            yield executor

    def chunks(self, executor: Executor) -> Iterator[Bundle]:
        """All entries, or those of the shard, in order, parsed in the executor."""
        from pigen.io import stream

        return stream(
            self._opened,
            chunk_size=self._chunk_size,
            executor=executor,
            limits=self._limits,
            shard=self._shard,
        )

    def bar(self, done: int = 0) -> tqdm[Any]:
        """A progress bar over the entries; silent where stderr is no terminal."""
        from tqdm import tqdm

        return tqdm(
            total=self.total,
            initial=done,
            unit="structure",
            delay=1.0,
            disable=not sys.stderr.isatty(),
        )


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
    from pigen.io.source import stem

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


def limits_said(limits: Limits) -> dict[str, str]:
    """What provenance says of the limits: they decide about what is read at all."""
    return {"limits": ", ".join(f"{key}={value}" for key, value in asdict(limits).items())}


def output_of(output: Path, shard: Shard | None) -> Path:
    """The file to write: that of the shard, if it is one."""
    return shard.output(output) if shard else output


def shard_of(shard: Shard | None) -> dict[str, str]:
    """What the provenance of a shard adds to that of the whole run."""
    from pigen.runtime.shard import SHARD

    return {SHARD: str(shard)} if shard else {}


def provenance_of(made_by: str, sources: Iterable[Path]) -> dict[str, str]:
    """What a bundle made from sources by a verb says of itself: version, time, files and hashes."""
    from datetime import datetime, timezone

    from pigen import __version__
    from pigen.runtime.files import sha256_of

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
    return provenance


def origin_of(sources: Sequence[Path]) -> dict[str, str]:
    """Provenance that depends on the sources alone, so equal input makes an equal file."""
    said = provenance_of("", sources)
    hashes = {source.name: said.get(f"sha256 of {source}") for source in sources}
    return {
        "sources": ", ".join(source.name for source in sources),
        **{f"sha256 of {name}": digest for name, digest in hashes.items() if digest},
    }
