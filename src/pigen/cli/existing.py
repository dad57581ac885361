"""Paths that must exist, answered with the name that was perhaps meant."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import click


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
