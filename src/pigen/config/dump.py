"""An `Experiment` as TOML text, every setting resolved and explained; loads back equal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pigen.config.settings import Experiment
from pigen.runtime.checked import Note


def dump_experiment(experiment: Experiment) -> str:
    """The experiment as TOML: a table per part, a comment with meaning and unit per setting."""
    return "\n".join(_table(experiment, "")) + "\n"


def _table(settings: Any, key: str) -> Iterator[str]:
    fields = [(f, getattr(settings, f.name)) for f in dataclasses.fields(settings)]
    if key:
        said = (type(settings).__doc__ or "").strip().splitlines()
        yield "\n".join(["", *(f"# {line.strip()}".rstrip() for line in said), f"[{key}]"])
    for field, value in fields:
        note: Note | None = field.metadata.get("note")
        if note is not None and value is not None:  # TOML has no null: None is left out
            unit = f" ({note.unit})" if note.unit else ""
            yield f"{field.name} = {format_value(value)}  # {note.doc}{unit}"
    for field, value in fields:  # TOML wants a table's own values before its sub-tables
        if dataclasses.is_dataclass(value):
            yield from _table(value, f"{key}.{field.name}" if key else field.name)


def format_value(value: Any) -> str:
    """One setting as a TOML value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's too; DEL is the one character JSON leaves bare and TOML bars.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{json.dumps(k)} = {format_value(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    return repr(value)
