"""What verbs around experiments share: the argument EXPERIMENT and the option --set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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
