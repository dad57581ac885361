"""Parts of a run by --shard, and pigen merge: the same data as of one piece, or a clear refusal."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from known_structures import displaced, known_structures
from models import header, model
from real_crystals import assert_same

from pigen.bundle import (
    Bundle,
    BundleWriter,
    Column,
    bundle_info,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.cli.common import provenance_of
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.seed import csp_seed
from pigen.model.checkpoint import save_checkpoint
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import SerialExecutor
from pigen.runtime.shard import Shard

NAMES = sorted(known_structures())
CHUNK = 12
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


def small(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Chunks of so many entries."""
    monkeypatch.setattr("pigen.io.sources.CHUNK", size)


@pytest.fixture(autouse=True)
def small_chunks_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks of few structures, and a time of making that does not differ."""

    def at_once(made_by: str, sources: Any, **more: Any) -> dict[str, str]:
        made = provenance_of(made_by, sources, **more)
        return {**made, "created": "2026-01-01T00:00:00+00:00"}

    small(monkeypatch, CHUNK)
    monkeypatch.setattr("pigen.bundle.writing.sync", lambda path: None)  # slow disks
    monkeypatch.setattr(
        "pigen.io.sources.open_executor", lambda where: nullcontext(SerialExecutor())
    )
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


def assert_same_data(one: Path, other: Path) -> None:
    """Equal entries, values, order, counts and provenance; what differs is named."""
    assert_same(*(comparable(read_bundle(path)) for path in (one, other)))
    for path in (one, other):
        ids = [*read_bundle(path).ids, *(reject.id for reject in read_bundle(path).rejects)]
        assert len(set(ids)) == len(ids)
    infos = [bundle_info(path) for path in (one, other)]
    assert infos[0].provenance == infos[1].provenance
    assert json.loads(infos[0].state or "{}") == json.loads(infos[1].state or "{}")


def comparable(bundle: Bundle) -> Bundle:
    """A bundle with columns, and what each was made from, in alphabetical order.

    The number that an entry gets whose name was taken may differ in parts and in one piece.
    """
    columns = {
        name: replace(column, source="; ".join(sorted(column.source.split("; "))))
        for name, column in sorted(bundle.columns.items())
    }
    rejects = tuple(replace(reject, id=name_given(reject.id)) for reject in bundle.rejects)
    ids = strings(map(name_given, bundle.ids))
    return replace(bundle, columns=columns, rejects=rejects, ids=ids)


def name_given(name: str) -> str:
    """The name of an entry in its source."""
    return re.sub(r"(#\d+)+$", "", name)


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
    assert "--shard" in said
    assert "expected i/n" in said


# -- merged = unsharded ---------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_labels_merge_to_the_same_data(sources: list[Path], tmp_path: Path, count: int) -> None:
    whole, merged = tmp_path / "whole.h5", tmp_path / "merged.h5"
    label = ["label", *sources, "--columns", "c"]
    pigen(*label, "-o", whole)
    shards = sharded(count, tmp_path / "part.h5", *label)
    pigen("merge", *reversed(shards), "-o", merged)
    assert_same_data(whole, merged)
    info = bundle_info(merged)
    assert info.n_rejects > 3
    assert "mp-1#2" in read_bundle(merged).ids
    empty = [path for path in shards if not bundle_info(path).n_crystals]
    assert bool(empty) == (count == 7)


def test_filters_merge_to_the_same_data_and_counts(sources: list[Path], tmp_path: Path) -> None:
    whole, merged = tmp_path / "whole.h5", tmp_path / "merged.h5"
    judge = ["filter", *sources, "--c", "0.55:0.85", "--min-distance", "2"]
    counts = json.loads(pigen(*judge, "-o", whole, "--json").stdout)
    shards = sharded(3, tmp_path / "part.h5", *judge)
    said = json.loads(pigen("merge", *shards, "-o", merged, "--json").stdout)
    assert_same_data(whole, merged)
    assert said["counts"]["unread"] == counts["unreadable"] > 0
    assert said["counts"]["judged"] + said["counts"]["unread"] == counts["read"]
    assert said["counts"]["left"]["c"] == counts["kept"] > 0
    assert said["counts"]["reasons"] == counts["reasons"]
    shown = pigen("merge", *shards, "-o", merged, "--force").stdout
    assert f"{counts['kept']:7d}  c" in shown


def test_relaxations_merge_to_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crystals that have names of their own are named after those of the whole stream."""
    monkeypatch.setattr("pigen.energy.stage.CHUNK", {"cpu": 2})
    copper = known_structures()["Cu"].crystals
    crystals = Crystals.concatenate([displaced(copper, 0.05, seed) for seed in range(5)])
    source = tmp_path / "in.h5"
    names = ["a", "a-relaxed", "a", "a", "b"]
    write_bundle(source, Bundle(crystals=crystals, ids=strings(names)))
    relax = ["energy", source, "--model", "ase.calculators.emt:EMT", "--device", "cpu"]
    pigen(*relax, "-o", tmp_path / "whole.h5")
    shards = sharded(4, tmp_path / "part.h5", *relax)  # the last has nothing
    pigen("merge", *shards, "-o", tmp_path / "merged.h5")
    assert_same_data(tmp_path / "whole.h5", tmp_path / "merged.h5")
    found = read_bundle(tmp_path / "merged.h5")
    assert list(found.parents) == ["a", "a-relaxed", "a#2", "a#3", "b"]
    assert list(found.ids) == [f"{parent}-relaxed" for parent in found.parents]


