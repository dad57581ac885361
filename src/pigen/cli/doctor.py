"""The verb doctor."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # imported when the verb runs
    from pigen.cli.checks import Check

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}
_INDENT = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: packages, package data, device, memory, and whether it works.

    Each line is ok, warn (slow, or something is missing) or fail (something cannot work), with what
    to do. A crystal is labelled and the models are loaded, which takes a few seconds. Exit code 1
    if a check fails.

    \b
    Examples:
        pigen doctor
        pigen doctor --json > doctor.json
    """
    from pigen.cli.checks import FAIL, examine
    from pigen.cli.checks import as_json as to_json

    checks = []
    for check in examine(Path.cwd()):
        checks.append(check)
        if not as_json:
            click.echo("\n".join(_lines(check)))
    if as_json:
        click.echo(to_json(checks))
    failed = sum(check.status == FAIL for check in checks)
    if failed and not as_json:
        click.echo(f"{failed} of {len(checks)} checks failed")
    if failed:
        ctx.exit(1)


def _lines(check: Check) -> Iterator[str]:
    from shutil import get_terminal_size

    width = max(60, min(100, get_terminal_size().columns)) - _INDENT
    status = click.style(f"{check.status:<4}", fg=_COLORS[check.status], bold=check.status != "ok")
    found = textwrap.wrap(check.found, width, break_on_hyphens=False) or [""]
    remedy = textwrap.wrap(f"→ {check.remedy}", width) if check.remedy else []
    yield f"{status}  {check.name:<{_INDENT - 6}}{found[0]}"
    for line in (*found[1:], *remedy):
        yield " " * _INDENT + line
