"""Mutated input: a reader may refuse it in words, and nothing else."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_crystals import PEROVSKITE, QUARTZ

from pigen.io import Limits, read_chunks
from pigen.io.cif_text import to_cif
from pigen.io.entry import Structure
from pigen.io.export import to_poscar
from pigen.io.formats import parse
from pigen.runtime.errors import PigenError

CIF = to_cif(PEROVSKITE, "x")
SYMMETRIC = CIF.replace("'x, y, z'", "'x,y,z'\n'-x,-y,-z'\n'y,z,x'").replace("'P 1'", "'P m -3 m'")
FRAME = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 e=1.5 name="a b" pbc="T T T"
Na 0 0 0
Cl 2 2 2
"""


def seed_csv() -> str:
    file = io.StringIO()
    rows = [["id", "x", "name", "cif"], ["a", "1.5", "NaN", CIF], ["b", "", "", SYMMETRIC]]
    csv.writer(file).writerows(rows)
    return file.getvalue()


SEEDS = {
    "cif": CIF + SYMMETRIC.replace("data_x", "data_y"),
    "vasp": to_poscar(QUARTZ, "x"),
    "extxyz": FRAME * 2,
    "json": json.dumps([QUARTZ.to_pymatgen()[0].as_dict()]),
    "csv": seed_csv(),
}
TOKENS = st.sampled_from(
    (
        *("loop_", "data_", "save_", "'", '"', ";\n", "\n", "\0", "?", ".", "nan", "inf", "-1"),
        *("1e308", "0", "9" * 30, "{", "[", "]", ",", "\t", "\ud800", "Å", "#", "T"),
        "_atom_site_occupancy 0.5",
    )
)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """The text with a few pieces cut, doubled, swapped or replaced."""
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 40)))
        change = draw(st.integers(0, 4))
        piece = text[start:stop]
        if change == 0:
            piece = ""
        elif change == 1:
            piece *= 2
        elif change == 2:
            piece = draw(TOKENS)
        elif change == 3:
            piece = draw(st.text(max_size=8))
        else:
            return text[:start]
        text = text[:start] + piece + text[stop:]
    return text


def read_all(path: Path) -> None:
    """Read as the command line does: only a PigenError may come out, and each entry counts."""
    try:
        chunks = list(read_chunks([path], limits=Limits(max_entry_bytes=2**20)))
    except PigenError:
        return
    for chunk in chunks:
        assert all(reject.reason and reject.id for reject in chunk.rejects)
        assert all("\n" not in reject.reason for reject in chunk.rejects)


FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("suffix", SEEDS)
@FUZZ
@given(data=st.data())
def test_mutated_texts(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    path = tmp_path / f"a.{suffix}"
    text = data.draw(mutated(SEEDS[suffix]))
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_all(path)


@pytest.mark.parametrize("form", ["cif", "poscar", "extxyz", "json"])
@FUZZ
@given(text=st.text())
def test_any_text_at_all(form: str, text: str) -> None:
    for _, found in parse(text, form, Limits()):
        assert isinstance(found, Structure) or str(found)


@FUZZ
@given(data=st.data())
def test_garbled_archives(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", CIF)
        archive.writestr("b/c.cif", SYMMETRIC)
    garble(path, data)
    read_all(path)


@FUZZ
@given(data=st.data())
def test_garbled_parquet(tmp_path: Path, data: st.DataObject) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"cif": [CIF, SYMMETRIC], "x": [1.0, None]}), path)
    garble(path, data)
    read_all(path)


def garble(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