@pytest.mark.parametrize("count", [2, 4])
def test_samples_merge_to_the_same_data(tmp_path: Path, count: int) -> None:
    made = header()
    save_checkpoint(tmp_path / "m.safetensors", model(made, torch.float32).state_dict(), made)
    draw = ["sample", "pigen_mled_c", "--checkpoint", tmp_path / "m.safetensors"]
    draw += ["--set", "sample.n=8", "--set", "sample.steps=2", "--set", "sample.batch_size=3"]
    pigen(*draw, "-o", tmp_path / "whole.h5")
    shards = sharded(count, tmp_path / "part.h5", *draw)
    pigen("merge", *shards, "-o", tmp_path / "merged.h5")
    assert_same_data(tmp_path / "whole.h5", tmp_path / "merged.h5")


@pytest.mark.parametrize("stopped_after", [0, 1])
def test_a_shard_goes_on_where_it_was_stopped(
    sources: list[Path], tmp_path: Path, stopped_after: int
) -> None:
    whole, part, merged = (tmp_path / name for name in ("whole.h5", "part.h5", "merged.h5"))
    label = ["label", *sources, "--columns", "c"]
    written, calls = BundleWriter.append, 0

    def killed(self: BundleWriter, *args: Any) -> None:
        nonlocal calls
        if calls == stopped_after:
            raise KeyboardInterrupt
        calls += 1
        written(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleWriter, "append", killed)
        pigen(*label, "-o", part, "--shard", "1/2", expect=130)
    if stopped_after:
        said = refusal("merge", tmp_path / "part.1-of-2.h5", "-o", merged)
        assert "incomplete: finish shard 1/2 with --resume" in said
    label.append("--resume")
    pigen(*label, "-o", whole)
    pigen("merge", *sharded(2, part, *label), "-o", merged)
    assert_same_data(whole, merged)


@pytest.mark.slow
def test_searches_are_shared_out(tmp_path: Path) -> None:
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    metals = [13, 28, 29, 46, 47, 78, 79]  # that the potential knows: 14 searches, in groups of 4
    crystals = [Crystals.single(fcc * 4.0, [[0, 0, 0]], [z]) for z in metals]
    made = Bundle(crystals=Crystals.concatenate(crystals), ids=strings(map(str, metals)))
    settings = Settings(rmax=1, initial=1, iterations=10, steps=5)
    folder = tmp_path / "csp"
    csp_seed(made, Request(choice="random", settings=settings), folder)
    run = ["csp-run", folder, "--model", "ase.calculators.emt:EMT", "--device", "cpu", "--json"]
    searches = [json.loads(pigen(*run, "--shard", f"{i}/3").stdout)["searches"] for i in (1, 2, 3)]
    assert searches == [6, 4, 4]
    everything = json.loads(pigen(*run).stdout)
    assert (everything["searches"], everything["ended"], everything["relaxations"]) == (14, 14, 0)


# -- what cannot be merged ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three shards of a run over a bundle of nine chunks."""
    folder = tmp_path_factory.mktemp("three")
    crystals = Crystals.concatenate([known_structures()[name].crystals for name in NAMES[:9]])
    source = folder / "in.h5"
    write_bundle(source, Bundle(crystals=crystals, ids=strings(NAMES[:9])))
    with pytest.MonkeyPatch.context() as patch:
        small(patch, 1)
        patch.setattr("pigen.io.sources.open_executor", lambda where: nullcontext(SerialExecutor()))
        return sharded(3, folder / "part.h5", "label", source, "--columns", "c")


