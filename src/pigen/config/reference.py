"""The reference page of experiments, written from the dataclasses.

``python -m pigen.config.reference > docs/experiments.md`` (``make docs``) renews the page.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from pigen.config.dump import format_value
from pigen.config.load import shipped_experiments
from pigen.config.settings import Experiment
from pigen.runtime.checked import Note, describe

_HEAD = """# Experiments

<!-- Written by `make docs` from the dataclasses in src/pigen/config/settings.py. -->

An experiment is one TOML file. `pigen run FILE` takes a path or the name of a shipped experiment:
{shipped}.

- Only `name` is required; everything else has the default shown here.
- An unknown key, a wrong type, a value out of bounds, a window with lo > hi or a missing file stops
  the command before any work (exit code 2), naming the key and the nearest right one.
- Paths are relative to the TOML file.
- `--set table.key=value` replaces a value for one run, e.g. `--set sample.n=200`,
  `--set sample.targets.c=0.7`, `--set 'filter.c=[0.5, 0.9]'`; paths given so are relative to the
  working folder.
- The run folder keeps the resolved experiment, `experiment.toml`, which loads back to the same
  settings.
"""


def reference_page() -> str:
    """The whole page as Markdown."""
    shipped = ", ".join(f"`{name}`" for name in shipped_experiments())
    return _HEAD.format(shipped=shipped) + "\n".join(_table(Experiment, "")) + "\n"


def _table(cls: type[Any], key: str) -> Iterator[str]:
    types_of = typing.get_type_hints(cls)
    yield f"\n## {f'[{key}]' if key else 'Top level'}\n\n{(cls.__doc__ or '').strip()}\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    tables = []
    for field in dataclasses.fields(cls):
        note: Note | None = field.metadata.get("note")
        if note is None:
            tables.append(field.name)
            continue
        unit = f" Unit: {note.unit}." if note.unit else ""
        yield (
            f"| `{field.name}` | {describe(types_of[field.name], note)}{_bounds(note)} "
            f"| {_default(field)} | {note.doc}{unit} |"
        )
    for name in tables:
        yield from _table(types_of[name], f"{key}.{name}" if key else name)


def _bounds(note: Note) -> str:
    limits = [("> ", note.above), ("≥ ", note.lo), ("≤ ", note.hi)]
    given = [f"{sign}{limit:g}" for sign, limit in limits if limit is not None]
    return f", {', '.join(given)}" if given else ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{format_value(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{format_value(field.default_factory())}`"
    return "required"


if __name__ == "__main__":
    print(reference_page(), end="")
