"""CIF text to structures: gemmi reads the syntax and knows the groups, what is refused is ours.

This is about ten times as fast as pymatgen's parser (benchmarks/read_cif.py), which stays the
reference in the tests. Unlike there, contradictions are refused, not guessed at: symmetry that does
not fit the cell or itself, an uncertain label, a formula that the atoms don't make. gemmi's own
expansion of the sites is not used: it merges atoms by their distance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.io.cif_symmetry import Sites, Stated, expand, find_group
from pigen.io.entry import (
    NOTE,
    Parsed,
    Refused,
    Structure,
    check_count,
    check_occupancy,
    check_size,
    lattice_from_parameters,
)
from pigen.io.formats import reader
from pigen.io.species import (
    Formula,
    atomic_number,
    check_formula,
    label_number,
    missing_hydrogen,
    read_formula,
)

_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m",
)
_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_MAGNETIC = (
    "_space_group_symop_magn_operation.xyz",
    "_space_group_symop_magn_operation_xyz",
    "_space_group_symop.magn_operation_xyz",
)
_MULTIPLICITY = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")

_UNQUOTED = re.compile(r"([ \t]*_\S+)[ \t]+([^\s'\";#][^'\"]*)")
_BLOCK = re.compile(r"[ \t]*data_\S*", re.IGNORECASE)
_DOTTED = re.compile(r"^([ \t]*_(?:[A-Za-z]+_)*[A-Za-z]+)\.(?=[A-Za-z])", re.MULTILINE)
"""The dot in a tag such as ``_cell.length_a``, as newer dictionaries and mmCIF write it."""
_ASCII = str.maketrans({"\u00a0": " ", "\u2212": "-", "\u2013": "-"})


@reader("cif", ".cif", ".mcif")
def parse_cif(text: str, limits: Limits) -> Parsed:
    """Every structure of a CIF, or why it is none, in the order of the blocks.

    Blocks that describe no structure (a publication's header, a powder pattern) are passed over.
    Sites of occupancy 0 are absent; deuterium and tritium become hydrogen.

    Raises:
        Refused: the text is not CIF, or no block describes a structure.
    """
    blocks = [block for block in map(_Items, _blocks(text, limits)) if block.has_structure]
    check_count(len(blocks), limits.max_structures, "structures")
    if not blocks:
        raise Refused("no structure: no cell and no atoms in the file")
    found: Parsed = []
    for block in blocks:
        name = f"#{block.name}" if len(blocks) > 1 else ""
        try:
            found.append((name, _structure(block, limits)))
        except Refused as reason:
            found.append((name, reason.with_traceback(None)))
    return found


def _blocks(text: str, limits: Limits) -> list[gemmi.cif.Block]:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():  # names and comments; gemmi takes ASCII only
        text = text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    if "_cell." in text or "_atom_site." in text:
        text = _DOTTED.sub(r"\1_", text)
    check_count(_words(text), limits.max_values, "values")
    try:
        # Level 0 lets pass a repeated or missing value of a tag that may not matter to us.
        return list(gemmi.cif.read_string(text, 0))
    except (ValueError, RuntimeError):
        pass
    try:
        return list(gemmi.cif.read_string(_repaired(text), 0))
    except (ValueError, RuntimeError) as error:
        raise Refused(f"unreadable CIF: {error}") from None


def _words(text: str) -> int:
    """Words of an ASCII text, counted without making them."""
    space = np.frombuffer(text.encode(), dtype=np.uint8) <= ord(" ")
    return int(np.count_nonzero(space[:-1] & ~space[1:])) + 1


def _repaired(text: str) -> str:
    """The text with the usual slips of programs and language models mended.

    Words before the first block, code fences, and values of several words without quotes.
    """
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _BLOCK.match(line)), 0)
    return "\n".join(_mended(line) for line in lines[start:])


def _mended(line: str) -> str:
    if line.startswith(("```", "save_")):
        return ""
    block = _BLOCK.match(line)
    if block:
        return block.group()
    tag = _UNQUOTED.fullmatch(line.rstrip())
    if tag and len(tag[2].split(None, 1)) == 2:
        return f"{tag[1]} '{tag[2]}'"
    return line


class _Items:
    """What a block holds: each tag once, in lower case, with its values as written."""

    def __init__(self, block: gemmi.cif.Block) -> None:
        self.name: str = block.name
        self._values: dict[str, list[str]] = {}
        item: Any
        for item in block:
            if pair := item.pair:
                self._values.setdefault(pair[0].lower(), [pair[1]])
            elif item.loop is not None:
                tags, values = item.loop.tags, item.loop.values
                for k, tag in enumerate(tags):
                    self._values.setdefault(tag.lower(), values[k :: len(tags)])

    @property
    def has_structure(self) -> bool:
        return any(tag in self._values for tag in (_LENGTHS[0], "_atom_site_fract_x"))

    def texts(self, tag: str) -> list[str]:
        """All values of a tag, without their quotes."""
        return [_unquoted(value) for value in self._values.get(tag, ())]

    def stated(self, *tags: str) -> list[str]:
        """Values of the first of the tags that has any; "?" and "." are none."""
        for tag in tags:
            if tag in self._values:
                texts = self.texts(tag)
                if texts := [text for text in texts if text not in ("", "?", ".")]:
                    return texts
        return []

    def text(self, *tags: str) -> str:
        """The first value of the first of the tags that has any, else ""."""
        return next(iter(self.stated(*tags)), "")

    def number(self, tag: str) -> float:
        """The first value of a tag, NaN if it is no number."""
        values = self._values.get(tag)
        return float(gemmi.cif.as_number(values[0])) if values else math.nan

    def column(self, tag: str, n: int) -> list[str] | None:
        """Values of a column of n rows, None if there is none of that length."""
        return self.texts(tag) if len(self._values.get(tag, ())) == n else None


def _unquoted(value: str) -> str:
    return gemmi.cif.as_string(value) if value[:1] in ("'", '"', ";") else value


def _structure(block: _Items, limits: Limits) -> Structure:
    angles = [block.number(tag) for tag in _ANGLES]
    lattice = lattice_from_parameters([block.number(tag) for tag in _LENGTHS], angles)
    formula = read_formula(
        block.text("_chemical_formula_sum"), block.text("_chemical_formula_moiety")
    )
    rows = _rows(block)
    frac, numbers, notes = rows.frac(), rows.numbers(formula), []
    check_size(len(frac), limits)
    rows.check_disorder()
    if attached := rows.attached_hydrogen():
        if not limits.ignore_hydrogen:
            raise missing_hydrogen(f"{attached} without coordinates")
        notes.append(attached)
    stated = Stated(
        tuple(block.stated(*_OPERATIONS)),
        block.text(*_HALL),
        block.text(*_HERMANN_MAUGUIN),
        block.text(*_NUMBER),
        magnetic=bool(block.stated(*_MAGNETIC)),
        # As gemmi tells them apart.
        rhombohedral=angles[2] < 1.125 * angles[0],
    )
    group = find_group(stated, lattice)
    multiplicities = rows.multiplicities()
    if len(group) > 1:
        sites = Sites(rows.labels, frac, numbers, rows.errors(), multiplicities)
        frac, numbers, said = expand(sites, group, lattice, limits)
        notes += said
    elif multiplicities.max(initial=0) > 1:
        i = int(multiplicities.argmax())
        raise Refused(
            f"contradictory symmetry: multiplicity {multiplicities[i]} at {rows.labels[i][:20]}, "
            "and no operation but the identity"
        )
    units = block.number("_cell_formula_units_z")
    check_formula(formula, units, numbers, limits.ignore_hydrogen)
    if limits.ignore_hydrogen and 1 in formula.elements and 1 not in numbers:
        notes.append(f"hydrogen of {formula.text!r} is missing")
    return Structure(lattice, frac, numbers, {NOTE: "; ".join(notes)} if notes else {})


# -- the table of sites --------------------------------------------------------------------------
@dataclass(frozen=True)
class _Rows:
    """The sites of a block that are not empty, as text.

    Attributes:
        labels: names of the sites. types: their type symbols, "" where there is none.
        axes: x, y and z. columns: further columns by tag, of those that the block has.
    """

    labels: Sequence[str]
    types: Sequence[str]
    axes: Sequence[Sequence[str]]
    columns: Mapping[str, Sequence[str]]

    def frac(self) -> NDArray[np.float64]:
        """Fractional coordinates (n, 3). Raises Refused where one is no number."""
        numbers = [[gemmi.cif.as_number(text) for text in axis] for axis in self.axes]
        frac = np.array(numbers, dtype=np.float64).T.reshape(-1, 3)
        if not np.isfinite(frac).all():
            i = int(np.argmin(np.isfinite(frac).all(axis=1)))
            said = " ".join(axis[i][:12] for axis in self.axes)
            raise Refused(f"no coordinates: of {self.labels[i][:20]}: {said}")
        return frac

    def errors(self) -> NDArray[np.float64]:
        """Rounding (n, 3) of the coordinates.

        It is half a unit of the last digit, a whole one from three digits on: 0.6666 stands for two
        thirds. A whole number is exact.
        """
        return np.array([[_rounding(text) for text in axis] for axis in self.axes]).T

    def numbers(self, formula: Formula) -> NDArray[np.int64]:
        """Atomic numbers (n,). Raises Refused where the element is not certain."""
        others = {label.rstrip("0123456789").upper() for label in self.labels}
        dry = others <= {"W", "O"}  # tungsten and its oxides: a hydrate has a third element
        found = [
            atomic_number(kind) if kind else label_number(label, formula.elements, dry)
            for label, kind in zip(self.labels, self.types, strict=True)
        ]
        return np.array(found, dtype=np.int64)

    def multiplicities(self) -> NDArray[np.int64]:
        """Stated multiplicities (n,), 0 where there is none."""
        for tag in _MULTIPLICITY:
            if texts := self.columns.get(tag):
                if set(texts) == {"1"}:
                    return np.ones(len(texts), dtype=np.int64)
                known = [text.isdecimal() for text in texts]
                return np.array(
                    [min(int(t[:9]), 10**6) if k else 0 for t, k in zip(texts, known, strict=True)]
                )
        return np.zeros(len(self.labels), dtype=np.int64)

    def check_disorder(self) -> None:
        """Raise Refused if sites are alternatives of each other, or placeholders."""
        for label, flag in zip(
            self.labels, self.columns.get("_atom_site_calc_flag", ()), strict=False
        ):
            if flag.lower() == "dum":
                raise Refused(f"dummy site: {label[:20]} is no atom")
        groups = self.columns.get("_atom_site_disorder_group", ())
        assemblies = self.columns.get("_atom_site_disorder_assembly", ("",) * len(groups))
        seen: dict[str, str] = {}
        for label, group, assembly in zip(self.labels, groups, assemblies, strict=False):
            if group in ("", "?", ".", "0"):
                continue
            if group.startswith("-") or seen.setdefault(assembly, group) != group:
                raise Refused(f"disordered: {label[:20]} is in disorder group {group[:10]}")

    def attached_hydrogen(self) -> str:
        """Which site has hydrogen atoms without coordinates; "" if none has."""
        counts = self.columns.get("_atom_site_attached_hydrogens", ())
        for label, count in zip(self.labels, counts, strict=False):
            if gemmi.cif.as_number(count, 0.0) > 0:
                return f"{count[:5]} hydrogen atoms attached to {label[:20]}"
        return ""


_FURTHER = (
    *_MULTIPLICITY,
    "_atom_site_attached_hydrogens",
    "_atom_site_calc_flag",
    "_atom_site_disorder_assembly",
    "_atom_site_disorder_group",
)


def _rows(block: _Items) -> _Rows:
    axes = [block.texts(f"_atom_site_fract_{axis}") for axis in "xyz"]
    n = len(axes[0])
    if n == 0 and block.texts("_atom_site_cartn_x"):
        raise Refused("no coordinates: Cartesian ones alone, fractional ones are needed")
    if n == 0 or any(len(axis) != n for axis in axes):
        raise Refused("no coordinates: the fractional coordinates of the atoms are missing")
    labels = block.column("_atom_site_label", n)
    types = block.column("_atom_site_type_symbol", n)
    occupancies = block.column("_atom_site_occupancy", n)
    if types is None and labels is None:
        raise Refused("no elements: the atoms have neither type symbols nor labels")
    types = ["" if t in ("?", ".") else t for t in types] if types else [""] * n
    labels = labels or types
    columns = {tag: found for tag in _FURTHER if (found := block.column(tag, n))}
    if occupancies and set(occupancies) - {"1", "1.0"}:
        amounts = [_occupancy(text, labels[i]) for i, text in enumerate(occupancies)]
        kept = [i for i, amount in enumerate(amounts) if amount != 0]
        for i in kept:
            check_occupancy(amounts[i], labels[i])
        if len(kept) < n:
            labels, types = [labels[i] for i in kept], [types[i] for i in kept]
            axes = [[axis[i] for i in kept] for axis in axes]
            columns = {tag: [found[i] for i in kept] for tag, found in columns.items()}
    return _Rows(labels, types, axes, columns)


def _occupancy(text: str, where: str) -> float:
    if text in ("", "?", "."):  # the dictionary's default
        return 1.0
    occupancy = float(gemmi.cif.as_number(text))
    if math.isnan(occupancy):
        raise Refused(f"disordered: occupancy {text[:20]!r} at {where[:20]} is no number")
    return occupancy


def _rounding(text: str) -> float:
    mantissa, _, exponent = text.partition("(")[0].lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    if exponent or not digits:
        return 1e-6 if exponent else 0.0
    return 10.0**-digits if digits > 2 else 0.5 * 10.0**-digits
