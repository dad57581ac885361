"""Texts to structures: the parser of each form, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pigen.config.files import Limits
from pigen.io.cif import parse_cif
from pigen.io.documents import parse_json
from pigen.io.entry import Parsed, Refused, Structure, checked
from pigen.io.extxyz import parse_extxyz
from pigen.io.poscar import parse_poscar


def parse(text: str, form: str, limits: Limits) -> Parsed:
    """Every structure of a text in a form of `PARSERS`, checked, or the reason it is refused.

    Never raises for what the text holds: whatever goes wrong in a parser, ours or a library's, is
    the reason of a reject.
    """
    with np.errstate(all="ignore"):  # numbers beyond all bounds are refused where they end up
        try:
            found = PARSERS[form](text, limits)
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


PARSERS: dict[str, Callable[[str, Limits], Parsed]] = {
    "cif": parse_cif,
    "poscar": parse_poscar,
    "extxyz": parse_extxyz,
    "json": parse_json,
}
"""The forms in which a structure is written as text."""
