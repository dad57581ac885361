"""Strict reading of an experiment: one TOML file and overrides in, a validated `Experiment` out.

Driven by the dataclasses of `pigen.experiment.settings` alone: field types say what a value must
be, and each field's `Note` its bounds, choices and whether it is a path.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pigen import resources
from pigen.bounded import parse_toml, read_text
from pigen.errors import UsageError
from pigen.experiment.settings import REQUIRED, Experiment, Note

MAX_TOML_BYTES = 2**20
"""Of an experiment: the longest of ours has 2 KiB."""
_SHOWN = 100  # characters of a key or value in a message
_T = TypeVar("_T")
_SHOWN_CHOICES = 12  # a longer list of allowed texts would bury the message


def shipped_experiments() -> dict[str, Path]:
    """The experiments that travel with the package, by name."""
    return {path.stem: path for path in sorted(resources.EXPERIMENTS.glob("*.toml"))}


def load_experiment(
    source: str | Path, overrides: Sequence[str] = (), *, check_files: bool = True
) -> Experiment:
    """Read the experiment in a TOML file, or the shipped one of that name.

    Args:
        source: path of a TOML file, or the name of a shipped experiment. Paths inside the file
            are relative to it.
        overrides: ``table.key=value`` texts that replace values of the file; a value is TOML, and
            text may go unquoted. Paths in them are relative to the working folder.
        check_files: every path must exist (off: to look at a run whose inputs have moved).

    Raises:
        UsageError: one line naming the file, the dotted key, what was expected, and for an
            unknown key the nearest right one.
    """
    path = _find(source)
    try:
        tree = parse_toml(read_text(path, MAX_TOML_BYTES, "MAX_TOML_BYTES"))
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML: {_cut(str(error))}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    changed = [_apply_override(tree, override) for override in overrides]
    experiment = _Loader(path, tuple(changed), check_files).table(Experiment, tree, "")
    assert isinstance(experiment, Experiment)
    return experiment


def checked_settings(cls: type[_T], tree: Any, path: Path, key: str) -> _T:
    """One table of an experiment, such as `ModelConfig`, from a tree that is not of TOML.

    Args:
        cls: the table's dataclass.
        tree: its values by key.
        path: the file they come from. key: of the table, for messages.

    Raises:
        UsageError: as `load_experiment`.
    """
    made: _T = _Loader(path, (), False).table(cls, tree, key)
    return made


def _find(source: str | Path) -> Path:
    path = Path(source)
    shipped = shipped_experiments()
    if path.is_file():
        return path
    if str(source) in shipped:
        return shipped[str(source)]
    near = difflib.get_close_matches(path.stem, shipped, n=1, cutoff=0.5)
    hint = f"did you mean the shipped experiment {near[0]}?" if near else "`pigen init` makes one"
    raise UsageError(f"{source}: no such file, and no shipped experiment of that name; {hint}")


def _apply_override(tree: dict[str, Any], override: str) -> str:
    """Put ``a.b=value`` into the tree; the dotted key it changed."""
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override}: expected table.key=value, e.g. sample.n=200")
    table = tree
    for depth, part in enumerate(parts[:-1], start=1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override}: {'.'.join(parts[:depth])} is not a table")
    table[parts[-1]] = _toml_value(text)
    return key


def _toml_value(text: str) -> Any:
    """The TOML value of a text; the text itself where it is none (unquoted words)."""
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


@dataclass(frozen=True)
class _Loader:
    """Turns parsed TOML into dataclasses, knowing where each value came from."""

    path: Path
    overridden: tuple[str, ...]
    check_files: bool

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise the one-line UsageError for a dotted key."""
        where = f"--set {key}" if self._is_override(key) else f"{self.path}: {_cut(key)}"
        raise UsageError(f"{where}: {problem}" if key else f"{self.path}: {problem}")

    def _is_override(self, key: str) -> bool:
        return any(key == changed or key.startswith(f"{changed}.") for changed in self.overridden)

    def table(self, cls: type[Any], value: Any, key: str) -> Any:
        """A dataclass from a TOML table, every key known and every required one there."""
        if not isinstance(value, dict):
            self.fail(key, f"expected a table, got {_shown(value)}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        types_of = typing.get_type_hints(cls)
        for name in value:
            if name not in fields:
                unknown = _join(key, name)
                self.fail(unknown, f"unknown key; did you mean {_nearest_key(unknown)}?")
        settings = {
            name: self.value(
                types_of[name], item, fields[name].metadata.get("note"), _join(key, name)
            )
            for name, item in value.items()
        }
        for name, field in fields.items():
            required = field.default is REQUIRED and field.default_factory is REQUIRED
            if required and name not in settings:
                self.fail(_join(key, name), "missing; every experiment needs it")
        try:
            return cls(**settings)
        except ValueError as error:
            self.fail(key, str(error))

    def value(self, kind: Any, value: Any, note: Note | None, key: str) -> Any:
        """One value of the annotated type ``kind``, checked against its note."""
        if dataclasses.is_dataclass(kind):
            return self.table(typing.cast(type, kind), value, key)
        assert note is not None, f"{key}: a setting needs a note"
        for member in _members(kind):
            if _fits(member, value):
                return self._convert(member, value, note, key)
        self.fail(key, f"expected {describe(kind, note)}, got {_shown(value)}")

    def _convert(self, kind: Any, value: Any, note: Note, key: str) -> Any:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is tuple:
            kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
            if len(kinds) != len(value):
                self.fail(key, f"expected {describe(kind, note)}, got {_shown(value)}")
            items = tuple(self.value(k, v, note, key) for k, v in zip(kinds, value, strict=True))
            if note.window and args[-1] is not Ellipsis and items[0] > items[1]:
                self.fail(key, f"the window's lower end {items[0]:g} is above {items[1]:g}")
            return items
        if origin is Mapping:
            for name in value:
                if note.keys and name not in note.keys:
                    self.fail(_join(key, name), f"unknown key; {_choose(name, note.keys)}")
            return {n: self.value(args[1], v, note, _join(key, n)) for n, v in value.items()}
        if isinstance(value, str):
            return self._text(value, note, key)
        if isinstance(value, bool):
            return value
        if isinstance(value, int) and abs(value) >= 2**63:  # more than any library takes
            self.fail(key, "must lie within 64 bits")
        return self._number(kind(value), note, key)

    def _number(self, number: float, note: Note, key: str) -> float:
        unit = f" {note.unit}" if note.unit else ""
        if math.isnan(number) or (math.isinf(number) and not note.window):
            self.fail(key, f"must be finite, got {number}")
        if note.above is not None and number <= note.above:
            self.fail(key, f"must be above {note.above:g}{unit}, got {number:g}")
        if note.lo is not None and number < note.lo:
            self.fail(key, f"must be at least {note.lo:g}{unit}, got {number:g}")
        if note.hi is not None and number > note.hi:
            self.fail(key, f"must be at most {note.hi:g}{unit}, got {number:g}")
        return number

    def _text(self, text: str, note: Note, key: str) -> str:
        if note.choices and text not in note.choices:
            self.fail(key, f"{_cut(text)!r} is not allowed; {_choose(text, note.choices)}")
        if not note.path or text in note.names:
            return text
        base = Path.cwd() if self._is_override(key) else self.path.parent
        try:
            path = (base / Path(text).expanduser()).resolve()
            there = path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, ~nobody
            self.fail(key, f"{_cut(text)!r} is no path: {_cut(str(error))}")
        if self.check_files and not there:
            near = difflib.get_close_matches(_cut(text), [n for n in note.names if n], n=1)
            hint = f"; did you mean the shipped {near[0]!r}?" if near else ""
            self.fail(key, f"no such file: {path}{hint}")
        return str(path)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a TOML value is of that type, not looking inside lists and tables."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return isinstance(value, list)
    if origin is Mapping:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def describe(kind: Any, note: Note) -> str:
    """What a setting of that annotated type may be, in words."""
    members = [member for member in _members(kind) if member is not type(None)]
    if len(members) > 1:
        return " or ".join(describe(member, note) for member in members)
    (kind,) = members
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list of {_PLURALS.get(args[0], 'values')}"
    if origin is tuple:
        return "[lo, hi]" if note.window else f"a list of {len(args)} {_PLURALS[args[0]]}"
    if origin is Mapping:
        keys = f" of {', '.join(note.keys)}" if note.keys else ""
        return f"a table{keys}"
    if kind is str and 0 < len(note.choices) <= _SHOWN_CHOICES:
        return " or ".join(f'"{choice}"' for choice in note.choices)
    return _NAMES[kind]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, str):
        return f"text {_cut(value)!r}"
    return _cut(repr(value).lower())


