"""Options and arguments that many verbs have. --force and --json stand last in every help."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from pigen.cli.executor import executor_option
from pigen.cli.existing import EXISTING
from pigen.config.files import MIB, Limits
from pigen.config.settings import RelaxConfig
from pigen.runtime.checked import Note

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

sources_argument = click.argument(
    "sources", nargs=-1, required=True, type=EXISTING, metavar="SRC..."
)

output_option = click.option(
    "-o", "--out", "output", required=True, type=click.Path(path_type=Path), help="Bundle file."
)

resume_option = click.option(
    "--resume", is_flag=True, help="Go on where an earlier run was stopped."
)

force_option = click.option("--force", is_flag=True, help="Replace an existing output.")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")


def setting_options(
    cls: type[Any], *names: str, flags: Mapping[str, str] | None = None
) -> Callable[[_Verb], _Verb]:
    """Options of a settings dataclass: types, bounds, defaults and help are those of its fields.

    Args:
        cls: the dataclass; its fields are made with `setting`.
        names: of the fields, in the order of the help.
        flags: field → flag, where it is not the field's name. A field that ends in ``_bytes``
            becomes a flag and a value in MiB, which `limits_of` takes.
    """

    def add(command: _Verb) -> _Verb:
        for name in reversed(names):
            command = _setting_option(cls, name, (flags or {}).get(name))(command)
        return command

    return add


def _setting_option(cls: type[Any], name: str, flag: str | None) -> Callable[[_Verb], _Verb]:
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    note: Note = field.metadata["note"]
    kind = get_type_hints(cls)[name]
    text = f"{note.doc[:-1]}, {note.unit}." if note.unit else note.doc
    default: Any = field.default
    if name.endswith("_bytes"):
        name, default = f"{name.removesuffix('_bytes')}_mib", default // MIB
    flag = flag or f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.option(flag, name, is_flag=True, help=text)
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


limit_options = setting_options(
    Limits, "max_atoms", "max_entry_bytes", "max_file_bytes", "max_entries"
)
"""The options that raise what is too large to read; `limits_of` takes their values."""


def limits_of(**values: Any) -> Limits:
    """Limits from the values of `limit_options`."""
    in_bytes = {
        f"{name.removesuffix('_mib')}_bytes": MIB * values.pop(name)
        for name in list(values)
        if name.endswith("_mib")
    }
    return Limits(**values, **in_bytes)


potential_options = setting_options(
    RelaxConfig, "potential", "device", flags={"potential": "--model"}
)
"""The options ``--model`` and ``--device``, of the potential that energies come from."""


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