def edited(path: Path, at: Path, change: Callable[[h5py.File], None]) -> Path:
    shutil.copyfile(path, at)
    with h5py.File(at, "r+") as file:
        change(file)
    return at


def test_a_missing_shard_is_named(three: list[Path], tmp_path: Path) -> None:
    said = refusal("merge", three[0], three[2], "-o", tmp_path / "b.h5")
    assert "missing of 3 shards: 2" in said
    assert not (tmp_path / "b.h5").exists()


def test_one_shard_given_twice_is_named(three: list[Path], tmp_path: Path) -> None:
    said = refusal("merge", *three, three[1], "-o", tmp_path / "b.h5")
    assert f"{three[1]} and {three[1]} are both shard 2/3" in said


def test_shards_of_different_runs_are_told_apart_by_the_key(
    three: list[Path], tmp_path: Path
) -> None:
    def other(file: h5py.File) -> None:
        file["provenance"].attrs["label c"] = "another way"

    odd = edited(three[1], tmp_path / "odd.h5", other)
    said = refusal("merge", three[0], odd, three[2], "-o", tmp_path / "b.h5")
    assert f"{odd} is of another run than {three[0]}: label c is 'another way'" in said


def test_shards_of_different_numbers_do_not_mix(three: list[Path], tmp_path: Path) -> None:
    def of_four(file: h5py.File) -> None:
        file["provenance"].attrs["shard"] = "2/4"

    odd = edited(three[1], tmp_path / "odd.h5", of_four)
    said = refusal("merge", three[0], odd, three[2], "-o", tmp_path / "b.h5")
    assert f"{odd} is of another run" in said
    assert "number of shards is '4', not '3'" in said


def test_a_shard_of_a_source_that_changed_is_named(three: list[Path], tmp_path: Path) -> None:
    def shorter(file: h5py.File) -> None:
        file["shard/chunks"].resize(1, axis=0)

    odd = edited(three[2], tmp_path / "odd.h5", shorter)
    said = refusal("merge", *three[:2], odd, "-o", tmp_path / "b.h5")
    assert f"{odd} ends before the others" in said


def test_what_is_no_shard_cannot_be_merged(three: list[Path], tmp_path: Path) -> None:
    source = three[0].with_name("in.h5")
    assert f"{source} is no shard" in refusal("merge", source, "-o", tmp_path / "b.h5")
    assert "is a source too" in refusal("merge", *three, "-o", three[0], "--force")


@pytest.mark.parametrize("record", [[3, -1, 0], [3, 99, 0], [3, 1, 7]])
def test_a_damaged_record_is_no_crash(three: list[Path], tmp_path: Path, record: list[int]) -> None:
    def damage(file: h5py.File) -> None:
        file["shard/chunks"][1] = record

    odd = edited(three[0], tmp_path / "odd.h5", damage)
    said = pigen("merge", odd, *three[1:], "-o", tmp_path / "b.h5", expect=1).stderr
    assert f"{odd} is damaged" in said


@pytest.mark.parametrize(("first", "second"), [("[]", "{}"), ('{"a":1}', '{"a":{}}')])
def test_counts_of_other_kinds_are_no_crash(
    three: list[Path], tmp_path: Path, first: str, second: str
) -> None:
    def note(text: str) -> Callable[[h5py.File], None]:
        return lambda file: file.attrs.update(state=text)

    one = edited(three[0], tmp_path / "one.h5", note(first))
    other = edited(three[1], tmp_path / "other.h5", note(second))
    said = pigen("merge", one, other, three[2], "-o", tmp_path / "b.h5", expect=1).stderr
    assert f"{one if first == '[]' else other} is damaged" in said


def test_names_that_occur_twice_cannot_be_joined_in_parts(
    sources: list[Path], tmp_path: Path
) -> None:
    values = tmp_path / "values.csv"
    values.write_text("id,density\nmp-0,1.5\n")
    label = ["label", *sources, "--columns", "c", "--values", values]
    shards = sharded(2, tmp_path / "part.h5", *label)
    said = pigen("merge", *shards, "-o", tmp_path / "b.h5", expect=1).stderr
    assert "two entries named 'mp-" in said
    assert "label without --shard" in said
