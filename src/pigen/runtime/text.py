"""Text from strangers, made fit to print and to store."""

from __future__ import annotations


def clean_text(text: str) -> str:
    """Text that HDF5 and a terminal can take: no control characters, no half surrogates."""
    if text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
