"""The reference page of the command line, written from the commands themselves.

``python -m pigen.cli.reference > docs/cli.md`` (``make docs``) renews the page.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from pigen.cli import main

_HEAD = """# Command line

<!-- Written by `make docs` from the commands in src/pigen/cli. -->

Exit codes: 0 done; 1 the work failed; 2 the request was wrong, found before any work; 130 stopped
by Ctrl-C or SIGTERM. An error is one line on stderr. Results go to stdout, progress to stderr.
Every command has `-h, --help`.
"""


def reference_page() -> str:
    """The whole page as Markdown: every verb and subcommand, in the order of ``pigen --help``."""
    context = click.Context(main, info_name="pigen", **main.context_settings)
    sections = [_HEAD, "\n".join(_section(main, context, 2))]
    return "\n".join(sections) + "\n"


def _section(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{context.command_path}`\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```\n{usage}\n```\n"
    yield from _text(command.help or "")
    for option in command.params:
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record:
            yield f"- `{record[0]}`: {record[1]}"
    yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                below = click.Context(inner, info_name=name, parent=context)
                yield from _section(inner, below, level if command is main else level + 1)


def _text(text: str) -> Iterator[str]:
    """Paragraphs of a help text; what click keeps as it is (after a backspace) becomes code."""
    for paragraph in inspect.cleandoc(text).split("\f")[0].split("\n\n"):
        if not paragraph.startswith("\b"):
            yield " ".join(paragraph.split()) + "\n"
            continue
        head, _, body = paragraph.removeprefix("\b").strip("\n").partition("\n")
        if not head.startswith(" ") and body.startswith(" "):
            yield head + "\n"
        else:
            body = f"{head}\n{body}"
        yield f"```\n{textwrap.dedent(body).rstrip()}\n```\n"


if __name__ == "__main__":
    print(reference_page(), end="")
