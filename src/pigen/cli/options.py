"""Options and arguments that many verbs have. --force and --json stand last in every help."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from pigen.config.files import MIB, Limits
from pigen.config.settings import RelaxConfig
from pigen.runtime.checked import Note
from pigen.runtime.errors import UsageError
from pigen.runtime.shard import Shard

if TYPE_CHECKING:  # imported when a verb runs
    from click.shell_completion import CompletionItem

    from pigen.runtime.executor import Where


_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class ShardType(click.ParamType[Shard]):
    """What `Shard.parse` reads."""

    name = "shard"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How the help shows it."""
        return "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Parse; BadParameter for what is no shard."""
        if isinstance(value, Shard):
            return value
        try:
            return Shard.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def shard_option(text: str) -> _Decorator:
    """Add ``--shard`` with its help."""
    return click.option("--shard", type=ShardType(), help=text)


bundle_shard_option = shard_option(
    "Do part I of N, as one of a job array; it goes to OUTPUT.I-of-N.h5, for `pigen merge`."
)
"""``--shard`` of a verb that writes a bundle."""


class ExecutorType(click.ParamType["Where"]):
    """What `pigen.runtime.executor.Where` reads."""

    name = "executor"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How the help shows it."""
        return "local[:N]|dask://HOST:PORT|slurm:FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Where:
        """Parse; BadParameter for what names no executor."""
        from pigen.runtime.executor import Where

        if isinstance(value, Where):
            return value
        try:
            return Where.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def executor_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--executor`` and ``--time-limit``, which a verb takes together as ``where``."""

    @wraps(command)
    def with_where(*args: Any, where: Where, time_limit: float | None, **options: Any) -> Any:
        return command(*args, where=replace(where, time_limit=time_limit), **options)

    for option in (
        click.option(
            "--time-limit",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="A structure that gives no result for so long is rejected; 60 by default, 300 in "
            "relaxations.",
        ),
        click.option(
            "--executor",
            "where",
            type=ExecutorType(),
            default="local",
            show_default=True,
            help="Where the work runs: N processes here (one per core by default), the workers of "
            "a Dask scheduler, or Slurm jobs; see docs/executors.md.",
        ),
    ):
        with_where = option(with_where)
    return with_where


def batch_executor_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--executor`` to a verb that works in this process without it: ``where`` may be None."""
    return click.option(
        "--executor",
        "where",
        type=ExecutorType(),
        help="Draw each batch (sample.batch_size) in a worker: of N processes here, of a Dask "
        "scheduler, or of Slurm jobs; see docs/executors.md. By default all are drawn in this "
        "process.",
    )(command)


class ExistingPath(click.Path):
    """A file or folder that is there; the error for one that is not names the nearest."""

    def __init__(self) -> None:
        """Of any kind; converted to a `pathlib.Path`."""
        super().__init__(exists=True, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path; BadParameter if it isn't there or can't be read."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            message = error.message.rstrip(".") + _meant(Path(value))
            raise click.BadParameter(message, ctx, param) from None


def _meant(path: Path) -> str:
    """The neighbour of a missing path whose name is most like its own, as the end of a message."""
    if path.exists() or not path.parent.is_dir():
        return ""
    names = [neighbour.name for neighbour in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


EXISTING = ExistingPath()
"""The type of an argument or option that names what is read."""


sources_argument = click.argument(
    "sources", nargs=-1, required=True, type=EXISTING, metavar="SRC..."
)


def output_as(text: str, *, required: bool = True) -> _Decorator:
    """Add ``--out``, taken as ``output``, with its help."""
    kind = click.Path(path_type=Path)
    return click.option("-o", "--out", "output", required=required, type=kind, help=text)


output_option = output_as("Bundle file.")


def folder_as(text: str) -> _Decorator:
    """Add ``--out``, a folder taken as ``out``, with its help."""
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option("-o", "--out", type=kind, help=text)


resume_option = click.option(
    "--resume", is_flag=True, help="Go on where an earlier run was stopped."
)


def stage_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--resume`` and ``--shard``, of a verb that takes a stream through a stage."""
    return resume_option(bundle_shard_option(command))


force_option = click.option("--force", is_flag=True, help="Replace an existing output.")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")


