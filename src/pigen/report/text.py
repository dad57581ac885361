"""Untrusted text on its way into a page."""

from __future__ import annotations

import re
from html import escape

_LONGEST = 300
"""Characters of a text that are shown, unless less is asked for."""


def shown(text: str, longest: int = _LONGEST) -> str:
    """A text for an element or a quoted attribute: clean, cut to a length, escaped."""
    return escape(clean(text if len(text) <= longest else text[: longest - 1] + "…"))


def clean(text: str) -> str:
    """Control characters and half surrogates become U+FFFD; line ends and tabs stay."""
    return re.sub(r"[^\t\n -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
