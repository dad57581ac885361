"""Structures from anywhere, as a stream of bundle chunks; what is refused is counted, not lost."""

from pigen.io.entry import MAX_ATOMS, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_FILE_BYTES, NOTE, Limits
from pigen.io.stream import FORMATS, open_source, read, read_chunks, stream

__all__ = [
    "FORMATS",
    "MAX_ATOMS",
    "MAX_ENTRIES",
    "MAX_ENTRY_BYTES",
    "MAX_FILE_BYTES",
    "NOTE",
    "Limits",
    "open_source",
    "read",
    "read_chunks",
    "stream",
]
