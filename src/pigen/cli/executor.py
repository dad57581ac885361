"""The option --executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pigen.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.executor import Where


class ExecutorType(click.ParamType["Where"]):
    """What `pigen.executor.Where` reads."""

    name = "executor"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How the help shows it."""
        return "local[:N]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Where:
        """Parse; BadParameter for what names no executor."""
        from pigen.executor import Where

        if isinstance(value, Where):
            return value
        try:
            return Where.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def executor_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--executor``, which a verb takes as ``where``."""
    return click.option(
        "--executor",
        "where",
        type=ExecutorType(),
        default="local",
        show_default=True,
        help="Where the work runs: N processes here, one per core by default.",
    )(command)
