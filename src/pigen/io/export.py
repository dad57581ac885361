"""Bundles to files that other programs read. Nothing half-written ever has the final name."""

from __future__ import annotations

import csv
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pigen.bundle import Bundle, BundleInfo, bundle_info, iter_bundle
from pigen.bundle.memory import convert
from pigen.config.files import EXPORT_FORMATS
from pigen.crystal.crystals import Crystals, wrap
from pigen.crystal.elements import SYMBOLS
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import check_writable, replaced

_SUFFIXES = {"cif": ".cif", "poscar": ".vasp"}
_MAX_NAME = 100
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The same bundle gives the same archive, byte for byte."""


def export_bundle(
    source: str | PathLike[str],
    target: str | PathLike[str],
    form: str,
    *,
    force: bool = False,
    progress: Callable[[Iterator[Bundle]], Iterable[Bundle]] = iter,
) -> int:
    """Write every crystal of a bundle file; return how many.

    "cif" and "poscar" make a folder with one file per crystal, named after its id, or a zip archive
    if the target ends in .zip; "extxyz" and "csv" make one file, in which the per-crystal columns,
    the verdicts and the parents go along ("extxyz" takes the per-atom columns too).

    Args:
        source: a bundle file.
        target: where to write; it appears when it is whole.
        form: one of `EXPORT_FORMATS`.
        force: replace an existing target. A folder is replaced only if all it holds are files of
            the same kind.
        progress: wraps the stream of chunks, to show how far it is.

    Raises:
        UsageError: an unknown format; the target exists, or is no place to write.
        PigenError: the bundle is damaged, or the disk is full.
    """
    target = Path(target)
    if form not in EXPORT_FORMATS:
        raise UsageError(f"no export format {form!r}; there are {', '.join(EXPORT_FORMATS)}")
    suffix = _SUFFIXES.get(form, "")
    check_target(target, force=force, replaceable=suffix)
    info = bundle_info(source)
    chunks = progress(iter_bundle(source))
    if form == "csv":
        with replaced(target) as path, path.open("w", newline="", encoding="utf-8") as file:
            _write_csv(file, info, chunks)
    elif form == "extxyz":
        with replaced(target) as path, path.open("w", encoding="utf-8") as file:
            for chunk in chunks:
                file.writelines(_extxyz(chunk))
    else:
        files = _files(chunks, to_cif if form == "cif" else to_poscar, suffix)
        if target.suffix.lower() == ".zip":
            with replaced(target) as path:
                _write_zip(path, files)
        else:
            _write_folder(target, files)
    return info.n_crystals


def check_target(target: Path, *, force: bool, replaceable: str = "") -> None:
    """Refuse to overwrite what is there.

    Args:
        target: where something is to be written.
        force: overwrite a file, or a folder that holds nothing but files with `replaceable`.
        replaceable: a suffix such as ".cif"; "" if no folder may be replaced.

    Raises:
        UsageError: the target exists and must stay, or the folder it goes into does not exist.
    """
    if not target.absolute().parent.is_dir():
        raise UsageError(f"no such folder: {target.absolute().parent}")
    check_writable(target.absolute().parent)
    if not target.exists():
        return
    if not force:
        raise UsageError(f"{target} exists; --force replaces it")
    if target.is_dir():
        others = [p.name for p in target.iterdir() if not (p.is_file() and p.suffix == replaceable)]
        if others or not replaceable:
            raise UsageError(f"{target} is a folder with other files in it, not to be replaced")


# -- texts ---------------------------------------------------------------------------------------
def to_cif(crystal: Crystals, name: str) -> str:
    """CIF text of one crystal, in P 1 with all its atoms."""
    lattice, frac = _right_handed(crystal)
    lengths = np.linalg.norm(lattice, axis=1)
    unit = lattice / lengths[:, None]
    pairs = ((1, 2), (0, 2), (0, 1))
    angles = [np.degrees(np.arccos(np.clip(unit[i] @ unit[j], -1, 1))) for i, j in pairs]
    cell = [f"_cell_length_{axis} {x:.10f}" for axis, x in zip("abc", lengths, strict=True)]
    cell += [
        f"_cell_angle_{angle} {x:.10f}"
        for angle, x in zip(("alpha", "beta", "gamma"), angles, strict=True)
    ]
    atoms = [
        f"{SYMBOLS[z]} {SYMBOLS[z]}{i} {x:.12f} {y:.12f} {w:.12f} 1"
        for i, (z, (x, y, w)) in enumerate(zip(crystal.atomic_numbers, frac, strict=True), start=1)
    ]
    block = re.sub(r"[^!-~]", "_", name)[:75]
    return "\n".join(
        [
            f"data_{block}",
            *cell,
            "_symmetry_space_group_name_H-M 'P 1'",
            "_symmetry_Int_Tables_number 1",
            "loop_",
            "_symmetry_equiv_pos_as_xyz",
            "'x, y, z'",
            "loop_",
            "_atom_site_type_symbol",
            "_atom_site_label",
            "_atom_site_fract_x",
            "_atom_site_fract_y",
            "_atom_site_fract_z",
            "_atom_site_occupancy",
            *atoms,
            "",
        ]
    )


def to_poscar(crystal: Crystals, name: str) -> str:
    """POSCAR text (VASP 5) of one crystal; its atoms are grouped by element."""
    lattice, frac = _right_handed(crystal)
    numbers = crystal.atomic_numbers
    elements = list(dict.fromkeys(numbers.tolist()))
    order = np.concatenate([np.flatnonzero(numbers == z) for z in elements] or [np.arange(0)])
    rows = [*lattice, *frac[order]]
    lines = ["  ".join(f"{x:.16f}" for x in row) for row in rows]
    return "\n".join(
        [
            " ".join(name.split()),
            "1.0",
            *lines[:3],
            " ".join(SYMBOLS[z] for z in elements),
            " ".join(str(int((numbers == z).sum())) for z in elements),
            "Direct",
            *lines[3:],
            "",
        ]
    )


def _right_handed(crystal: Crystals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(3, 3) cell and (n, 3) coordinates of the same atoms in a right-handed cell.

    CIF has no left-handed cells and VASP refuses them. The cell reversed through the origin holds
    the same crystal, not its mirror image.
    """
    lattice, frac = crystal.lattice[0], crystal.frac_coords
    if np.linalg.det(lattice) < 0:
        return -lattice, wrap(-frac)
    return lattice, frac


