"""The symmetry that a CIF states, checked against itself, and the atoms that it makes of the sites.

Two listed sites are never merged. Images of one site are one atom where its stated multiplicity
says so, or where they meet within the rounding of the printed digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from pigen.config.files import Limits
from pigen.io.entry import SAME_PLACE, Refused, check_size

MAX_OPERATIONS = 192
"""Of a space group in its conventional cell (Fm-3m)."""
SPECIAL_POSITION = 0.2
"""Å: no image of a site on a special position lies farther from it."""
METRIC = 0.02
"""Relative error of the metric tensor under an operation beyond which it cannot be a symmetry."""
_EXACT = 1e-6
_SETTING = re.compile(r"(?<=[\w/])\s+:?([HRSZ])$")


@dataclass(frozen=True, eq=False)
class Group:
    """A space group in the setting of a file.

    Attributes:
        rotations: (n, 3, 3), the first is the identity. translations: (n, 3).
        table: (n, n) place of the product of two operations.
        number: of the group's type, 1 to 230; 0 if unknown.
    """

    rotations: NDArray[np.float64]
    translations: NDArray[np.float64]
    table: NDArray[np.int64]
    number: int

    def __len__(self) -> int:
        """Operations."""
        return len(self.rotations)


@dataclass(frozen=True)
class Stated:
    """What a block says of its symmetry, "" and () where it says nothing.

    Attributes:
        operations: triplets such as "-x,y+1/2,-z". hall, name, number: of the space group.
        magnetic: whether it lists magnetic operations.
        rhombohedral: whether a group R would be on rhombohedral axes, by the angles of the cell.
    """

    operations: tuple[str, ...] = ()
    hall: str = ""
    name: str = ""
    number: str = ""
    magnetic: bool = False
    rhombohedral: bool = False


def find_group(stated: Stated, lattice: NDArray[np.float64]) -> Group:
    """The group that a block states for its cell (3, 3), rows in Å.

    Raises:
        Refused: the statements contradict each other or the cell, or name no known group.
    """
    group = _group(stated)
    if len(group) > 1:
        metric = lattice @ lattice.T
        change = group.rotations.transpose(0, 2, 1) @ metric @ group.rotations - metric
        worst = np.abs(change).max(axis=(1, 2))
        if worst.max() > METRIC * metric.max():
            raise Refused(
                f"impossible symmetry: {_shown(stated)} does not fit the cell, "
                f"operation {int(worst.argmax()) + 1}"
            )
    return group


@lru_cache(maxsize=256)
def _group(stated: Stated) -> Group:
    named = _named(stated)
    numbers = {shown: number for shown, number, _ in named if number}
    if stated.operations:
        group = _listed(stated.operations)
    else:
        if stated.magnetic:
            raise Refused("magnetic symmetry: only nuclear structures are read")
        operations = next((ops for _, _, ops in named if ops), None)
        if operations is None:
            if not (stated.hall or stated.name or stated.number):
                return _made([gemmi.Op("x,y,z")], 1)
            for text, _, _ in named:
                if text.startswith("ambiguous"):
                    raise Refused(text)
            raise Refused(f"unknown space group: {_shown(stated)}")
        group = _listed(tuple(op.triplet() for op in operations))
    for shown, number in numbers.items():
        if group.number and number != group.number:
            made = "the operations listed" if stated.operations else f"those of {_shown(stated)}"
            raise Refused(
                f"contradictory symmetry: {shown} is space group {number}, {made} "
                f"make space group {group.number} ({len(group)} operations)"
            )
    return group


def _named(stated: Stated) -> list[tuple[str, int, list[gemmi.Op] | None]]:
    """(as shown, number, operations) of each name of the group, the most exact one first."""
    found: list[tuple[str, int, list[gemmi.Op] | None]] = []
    if stated.hall:
        try:
            ops = gemmi.symops_from_hall(stated.hall)
            found.append((repr(stated.hall[:30]), _number_of(list(ops)), list(ops)))
        except (ValueError, RuntimeError):
            pass
    names = [stated.name] if stated.name else []
    if stated.number.isdecimal() and 1 <= int(stated.number[:4]) <= 230:
        number = int(stated.number)
        found.append(("_space_group_IT_number", number, None))
        if not stated.name or _settings(number) == 1:  # else the name is of some other setting
            names.append(gemmi.find_spacegroup_by_number(number).hm)
    for k, name in enumerate(names):
        known = find_by_name(name, stated.rhombohedral)
        if known is None:
            continue
        named = k == 0 and bool(stated.name)
        # With two origins only the operations tell which it is.
        if known.ext in "12" and ":" not in name and _SETTING.search(name) is None:
            if named or not stated.name:
                found.append(
                    (
                        f"ambiguous origin: {name[:30]!r} has two and no operations are listed",
                        0,
                        None,
                    )
                )
            found.append((repr(name[:30]), known.number if named else 0, None))
            continue
        found.append((repr(name[:30]), known.number if named else 0, list(known.operations())))
    return found


def _settings(number: int) -> int:
    """How many settings of a group gemmi knows."""
    return sum(group.number == number for group in gemmi.spacegroup_table())


def find_by_name(name: str, rhombohedral: bool = False) -> gemmi.SpaceGroup | None:
    """The space group of a Hermann-Mauguin symbol, short or full, None if it is none.

    The setting may stand as ":1", ":H" or, as in ICSD, as "S", "Z", "H" or "R".
    """
    text = " ".join(name.replace("_", "").split())
    setting = _SETTING.search(text)
    if setting:
        choice = {"S": "1", "Z": "2"}.get(setting[1], setting[1])
        text = f"{text[: setting.start()]}:{choice}"
    gamma = 90.0 if rhombohedral else 120.0
    base, colon, choice = text.partition(":")
    for candidate in (base, _short_symbols().get(re.sub(r"\s", "", base).lower(), "")):
        if candidate:
            known = gemmi.find_spacegroup_by_name(candidate + colon + choice, 90.0, gamma)
            if known is not None:
                return known
    return None


@lru_cache(maxsize=1)
def _short_symbols() -> dict[str, str]:
    """Full symbol without spaces → short one: "f4/m-32/m" → "Fm-3m"."""
    import spglib

    found: dict[str, str] = {}
    for hall_number in range(1, 531):
        kind: Any = spglib.get_spacegroup_type(hall_number)
        full = kind.international_full.replace("_", "").replace(" ", "").lower()
        found.setdefault(full, kind.international_short.replace("_", ""))
    return found


@lru_cache(maxsize=256)
def _listed(triplets: tuple[str, ...]) -> Group:
    if len(triplets) > MAX_OPERATIONS:
        raise Refused(f"impossible symmetry: {len(triplets)} operations")
    try:
        operations = [gemmi.Op(triplet).wrap() for triplet in dict.fromkeys(triplets)]
    except (ValueError, RuntimeError) as error:
        raise Refused(f"impossible symmetry: {error}") from error
    unique = list({op.triplet(): op for op in operations}.values())
    unique.sort(key=lambda op: op.triplet() != "x,y,z")
    return _made(unique, _number_of(unique))


def _made(operations: list[gemmi.Op], number: int) -> Group:
    rotations = np.array([op.rot for op in operations], dtype=np.int64) // gemmi.Op.DEN
    translations = np.array([op.tran for op in operations], dtype=np.int64)
    codes = _codes(rotations, translations)
    place = {code: i for i, code in enumerate(codes.tolist())}
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    moved = np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]
    coded = _codes(products.reshape(-1, 3, 3), moved.reshape(-1, 3)).tolist()
    table = np.array([place.get(code, -1) for code in coded], dtype=np.int64)
    if operations[0].triplet() != "x,y,z" or (table < 0).any():
        raise Refused(f"contradictory symmetry: the {len(operations)} operations are no group")
    return Group(
        rotations.astype(np.float64),
        translations / gemmi.Op.DEN,
        table.reshape(len(operations), -1),
        number,
    )


def _codes(rotations: NDArray[np.int64], translations: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each operation; whole translations do not count."""
    digits = np.concatenate(
        [np.clip(rotations, -4, 4).reshape(-1, 9) + 4, translations % gemmi.Op.DEN], axis=1
    )
    bases = np.array([9**k for k in range(9)] + [9**9 * 24**k for k in range(3)], dtype=np.int64)
    return np.asarray(digits @ bases)


