"""Structures from anywhere, as a stream of bundle chunks; what is refused is counted, not lost."""

from pigen.config.files import Limits
from pigen.io.entry import NOTE
from pigen.io.stream import CHUNK_SIZE, FORMATS, open_source, read, read_chunks, stream

__all__ = [
    "CHUNK_SIZE",
    "FORMATS",
    "NOTE",
    "Limits",
    "open_source",
    "read",
    "read_chunks",
    "stream",
]
