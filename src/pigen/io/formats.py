"""Forms of text in which structures are written: which files are of each, and what parses them.

A module of `pigen.io.forms` registers its parser with `reader`; nothing else has to name it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

import numpy as np

from pigen.config.files import Limits
from pigen.io import forms
from pigen.io.entry import Parsed, Refused, Structure, checked

Parser = Callable[[str, Limits], Parsed]

_LINES = {".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Files whose lines are texts of another form."""


@dataclass(frozen=True)
class _Form:
    parser: Parser
    suffixes: tuple[str, ...]
    names: str


_FORMS: dict[str, _Form] = {}


def reader(form: str, *suffixes: str, names: str = "") -> Callable[[Parser], Parser]:
    """Register the parser of a form of text.

    Args:
        form: what messages call it.
        suffixes: ends of the names of its files, in lower case.
        names: a regular expression that matches other whole names of its files.
    """

    def register(parser: Parser) -> Parser:
        _FORMS[form] = _Form(parser, suffixes, names)
        return parser

    return register


@lru_cache(maxsize=1)
def _load_all() -> None:
    for found in iter_modules(forms.__path__):
        import_module(f"{forms.__name__}.{found.name}")


def text_form(name: str) -> str | None:
    """The form that a file's name promises, or None."""
    _load_all()
    base = os.path.basename(name)
    base = base[:-3] if base.lower().endswith(".gz") else base
    suffix = os.path.splitext(base)[1].lower()
    by_name = (key for key, form in _FORMS.items() if form.names and re.fullmatch(form.names, base))
    by_suffix = (key for key, form in _FORMS.items() if suffix in form.suffixes)
    return next(by_name, None) or next(by_suffix, None) or _LINES.get(suffix)


def parse(text: str, form: str, limits: Limits) -> Parsed:
    """Every structure of a text in a form, checked, or the reason it is refused.

    Never raises for what the text holds: whatever goes wrong in a parser, ours or a library's, is
    the reason of a reject.
    """
    _load_all()
    with np.errstate(all="ignore"):  # numbers beyond all bounds are refused where they end up
        try:
            found = _FORMS[form].parser(text, limits)
        except Exception as error:
            return [("", _refusal(error, form))]
        return [(name, _check(one, form, limits)) for name, one in found]


def _check(one: Structure | Refused, form: str, limits: Limits) -> Structure | Refused:
    if isinstance(one, Refused):
        return one
    try:
        return checked(one, limits)
    except Exception as error:
        return _refusal(error, form)


def _refusal(error: Exception, form: str) -> Refused:
    if isinstance(error, Refused):
        return error.with_traceback(None)  # which would keep all that the parser held
    return Refused(f"unreadable {form}: {error or type(error).__name__}")