def _number_of(operations: list[gemmi.Op]) -> int:
    """Number of the space group whose operations these are, in any setting; 0 if unknown."""
    known = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operations))
    if known is not None:
        return int(known.number)
    import spglib

    try:
        kind = spglib.get_spacegroup_type_from_symmetry(
            np.array([op.rot for op in operations], dtype=np.intc) // gemmi.Op.DEN,
            np.array([op.tran for op in operations]) / gemmi.Op.DEN,
        )
    except Exception:  # of many kinds in its versions; the check of the table follows
        return 0
    return int(kind.number) if kind is not None else 0


def _shown(stated: Stated) -> str:
    shown = stated.name or stated.hall or stated.number
    return repr(shown[:30]) if shown else "an operation"


# -- from sites to atoms -------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Sites:
    """The sites that a block lists.

    Attributes:
        labels: their names. frac: (n, 3). numbers: (n,) atomic numbers.
        errors: (n, 3) rounding of the printed digits of ``frac``.
        multiplicities: (n,) as stated, 0 where they are not.
    """

    labels: Sequence[str]
    frac: NDArray[np.float64]
    numbers: NDArray[np.int64]
    errors: NDArray[np.float64]
    multiplicities: NDArray[np.int64]


def expand(
    sites: Sites, group: Group, lattice: NDArray[np.float64], limits: Limits
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """All atoms of the cell: (m, 3) coordinates, (m,) atomic numbers, and a remark for the user.

    Raises:
        Refused: too many atoms; a multiplicity or a listed image contradicts the operations.
    """
    stabilisers = _stabilisers(sites, group, lattice)
    sizes = [len(group) // len(fixed) for fixed, _ in stabilisers]
    check_size(sum(sizes), limits)  # before any is made
    kept, notes = _without_images(sites, group, sizes)
    atoms, numbers = [], []
    for i in kept:
        fixed, moved = stabilisers[i]
        images = group.rotations @ sites.frac[i] + group.translations
        offsets = images[fixed] - sites.frac[i]
        offsets -= np.round(offsets)
        place = sites.frac[i] + offsets.mean(axis=0)
        first = np.unique(group.table[:, fixed].min(axis=1))
        atoms.append(group.rotations[first] @ place + group.translations[first])
        numbers.append(np.full(len(first), sites.numbers[i]))
        if moved > _EXACT:
            notes.append(
                f"{len(fixed)} images of {sites.labels[i][:20]}, {moved:.2g} Å apart, are one atom"
            )
    return np.concatenate(atoms), np.concatenate(numbers), notes


_Fixed = tuple[NDArray[np.int64], float]
"""Operations that leave a site in place, and how far apart in Å its images are."""


def _stabilisers(sites: Sites, group: Group, lattice: NDArray[np.float64]) -> list[_Fixed]:
    try:
        return [
            _stabiliser(sites, i, group, lattice, int(m))
            for i, m in enumerate(sites.multiplicities)
        ]
    except Refused as contradiction:
        # SHELXL-97 writes the order of the site symmetry where the multiplicity belongs.
        orders = sites.multiplicities
        if not orders.all() or (len(group) % orders).any():
            raise
        try:
            return [
                _stabiliser(sites, i, group, lattice, int(len(group) // m))
                for i, m in enumerate(orders)
            ]
        except Refused:
            raise contradiction from None


def _stabiliser(
    sites: Sites, i: int, group: Group, lattice: NDArray[np.float64], multiplicity: int
) -> _Fixed:
    """Operations that leave site i in place, by its multiplicity or, if that is 0, its digits."""
    site, label = sites.frac[i], sites.labels[i][:20]
    offsets = group.rotations @ site + group.translations - site
    offsets -= np.round(offsets)
    distances = np.linalg.norm(offsets @ lattice, axis=1)
    if multiplicity:
        size, rest = divmod(len(group), multiplicity)
        order = np.argsort(distances, kind="stable")
        fixed = np.sort(order[:size])
        beyond = distances[order[size]] if size < len(group) else np.inf
        if rest or not size or distances[fixed].max() > SPECIAL_POSITION or beyond < SAME_PLACE:
            places = len(group) // max(int((distances < SPECIAL_POSITION).sum()), 1)
            raise Refused(
                f"contradictory symmetry: multiplicity {multiplicity} at {label}, "
                f"the operations make {places} places of it"
            )
    else:
        blur = np.abs(group.rotations - np.eye(3)) @ sites.errors[i] + 1e-9
        meets = (np.abs(offsets) <= blur).all(axis=1) & (distances <= SPECIAL_POSITION)
        fixed = np.flatnonzero(meets)
    if not np.isin(group.table[np.ix_(fixed, fixed)], fixed).all():
        raise Refused(
            f"contradictory symmetry: within its digits {label} lies on no one special position"
        )
    return fixed, float(distances[fixed].max())


def _without_images(
    sites: Sites, group: Group, sizes: Sequence[int]
) -> tuple[list[int], list[str]]:
    """Sites to make atoms of: all, or one of each orbit if a file lists whole orbits.

    Raises:
        Refused: some images of a site are listed as sites, and others are not.
    """
    kept, notes = [], []
    left = set(range(len(sizes)))
    for i in range(len(sizes)):
        if i not in left:
            continue
        kept.append(i)
        others = [j for j in sorted(left) if j > i and sites.numbers[j] == sites.numbers[i]]
        if not others:
            continue
        images = group.rotations @ sites.frac[i] + group.translations
        offsets = images[:, None] - sites.frac[others]
        blur = np.abs(group.rotations) @ sites.errors[i]
        close = np.abs(offsets - np.round(offsets)) <= blur[:, None] + sites.errors[others] + 1e-9
        same = [others[k] for k in np.flatnonzero(close.all(axis=2).any(axis=0))]
        if not same:
            continue
        if len(same) + 1 != sizes[i]:
            raise Refused(
                f"contradictory symmetry: {sites.labels[same[0]][:20]} is listed, and is an image "
                f"of {sites.labels[i][:20]}; {len(same) + 1} of {sizes[i]} images are listed"
            )
        left -= set(same)
        notes.append(f"all {sizes[i]} images of {sites.labels[i][:20]} are listed as sites")
    return kept, notes
