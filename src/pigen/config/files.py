"""What is read and written: the limits of what is let in, and the formats of export."""

from __future__ import annotations

from dataclasses import dataclass

from pigen.runtime.checked import setting

MIB = 2**20
MAX_ATOMS = 200
MAX_ENTRY_BYTES = 16 * MIB
MAX_FILE_BYTES = 64 * MIB
MAX_ENTRIES = 10_000_000
MIN_VALUE_BYTES, MIN_STRUCTURE_BYTES = 16, 256
"""What a value and a structure take of a text, at least: a text of the size that ``--max-file-mib``
allows may hold a sixteenth as many values, for each takes far more in memory than in the file."""

EXPORT_FORMATS = ("cif", "extxyz", "csv", "poscar")


@dataclass(frozen=True)
class Limits:
    """What is let in; each exceeded limit is named in the reject's reason."""

    max_atoms: int = setting(MAX_ATOMS, "Most atoms in a cell.", lo=1)
    max_entry_bytes: int = setting(
        MAX_ENTRY_BYTES, "Largest text of one structure in a table or an archive.", lo=1
    )
    max_file_bytes: int = setting(
        MAX_FILE_BYTES, "Largest file that is read whole (CIF, POSCAR, JSON).", lo=1
    )
    max_entries: int = setting(MAX_ENTRIES, "Most entries in all sources together.", lo=1)
    ignore_hydrogen: bool = setting(
        False, "Read structures whose hydrogen atoms have no coordinates, without them."
    )

    @property
    def max_values(self) -> int:
        """Values in a text."""
        return max(self.max_file_bytes, self.max_entry_bytes) // MIN_VALUE_BYTES

    @property
    def max_structures(self) -> int:
        """Structures in a text."""
        return max(self.max_file_bytes, self.max_entry_bytes) // MIN_STRUCTURE_BYTES
