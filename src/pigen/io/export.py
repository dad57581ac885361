"""Bundles to files that other programs read. Nothing half-written ever has the final name."""

from __future__ import annotations

import csv
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from pigen.bundle import Bundle, BundleInfo, bundle_info, iter_bundle
from pigen.bundle.columns import convert
from pigen.config.files import EXPORT_FORMATS
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.io.cif_text import right_handed, to_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import check_writable, numbered, replaced

GENBENCH = 2500
"""Structures that a submission to LeMat-GenBench has."""
_SUFFIXES = {"cif": ".cif", "poscar": ".vasp"}
_MAX_NAME = 100
_DEVICE = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)\d)(?=\.|$)", re.IGNORECASE)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The same bundle gives the same archive, byte for byte."""


def export_bundle(
    source: str | PathLike[str],
    target: str | PathLike[str],
    form: str,
    *,
    force: bool = False,
    symprec: float | None = None,
    most: int | None = None,
    progress: Callable[[Iterator[Bundle]], Iterable[Bundle]] = iter,
) -> int:
    """Write the crystals of a bundle file; return how many.

    "cif" and "poscar" make a folder with one file per crystal, named after its id, or a zip archive
    if the target ends in .zip; "extxyz" and "csv" make one file, in which the per-crystal columns,
    the verdicts and the parents go along ("extxyz" takes the per-atom columns too).

    Args:
        source: a bundle file.
        target: where to write; it appears when it is whole.
        form: one of `EXPORT_FORMATS`.
        force: replace an existing target. A folder is replaced only if all it holds are files of
            the same kind.
        symprec: in "cif", list the operations that spglib finds within this tolerance in Å, and one
            atom of each orbit; None for P 1 with all atoms.
        most: write no more than the first so many crystals; None for all.
        progress: wraps the stream of chunks, to show how far it is.

    Raises:
        UsageError: an unknown format; the target exists, or is no place to write.
        PigenError: the bundle is damaged, or the disk is full.
    """
    target = Path(target)
    if form not in EXPORT_FORMATS:
        raise UsageError(f"no export format {form!r}; there are {', '.join(EXPORT_FORMATS)}")
    if symprec is not None and (form != "cif" or symprec <= 0):
        raise UsageError("symmetry goes into CIF alone, with a tolerance above 0 Å")
    suffix = _SUFFIXES.get(form, "")
    check_target(target, force=force, replaceable=suffix)
    info = bundle_info(source)
    n = info.n_crystals if most is None else min(most, info.n_crystals)
    chunks = progress(_first(iter_bundle(source), n))
    if form == "csv":
        with replaced(target) as path, path.open("w", newline="", encoding="utf-8") as file:
            _write_csv(file, info, chunks)
    elif form == "extxyz":
        with replaced(target) as path, path.open("w", encoding="utf-8") as file:
            for chunk in chunks:
                file.writelines(_extxyz(chunk))
    else:
        text = partial(to_cif, symprec=symprec) if form == "cif" else to_poscar
        files = _files(chunks, text, suffix)
        if target.suffix.lower() == ".zip":
            with replaced(target) as path:
                _write_zip(path, files)
        else:
            write_folder(target, files)
    return n


def _first(chunks: Iterable[Bundle], n: int) -> Iterator[Bundle]:
    """The first n crystals of a stream of chunks."""
    for chunk in chunks:
        if len(chunk) >= n:
            yield chunk if len(chunk) == n else chunk.select(slice(0, n))
            return
        n -= len(chunk)
        yield chunk


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
def to_poscar(crystal: Crystals, name: str) -> str:
    """POSCAR text (VASP 5) of one crystal; its atoms are grouped by element."""
    lattice, frac = right_handed(crystal)
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
            unique = numbered(safe_name(chunk.ids[i]), taken)
            taken.add(unique.lower())
            yield unique + suffix, text(crystal, chunk.ids[i])


def safe_name(name: str) -> str:
    """A file name for any system from any text: no path, no spaces, no leading or last dot.

    Names that Windows keeps for devices, with any suffix, get an underscore in front.
    """
    kept = re.sub(r"[^A-Za-z0-9._+=-]", "_", name).lstrip(".-")[:_MAX_NAME].rstrip(".")
    if _DEVICE.match(kept):
        kept = f"_{kept[: _MAX_NAME - 1]}"
    return kept or "structure"


def _write_zip(path: Path, files: Iterable[tuple[str, str]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files:
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text, zipfile.ZIP_DEFLATED)


def write_folder(target: Path, files: Iterable[tuple[str, str]]) -> None:
    """A folder of files, each a name and its text; one that is there is replaced, when all is well.

    Raises:
        PigenError: the disk is full, or another reason why nothing can be written.
    """
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