def writing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--force`` and ``--json``, with which the help of a verb that writes ends."""
    return force_option(json_option(command))


def setting_options(
    cls: type[Any], *names: str, into: str = "", flags: Mapping[str, str] | None = None
) -> _Decorator:
    """Options of a settings dataclass: types, bounds, defaults and help are those of its fields.

    Args:
        cls: the dataclass; its fields are made with `setting`.
        names: of the fields, in the order of the help. A field that ends in ``_bytes`` becomes a
            flag in MiB.
        into: the argument in which the verb takes the settings, as one instance of ``cls``;
            without it the verb takes a value for each field.
        flags: field → flag, where it is not the field's name.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_settings(*args: Any, **options: Any) -> Any:
            values = {name: options.pop(name) for name in names}
            sizes = {name: MIB * values[name] for name in names if name.endswith("_bytes")}
            return command(*args, **{into: cls(**values | sizes)}, **options)

        verb = with_settings if into else command
        for name in reversed(names):
            verb = _setting_option(cls, name, (flags or {}).get(name))(verb)
        return verb

    return add


def _setting_option(cls: type[Any], name: str, flag: str | None) -> _Decorator:
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    note: Note = field.metadata["note"]
    kind = get_type_hints(cls)[name]
    text = f"{note.doc[:-1]}, {note.unit}." if note.unit else note.doc
    default: Any = field.default
    flag = flag or f"--{name.replace('_bytes', '_mib').replace('_', '-')}"
    if name.endswith("_bytes"):
        default //= MIB
    if kind is bool:
        # What is on by default has a flag that turns it off, and the other way round.
        both = f"{flag}/--no-{flag.removeprefix('--')}" if default else flag
        return click.option(both, name, is_flag=True, default=default, help=text)
    accepted: click.ParamType[Any]
    if note.choices:
        accepted = click.Choice(note.choices)
    elif kind is str:
        accepted = click.STRING
    elif kind is float:
        least = note.lo if note.above is None else note.above
        accepted = click.FloatRange(least, note.hi, min_open=note.above is not None)
    else:
        low, high = (None if end is None else int(end) for end in (note.lo, note.hi))
        accepted = click.IntRange(low, high)
    shown = default not in (None, "")
    return click.option(flag, name, type=accepted, default=default, show_default=shown, help=text)


LIMITS = ("max_atoms", "max_entry_bytes", "max_file_bytes", "max_entries")
"""Settings that say what is too large to read."""

limit_options = setting_options(Limits, *LIMITS, into="limits")
"""The options that raise what is too large to read; a verb takes them as ``limits``."""


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a verb that reads structures: it takes ``where`` and ``limits``."""
    return executor_option(limit_options(command))


def relaxation_options(*names: str) -> _Decorator:
    """Add ``--model`` and ``--device``, and others of `RelaxConfig`; all are ``settings``."""
    flags = {"potential": "--model"}
    return setting_options(RelaxConfig, *names, "potential", "device", into="settings", flags=flags)


def descriptor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a verb that evaluates descriptors on a stream into a bundle."""
    for option in (
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="DESCRIPTOR.SETTING=VALUE",
            help="A setting of a descriptor, e.g. k.symprec=0.05 or mled.axis=corrected.",
        ),
        click.option(
            "--descriptors",
            "own",
            multiple=True,
            type=EXISTING,
            help="A Python file that registers descriptors of your own; it is run. Repeatable.",
        ),
        executor_option,
    ):
        command = option(command)
    return limit_options(command)


class ExperimentType(click.ParamType[str]):
    """A TOML file, or the name of a shipped experiment; what it holds is checked by the verb."""

    name = "experiment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shipped names that begin so, else files."""
        from click.shell_completion import CompletionItem

        from pigen.runtime import resources

        names = sorted(path.stem for path in resources.EXPERIMENTS.glob("*.toml"))
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument EXPERIMENT, taken as ``experiment``, and ``--set``, as ``overrides``."""
    for add in (
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Replace a setting, e.g. sample.n=200 or sample.targets.c=0.7. Repeatable.",
        ),
        click.argument("experiment", metavar="EXPERIMENT", type=ExperimentType()),
    ):
        command = add(command)
    return command