# -- one file for all ----------------------------------------------------------------------------
def _write_csv(file: IO[str], info: BundleInfo, chunks: Iterable[Bundle]) -> None:
    names = [name for name, column in info.columns.items() if not column.per_atom]
    writer = csv.writer(file)
    verdicts = [f"verdict_{name}" for name in info.verdicts]
    writer.writerow(["id", "parent", *names, *verdicts, "cif"])
    for chunk in chunks:
        texts = [convert(chunk.columns[name].values, "str") for name in names]
        for i, crystal in enumerate(chunk.crystals):
            writer.writerow(
                [
                    chunk.ids[i],
                    chunk.parents[i],
                    *(column[i] for column in texts),
                    *_verdicts(chunk, i).values(),
                    to_cif(crystal, chunk.ids[i]),
                ]
            )


def _extxyz(chunk: Bundle) -> Iterator[str]:
    """Frames of a chunk as extended XYZ."""
    scalars = {name: c.values for name, c in chunk.columns.items() if not c.per_atom}
    arrays = {name: c for name, c in chunk.columns.items() if c.per_atom and c.kind != "str"}
    types = {"float64": "R", "int64": "I", "bool": "L"}
    properties = "species:S:1:pos:R:3" + "".join(
        f":{_key(name)}:{types[c.kind]}:1" for name, c in arrays.items()
    )
    for i, crystal in enumerate(chunk.crystals):
        atoms = slice(chunk.crystals.ptr[i], chunk.crystals.ptr[i + 1])
        cell = " ".join(_number(x) for x in crystal.lattice[0].ravel())
        words = [f'Lattice="{cell}"', f"Properties={properties}", 'pbc="T T T"']
        words.append(f"id={_quoted(chunk.ids[i])}")
        if chunk.parents[i]:
            words.append(f"parent={_quoted(chunk.parents[i])}")
        words += [f"{_key(name)}={_value(values[i])}" for name, values in scalars.items()]
        words += [f"{_key(n)}={_quoted(text)}" for n, text in _verdicts(chunk, i).items()]
        positions = crystal.frac_coords @ crystal.lattice[0]
        rows = zip(
            (SYMBOLS[z] for z in crystal.atomic_numbers),
            *(map(_number, axis) for axis in positions.T),
            *(map(_value, c.values[atoms]) for c in arrays.values()),
            strict=True,
        )
        yield f"{len(positions)}\n{' '.join(words)}\n"
        yield "".join(" ".join(row) + "\n" for row in rows)


def _verdicts(chunk: Bundle, i: int) -> dict[str, str]:
    return {
        f"verdict_{name}": "passed" if verdict.passed[i] else verdict.reasons[i]
        for name, verdict in chunk.verdicts.items()
    }


def _number(x: Any) -> str:
    return repr(float(x))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool | np.bool_):
        return "T" if value else "F"
    return _number(value) if isinstance(value, float | np.floating) else str(int(value))


def _quoted(text: str) -> str:
    """Text always in quotes: bare, the formula NaN would be read as a number."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{" ".join(escaped.split())}"'


def _key(name: str) -> str:
    return re.sub(r"[\s=:\"']", "_", name)


# -- one file for each ---------------------------------------------------------------------------
def _files(
    chunks: Iterable[Bundle], text: Callable[[Crystals, str], str], suffix: str
) -> Iterator[tuple[str, str]]:
    """(file name, text) of every crystal; names are safe and differ even if case is ignored."""
    taken: set[str] = set()
    for chunk in chunks:
        for i, crystal in enumerate(chunk.crystals):
            name = safe_name(chunk.ids[i])
            k, unique = 1, name
            while unique.lower() in taken:
                k += 1
                unique = f"{name}_{k}"
            taken.add(unique.lower())
            yield unique + suffix, text(crystal, chunk.ids[i])


def safe_name(name: str) -> str:
    """A file name without path, spaces or a leading dot from any text."""
    kept = re.sub(r"[^A-Za-z0-9._+=-]", "_", name).lstrip(".-")
    return kept[:_MAX_NAME] or "structure"


def _write_zip(path: Path, files: Iterable[tuple[str, str]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files:
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text, zipfile.ZIP_DEFLATED)


def _write_folder(target: Path, files: Iterable[tuple[str, str]]) -> None:
    partial = _partial(target)
    shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    partial.mkdir()
    try:
        for name, text in files:
            (partial / name).write_text(text, encoding="utf-8")
        if target.exists():  # `check_target` made sure that it may go
            shutil.rmtree(target)
        os.replace(partial, target)
    except OSError as error:
        raise PigenError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(target: Path) -> Path:
    return target.absolute().with_name(f".{target.name}.partial")
