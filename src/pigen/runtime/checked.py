"""One way from the values of a TOML or JSON file to a dataclass, or to one line of what is wrong.

Field types say what a value must be, and each field's `Note` its bounds, choices and whether it is
a path. A rule that joins two fields belongs in ``__post_init__`` as a ValueError; the file and the
table are added to its message.
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

from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import parse_json, read_text

_T = TypeVar("_T")
_SHOWN = 100  # characters of a key or value in a message
_SHOWN_CHOICES = 12  # a longer list of allowed texts would bury the message

REQUIRED: Any = dataclasses.MISSING
"""Default of a setting that must be given."""


@dataclass(frozen=True, slots=True)
class Note:
    """What the loader and the reference page know of one setting beyond its type.

    Attributes:
        doc: one-line meaning.
        unit: unit of the value, empty for a pure number or text.
        lo, hi: inclusive bounds of every number in the value.
        above: exclusive lower bound of every number in the value.
        choices: the texts allowed where the value is a text.
        keys: the keys allowed where the value is a table.
        window: the value (or each pair in it) is ``[lo, hi]`` with lo ≤ hi.
        path: texts are paths relative to the TOML file, except those in ``names``.
        names: texts that are not paths (a shipped checkpoint, say).
    """

    doc: str
    unit: str = ""
    lo: float | None = None
    hi: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    window: bool = False
    path: bool = False
    names: tuple[str, ...] = ("",)


def setting(default: Any, doc: str, **note: Any) -> Any:
    """A dataclass field with a `Note`; a mutable default is copied for each instance."""
    metadata = {"note": Note(doc, **note)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_NO_NOTE = Note("")


def checked(
    cls: type[_T],
    values: Any,
    where: str | Path,
    *,
    key: str = "",
    error: type[PigenError] = UsageError,
    extra: bool = False,
    overridden: Sequence[str] = (),
    check_files: bool = False,
) -> _T:
    """A dataclass from its values by name, every one of its type and within its bounds.

    Args:
        cls: the dataclass; its fields may be dataclasses, mappings and tuples of them.
        values: as TOML or JSON give them.
        where: the file they come from, for messages and as the base of paths.
        key: dotted key of the table in the file.
        error: what is raised.
        extra: pass over keys that the dataclass has not.
        overridden: dotted keys that the command line gave: paths in them are relative to the
            working folder.
        check_files: every path must exist.

    Raises:
        PigenError: or what ``error`` says; one line naming the file, the dotted key, what was
            expected, and for an unknown key the nearest right one.
    """
    known = tuple(known_keys(cls, key))
    checker = _Checker(where, tuple(overridden), check_files, error, extra, known)
    made: _T = checker.table(cls, values, key)
    return made


def read_checked(
    cls: type[_T],
    path: Path,
    *,
    otherwise: str,
    error: type[PigenError] = PigenError,
    extra: bool = False,
) -> _T:
    """A dataclass from a JSON file.

    Args:
        cls: the dataclass.
        path: of the file.
        otherwise: what its folder is where the file is missing, for the message.
        error: what is raised for a damaged file.
        extra: as of `checked`.

    Raises:
        UsageError: there is no such file.
        PigenError: it is damaged; or what ``error`` says.
    """
    try:
        values = parse_json(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path.parent}: no {path.name}; {otherwise}") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise error(f"{path}: not valid JSON: {cut(str(problem))}") from None
    return checked(cls, values, path, error=error, extra=extra)


@dataclass(frozen=True)
class _Checker:
    """Turns parsed values into dataclasses, knowing where each value came from."""

    where: str | Path
    overridden: tuple[str, ...]
    check_files: bool
    error: type[PigenError]
    extra: bool
    known: tuple[str, ...]

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise the one-line error for a dotted key."""
        where = f"--set {key}" if self._is_override(key) else f"{self.where}: {cut(key)}"
        raise self.error(f"{where}: {problem}" if key else f"{self.where}: {problem}")

    def _is_override(self, key: str) -> bool:
        return any(key == changed or key.startswith(f"{changed}.") for changed in self.overridden)

    def table(self, cls: type[Any], value: Any, key: str) -> Any:
        """A dataclass from a TOML table, every key known and every required one there."""
        if not isinstance(value, dict):
            self.fail(key, f"expected a table, got {_shown(value)}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        types_of = typing.get_type_hints(cls)
        for name in value:
            if name not in fields and not self.extra:
                unknown = join(key, name)
                nearest = _nearest_key(unknown, self.known)
                self.fail(unknown, f"unknown key; did you mean {nearest}?")
        settings = {
            name: self.value(
                types_of[name], value[name], field.metadata.get("note", _NO_NOTE), join(key, name)
            )
            for name, field in fields.items()
            if name in value
        }
        for name, field in fields.items():
            required = field.default is REQUIRED and field.default_factory is REQUIRED
            if required and name not in settings:
                self.fail(join(key, name), "missing; it has no default")
        try:
            return cls(**settings)
        except ValueError as error:
            self.fail(key, str(error))

    def value(self, kind: Any, value: Any, note: Note, key: str) -> Any:
        """One value of the annotated type ``kind``, checked against its note."""
        if dataclasses.is_dataclass(kind):
            return self.table(typing.cast(type, kind), value, key)
        for member in _members(kind):
            if dataclasses.is_dataclass(member) and isinstance(value, dict):
                return self.table(typing.cast(type, member), value, key)
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
                    self.fail(join(key, name), f"unknown key; {_choose(name, note.keys)}")
            return {n: self.value(args[1], v, note, join(key, n)) for n, v in value.items()}
        if isinstance(value, str):
            return self._text(value, note, key)
        if value is None or isinstance(value, bool):
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
            self.fail(key, f"{cut(text)!r} is not allowed; {_choose(text, note.choices)}")
        if not note.path or text in note.names:
            return text
        base = Path.cwd() if self._is_override(key) else Path(self.where).parent
        try:
            path = (base / Path(text).expanduser()).resolve()
            there = path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, ~nobody
            self.fail(key, f"{cut(text)!r} is no path: {cut(str(error))}")
        if self.check_files and not there:
            near = difflib.get_close_matches(cut(text), [n for n in note.names if n], n=1)
            hint = f"; did you mean the shipped {near[0]!r}?" if near else ""
            self.fail(key, f"no such file: {path}{hint}")
        return str(path)


def plain(value: Any) -> Any:
    """A value as TOML has it: numbers of numpy's as Python's, tuples as lists."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value


def join(key: str, name: str) -> str:
    """A dotted key."""
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


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts"}


def describe(kind: Any, note: Note) -> str:
    """What a value of that annotated type may be, in words."""
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
    return "a table" if dataclasses.is_dataclass(kind) else _NAMES[kind]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, str):
        return f"text {cut(value)!r}"
    return cut(repr(value).lower())


def cut(text: str) -> str:
    """A text of the file, for a message: on one line, and not too long."""
    text = " ".join(text[: 2 * _SHOWN].split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _choose(text: str, allowed: Sequence[str]) -> str:
    """The nearest allowed text, and all of them where that is a short list."""
    nearest = max(allowed, key=lambda choice: _likeness(text, choice))
    rest = f" (one of {', '.join(allowed)})" if len(allowed) <= _SHOWN_CHOICES else ""
    return f"did you mean {nearest}?{rest}"


def _nearest_key(unknown: str, known: Sequence[str]) -> str:
    """The known dotted key most like an unknown one, in its own table if about as good."""
    table, _, leaf = unknown.rpartition(".")

    def score(candidate: str) -> float:
        known_table, _, known_leaf = candidate.rpartition(".")
        return _likeness(leaf, known_leaf) + 0.3 * (table == known_table)

    return max(known, key=score)


def _likeness(a: str, b: str) -> float:
    a, b = a[:_SHOWN].lower(), b[:_SHOWN].lower()
    return difflib.SequenceMatcher(None, a, b).ratio() + 0.2 * (a[:1] == b[:1])


def known_keys(cls: type[Any], key: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass, tables included."""
    types_of = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        yield join(key, field.name)
        if dataclasses.is_dataclass(types_of[field.name]):
            yield from known_keys(types_of[field.name], join(key, field.name))
