"""What the verbs that go through structures share: outputs, settings, provenance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # heavy: imported when a verb runs
    from pigen.io import Limits
    from pigen.runtime.shard import Shard


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
