"""Parts of a run by --shard, and pigen merge: the same bundle to the byte, or a clear refusal."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from known_structures import known_structures
from pigen.bundle import (
    Bundle,
    Column,
    bundle_info,
    iter_bundle,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.cli import common as cli_common
from pigen.cli.data import provenance_of
from pigen.crystals import Crystals
from pigen.errors import UsageError
from pigen.shard import Shard

NAMES = sorted(known_structures())
CHUNK = 4
"""Entries of a chunk in these tests."""


def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    return result


def refusal(*args: str | Path) -> str:
    """The one line that a command ends with which is refused."""
    said = pigen(*args, expect=2).stderr
    assert said.count("\n") == 1
    return said


@pytest.fixture(autouse=True)
def small_chunks_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of few structures, and a time of making that does not differ."""

    def at_once(made_by: str, sources: Any) -> dict[str, str]:
        return {**provenance_of(made_by, sources), "created": "2026-01-01T00:00:00+00:00"}

    monkeypatch.setattr(cli_common, "CHUNK", CHUNK)
    for verb in ("label", "filter", "energy"):
        monkeypatch.setattr(f"pigen.cli.{verb}.provenance_of", at_once)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """A table with broken rows, one with other columns and the same ids, many frames, a bundle."""
    crystals = [known_structures()[name].crystals for name in NAMES]
    cifs = [crystal.to_pymatgen()[0].to(fmt="cif") for crystal in crystals]
    first, second = tmp_path / "first.csv.gz", tmp_path / "second.csv"
    with gzip.open(first, "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "e_above_hull", "cif"])
        for i, cif in enumerate(cifs):
            rows.writerow([f"mp-{i // 2}", "" if i % 2 else 0.01 * i, cif])
            if i % 3 == 0:
                rows.writerow([f"mp-{i}", 0.0, "data_broken\n_cell_length_a ?"])
    with second.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "maker", "band_gap", "cif"])
        for i, cif in enumerate(cifs[:9]):
            rows.writerow([f"mp-{i}", f"maker {i}", i, cif])
    frames = tmp_path / "frames.extxyz"
    text = ""
    for i, crystal in enumerate((crystals * 2)[: 2 * CHUNK + 1]):
        lattice = " ".join(f"{x:.6f}" for x in crystal.lattice[0].ravel())
        symbols = [site.specie.symbol for site in crystal.to_pymatgen()[0]]
        xyz = crystal.frac_coords @ crystal.lattice[0]
        text += f'{len(symbols)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 rank={i}\n'
        text += "".join(
            f"{s} {x:.6f} {y:.6f} {z:.6f}\n" for s, (x, y, z) in zip(symbols, xyz, strict=True)
        )
    frames.write_text(text)
    bundle = tmp_path / "before.h5"
    column = Column(np.arange(5), "", "counted")
    write_bundle(
        bundle,
        Bundle(
            crystals=Crystals.concatenate(crystals[:5]),
            ids=strings(["mp-0", "mp-1", "x", "mp-1#2", "y"]),
            columns={"rank": column, "first": column},
        ),
    )
    return [first, second, frames, bundle]


def sharded(count: int, output: Path, *args: str | Path) -> list[Path]:
    """The shards of a run."""
    for i in range(1, count + 1):
        pigen(*args, "-o", output, "--shard", f"{i}/{count}")
    return [output.with_name(f"{output.stem}.{i}-of-{count}.h5") for i in range(1, count + 1)]


def assert_same_file(one: Path, other: Path) -> None:
    """Equal to the byte; what differs is named."""
    with h5py.File(one) as a, h5py.File(other) as b:
        assert content(a) == content(b)
    assert one.read_bytes() == other.read_bytes()


def content(file: h5py.File) -> dict[str, Any]:
    found: dict[str, Any] = {"/": dict(file.attrs), "order": list(file["columns"])}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        values = item[()].tolist() if isinstance(item, h5py.Dataset) else None
        found[name] = repr(values), {key: repr(value) for key, value in item.attrs.items()}

    file.visititems(visit)
    return found


# -- which part -----------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_chunk_is_of_one_shard(count: int) -> None:
    shards = [Shard(i, count) for i in range(1, count + 1)]
    owned = {k: shard.index for shard in shards for k in shard.own(range(11))}
    assert sorted(owned) == list(range(11))
    for shard in shards:
        own = list(shard.own(range(11)))
        assert own == [shard.number(place) for place in range(len(own))]


def test_a_shard_reads_its_source_to_the_end() -> None:
    seen = []

    def chunks() -> Iterator[int]:
        for k in range(10):
            seen.append(k)
            yield k

    assert list(Shard(1, 7).own(chunks())) == [0, 7]
    assert seen == list(range(10))


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.0/4"])
def test_what_is_no_shard_is_refused(text: str, sources: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected i/n with 1 ≤ i ≤ n, like 3/8"):
        Shard.parse(text)
    said = refusal("label", sources[0], "-o", tmp_path / "b.h5", "--shard", text)
    assert "--shard" in said and "expected i/n" in said


# -- merged = unsharded ---------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_labels_merge_to_the_byte(sources: list[Path], tmp_path: Path, count: int) -> None:
    whole, merged = tmp_path / "whole.h5", tmp_path / "merged.h5"
    label = ["label", *sources, "--columns", "c", "--executor", "local:1"]
    pigen(*label, "-o", whole)
    shards = sharded(count, tmp_path / "part.h5", *label)
    pigen("merge", *reversed(shards), "-o", merged)
    assert_same_file(whole, merged)
    info = bundle_info(merged)
    assert info.n_rejects > 3
    assert "mp-1#2" in read_bundle(merged).ids
    empty = [path for path in shards if not bundle_info(path).n_crystals]
    assert bool(empty) == (count == 40)
