"""Options and arguments that many verbs have. --force and --json stand last in every help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.executor import executor_option
from pigen.cli.existing import EXISTING

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.io import Limits

MIB = 2**20

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


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that raise what is too large to read; `limits_of` takes their values."""
    for name, default, text in (
        ("--max-entries", 10_000_000, "Most entries in all sources together."),
        ("--max-file-mib", 64, "Largest file that is read whole (CIF, POSCAR, JSON)."),
        ("--max-entry-mib", 16, "Largest text of one structure in a table or an archive."),
        ("--max-atoms", 200, "Most atoms in a cell."),
    ):
        option = click.option(
            name,
            type=click.IntRange(min=1),
            metavar="N",
            default=default,
            show_default=True,
            help=text,
        )
        command = option(command)
    return command


def limits_of(max_atoms: int, max_entry_mib: int, max_file_mib: int, max_entries: int) -> Limits:
    """Limits from the values of `limit_options`."""
    from pigen.io import Limits

    return Limits(max_atoms, max_entry_mib * MIB, max_file_mib * MIB, max_entries)


def potential_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--model`` and ``--device``, of the potential that energies come from."""
    for option in (
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where CHGNet computes.",
        ),
        click.option(
            "--model",
            default="chgnet",
            show_default=True,
            metavar="chgnet|MODULE:CALLABLE",
            help="Potential: CHGNet, or what returns an ASE calculator.",
        ),
    ):
        command = option(command)
    return command


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
