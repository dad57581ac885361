"""An experiment to begin with: every setting explained, what a first run needs set."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from pigen.config.dump import format_value
from pigen.config.settings import Experiment
from pigen.runtime.checked import Note

_HEAD = """\
An experiment of PIGEN. Run it with `pigen run THIS_FILE`.

Lines like "#key = value" are settings left at their defaults: remove the # to change one. Any of \
them can also be changed for one run, e.g. `pigen run THIS_FILE --set sample.n=1000`.
Paths are relative to this file."""

_SHOWN_CHOICES = 6  # not all elements

_FIRST: dict[str, Any] = {
    "sample.checkpoint": "pigen",
    "sample.n": 100,
    "sample.targets": {"mled": 9.0, "c": 0.7},
}
"""What differs from the defaults: samples of the shipped model, guided as in the paper."""

_PARTS = (
    ("", ("sample", "filter", "energy")),
    (
        'To train a model of your own, set sample.checkpoint = "" above and data.train below, to '
        "what `pigen label` made of your structures.",
        ("data", "model", "diffusion", "loss", "train"),
    ),
    (
        "Other generators in place of the model: see `generator` above.",
        ("pseudo_random", "substitution", "imported"),
    ),
)
"""The tables in the order in which a newcomer meets them, each part with its heading."""


def starter(name: str) -> str:
    """TOML of an experiment of that name, which loads and runs as it is."""
    lines = [*_comment(_HEAD), "", *_settings(Experiment, "", {"name": name, **_FIRST})]
    types_of = typing.get_type_hints(Experiment)
    for heading, tables in _PARTS:
        if heading:
            lines += ["", "", *_comment(heading)]
        for table in tables:
            cls = types_of[table]
            lines += ["", *_comment((cls.__doc__ or "").strip()), f"[{table}]"]
            lines += _settings(cls, f"{table}.", _FIRST)
    return "\n".join(lines) + "\n"


def _settings(cls: type[Any], table: str, given: dict[str, Any]) -> Iterator[str]:
    for field in dataclasses.fields(cls):
        note: Note | None = field.metadata.get("note")
        if note is None:  # a table
            continue
        yield from _comment(_meaning(note))
        if table + field.name in given:
            yield f"{field.name} = {format_value(given[table + field.name])}"
        elif (default := _default(field)) is None:  # TOML has no null
            yield f"#{field.name} ="
        else:
            yield f"#{field.name} = {format_value(default)}"


def _meaning(note: Note) -> str:
    text = note.doc + (f" Unit: {note.unit}." if note.unit else "")
    if 0 < len(note.choices) <= _SHOWN_CHOICES:
        text += f" Choices: {', '.join(map(format_value, note.choices))}."
    return text


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _comment(text: str) -> list[str]:
    paragraphs = text.split("\n")
    wrapped = (textwrap.wrap(p, 78, break_on_hyphens=False) or [""] for p in paragraphs)
    return [f"# {line}".rstrip() for lines in wrapped for line in lines]