def _cut(text: str) -> str:
    """A text of the file, for a message: on one line, and not too long."""
    text = " ".join(text[: 2 * _SHOWN].split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _choose(text: str, allowed: Sequence[str]) -> str:
    """The nearest allowed text, and all of them where that is a short list."""
    nearest = max(allowed, key=lambda choice: _likeness(text, choice))
    rest = f" (one of {', '.join(allowed)})" if len(allowed) <= _SHOWN_CHOICES else ""
    return f"did you mean {nearest}?{rest}"


def _nearest_key(unknown: str) -> str:
    """The known dotted key most like an unknown one, in its own table if about as good."""
    table, _, leaf = unknown.rpartition(".")

    def score(known: str) -> float:
        known_table, _, known_leaf = known.rpartition(".")
        return _likeness(leaf, known_leaf) + 0.3 * (table == known_table)

    return max(known_keys(), key=score)


def _likeness(a: str, b: str) -> float:
    a, b = a[:_SHOWN].lower(), b[:_SHOWN].lower()
    return difflib.SequenceMatcher(None, a, b).ratio() + 0.2 * (a[:1] == b[:1])


def known_keys(cls: type[Any] = Experiment, key: str = "") -> Iterator[str]:
    """Every dotted key of an experiment, tables included."""
    types_of = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield _join(key, field.name)
        if dataclasses.is_dataclass(types_of[field.name]):
            yield from known_keys(types_of[field.name], _join(key, field.name))


def differing_keys(a: Any, b: Any, key: str = "") -> list[str]:
    """Dotted keys of the settings in which two experiments (or tables of them) differ."""
    differing: list[str] = []
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        name = _join(key, field.name)
        if dataclasses.is_dataclass(one):
            differing += differing_keys(one, other, name)
        elif one != other:
            differing.append(name)
    return differing
