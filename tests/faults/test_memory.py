"""Files far larger than memory, or that say they are: handled or refused within 1 GB and 30 s."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from textwrap import dedent
from typing import Any

import h5py
import pytest
from real_crystals import ALL, bundle_of

from pigen.bundle import write_bundle
from pigen.io.cif_text import to_cif

pytestmark = pytest.mark.slow

GB = 10**9
SECONDS = 30
"""Of CPU: the wall clock tells of what else the machine does."""


def reads(path: Path, tmp_path: Path, chunks: int = 10**9) -> dict[str, Any]:
    """Read a source in a process of its own, as far as asked for, and measure it."""
    code = dedent(
        f"""
        import json, resource, warnings
        from itertools import islice
        from pigen.runtime.errors import PigenError
        from pigen.io import read_chunks
        kept = rejects = 0
        refused = ""
        reasons = set()
        try:
            for chunk in islice(read_chunks([{str(path)!r}]), {chunks}):
                kept, rejects = kept + len(chunk), rejects + len(chunk.rejects)
                reasons |= {{reject.reason for reject in chunk.rejects}}
        except PigenError as error:
            refused = str(error)
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps(dict(
            kept=kept, rejects=rejects, refused=refused, reasons=sorted(reasons)[:5],
            mb=used.ru_maxrss / 1000, seconds=used.ru_utime + used.ru_stime,
        )))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"\nmemory {path.name}: {found}")
    assert found["mb"] < 1000
    assert found["seconds"] < SECONDS
    return found


def write_rows(path: Path, head: str, rows: str, size: int) -> None:
    with path.open("w", newline="") as file:
        file.write(head)
        for _ in range(size // len(rows)):
            file.write(rows)


def test_csv_of_2_gb_of_structures(tmp_path: Path) -> None:
    """Gone through once for the kinds of its columns, then chunk by chunk."""
    rows = io.StringIO()
    csv.writer(rows).writerows([f"a{i}", i / 7, to_cif(ALL[i % 4], "x")] for i in range(700))
    path = tmp_path / "a.csv"
    write_rows(path, "id,x,cif\n", rows.getvalue(), 2 * GB)
    assert path.stat().st_size > 1.99 * GB
    found = reads(path, tmp_path, chunks=2)
    path.unlink()
    assert found["kept"] == 2000


def test_csv_of_2_gb_without_an_end_of_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,cif\na,")
    os.truncate(path, 2 * GB)  # takes no room on the disk
    found = reads(path, tmp_path)
    assert found["rejects"] == 1
    assert "--max-entry-mib" in found["reasons"][0]


def test_csv_of_2_gb_of_short_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_rows(path, "id,cif\n", "a,b\n" * 100_000, 2 * GB)
    found = reads(path, tmp_path)
    path.unlink()
    assert "more than 10000000 entries (--max-entries)" in found["refused"]


def deflated_zeros(blocks: int) -> tuple[bytes, int]:
    """A deflate stream of so many blocks of 16 MiB of zeros, and what it unpacks to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * blocks + b"\x03\x00", blocks * 2**24


def write_zip(path: Path, packed: bytes, size: int) -> None:
    """An archive of one member, whose list says that it unpacks to a size (zip64)."""
    name = b"a.cif"
    extra = struct.pack("<2H2Q", 1, 16, size, len(packed))
    big = 2**32 - 1
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 8, 0, 33, 0, big, big, len(name), len(extra))
    member = struct.pack(
        "<4s6H3L5H2L",
        *(b"PK\1\2", 45, 45, 0, 8, 0, 33, 0, big, big, len(name), len(extra), 0, 0, 0, 0, 0),
    )
    listed = member + name + extra
    at = len(local) + len(name) + len(extra) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(listed), at, 0)
    path.write_bytes(local + name + extra + packed + listed + end)


def test_zip_that_unpacks_to_100_gb(tmp_path: Path) -> None:
    packed, size = deflated_zeros(6000)
    assert size > 100 * GB
    path = tmp_path / "a.zip"
    write_zip(path, packed, size)
    found = reads(path, tmp_path)
    assert found["rejects"] == 1
    assert "oversized: a zip member packed 1" in found["reasons"][0]
    write_zip(path, packed, 2**20)  # a lie
    found = reads(path, tmp_path)
    path.unlink()
    assert found["rejects"] == 1
    assert "unreadable zip member" in found["reasons"][0]


def test_gzip_that_unpacks_to_100_gb(tmp_path: Path) -> None:
    packed, _ = deflated_zeros(6000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3" + packed + bytes(8))
    assert "packed more than 200 to 1" in reads(path, tmp_path)["refused"]
    path.unlink()


@pytest.mark.parametrize("packed", [False, True])
def test_bundle_that_declares_a_trillion_rows(tmp_path: Path, packed: bool) -> None:
    path, n = tmp_path / "a.h5", 10**12
    write_bundle(path, bundle_of(5))
    with h5py.File(path, "r+") as file:
        for name in ("crystals/lattice", "id", "parent", "columns/energy"):
            if packed and name == "crystals/lattice":
                lattice = file[name][()]
                del file[name]
                file.create_dataset(name, data=lattice, maxshape=(None, 3, 3), compression=9)
            file[name].resize(n, axis=0)
        file["crystals/ptr"].resize(n + 1, axis=0)
        file.attrs["n_crystals"] = n
    assert "declares" in reads(path, tmp_path)["refused"]


def test_texts_at_the_limit(tmp_path: Path) -> None:
    """What 64 MiB can hold of the smallest values there are."""
    size = 64 * 2**20 - 100
    for name, text in (
        ("a.json", "[" + "[]," * (size // 3) + "[]]"),
        ("b.json", "[" + '{"a":1},' * (size // 16 // 2) + "1]"),
        ("c.json", '{"lattice":{"a":[' + "1.5," * 3_900_000 + "1]}}"),
        ("a.cif", "data_a loop_ _cell_length_a " + "1 " * (size // 2)),
        ("b.cif", "data_a loop_ _cell_length_a " + "1\n" * 4_100_000),
        ("c.cif", "data_a\n_cell_length_a 1\n" * 260_000),
        ("a.vasp", "a\n1\n1 0 0\n0 1 0\n0 0 1\nNa\n1\nDirect\n" + "0 0 0\n" * (size // 6)),
        ("b.vasp", "a " * (size // 2)),
        ("a.extxyz", "9999999\n\n" + "a\n" * (size // 2)),
    ):
        path = tmp_path / name
        path.write_text(text)
        found = reads(path, tmp_path)
        assert found["rejects"] + found["kept"] >= 1, name
        path.unlink()
