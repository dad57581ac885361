"""The option --shard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pigen.runtime.errors import UsageError
from pigen.runtime.shard import Shard


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


def shard_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--shard`` with its help."""
    return click.option("--shard", type=ShardType(), help=text)


bundle_shard_option = shard_option(
    "Do part I of N, as one of a job array; it goes to OUTPUT.I-of-N.h5, for `pigen merge`."
)
"""``--shard`` of a verb that writes a bundle."""
