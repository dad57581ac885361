"""The options --executor and --time-limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.runtime.executor import Where


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
