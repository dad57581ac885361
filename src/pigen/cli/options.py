"""Options and arguments that many verbs have, in the order they stand in: --json comes last."""

from __future__ import annotations

from pathlib import Path

import click

from pigen.cli.existing import EXISTING

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
