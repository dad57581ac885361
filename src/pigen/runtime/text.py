"""Text from strangers, made fit to print and to store."""

from __future__ import annotations

from collections.abc import Container


def clean_text(text: str) -> str:
    """Text that HDF5 and a terminal can take: no control characters, no half surrogates."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def numbered(name: str, taken: Container[str]) -> str:
    """The name, or the first of name_2, name_3, … that is not taken, whatever its case.

    ``taken`` holds names in lower case.
    """
    candidate, k = name, 1
    while candidate.lower() in taken:
        k += 1
        candidate = f"{name}_{k}"
    return candidate
