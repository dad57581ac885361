"""Files made to do harm: each is refused, or its harm counted as a reject, soon and in one line."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from readers import READERS
from real_crystals import NACL, QUARTZ, bundle_of

from pigen.bundle import read_bundle, write_bundle
from pigen.cli import main
from pigen.config.files import MAX_ATOMS, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_FILE_BYTES
from pigen.io import Limits, read, read_chunks
from pigen.io.cif_text import to_cif
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import MAX_RATIO, MAX_SIDE_FILE_BYTES

CIF = to_cif(NACL, "NaCl")
MIB = 2**20


def reasons(path: Path, limits: Limits | None = None) -> list[str]:
    return [reject.reason for reject in read(path, limits=limits).rejects]


def refusal(call: Callable[[], Any]) -> str:
    """The one line that a call is refused with."""
    with pytest.raises(PigenError) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    return said


@contextmanager
def seconds(most: float) -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < most


# -- texts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "\n" * 2_000_000 + "x",
        " \n" * 500_000 + "x",
        "_x " + "a " * 500_000 + "'",
        "data_x\n_x " + "a " * 500_000 + "'\n",
        "data_x\nloop_\n_atom_site_fract_x\n" + "1 " * 500_000,
        "data_" * 200_000,
    ],
)
def test_cif_that_would_take_for_ever(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.cif").write_text(text)
    with seconds(5):
        assert len(reasons(tmp_path / "a.cif")) == 1


def test_more_values_than_memory_holds(tmp_path: Path) -> None:
    limits = Limits(max_entry_bytes=MIB, max_file_bytes=MIB)
    (tmp_path / "a.json").write_text("[" + "[]," * 300_000 + "[]]")
    (tmp_path / "a.cif").write_text("data_a loop_ _cell_length_a " + "1 " * 500_000)
    (tmp_path / "b.cif").write_text("data_a _cell_length_a 1\n" * 20_000)
    for name in ("a.json", "a.cif", "b.cif"):
        (reason,) = reasons(tmp_path / name, limits)
        assert "oversized" in reason
    (tmp_path / "c.json").write_text("[" * 100_000)
    assert "nested too deeply" in reasons(tmp_path / "c.json")[0]


def test_lines_of_a_trajectory(tmp_path: Path) -> None:
    for text in (
        "1\n" + "a" * 60_000 + "\nH 0 0 0\n",
        "1\n" + "a " * 30_000 + "\nH 0 0 0\n",
        "1\n" + 'a="' * 20_000 + "\nH 0 0 0\n",
        "1\n" + "a" * 5_000_000 + "\nH 0 0 0\n",
        "9" * 18 + "\n" + "\n" * 1_000_000,
    ):
        (tmp_path / "a.extxyz").write_text(text)
        with seconds(5):
            assert reasons(tmp_path / "a.extxyz")
    keys = " ".join(f"k{i}=1" for i in range(1001))
    (tmp_path / "a.extxyz").write_text(f'1\nLattice="4 0 0 0 4 0 0 0 4" {keys}\nH 0 0 0\n')
    assert reasons(tmp_path / "a.extxyz") == [
        "oversized: more than 1000 values by name (MAX_COLUMNS)"
    ]
    (tmp_path / "a.extxyz").write_text('1\nLattice="4 0 0 0 4 0 0 0 4" .=1 /=x\nH 0 0 0\n')
    assert set(read(tmp_path / "a.extxyz").columns) == {"value", "_"}


def test_coordinates_that_are_not_three_for_each_atom(tmp_path: Path) -> None:
    structure = NACL.to_pymatgen()[0].as_dict()
    structure["sites"] = [{**structure["sites"][0], "abc": [0, 0, 0, 0.5, 0.5, 0.5]}]
    (tmp_path / "a.json").write_text(json.dumps(structure))
    assert reasons(tmp_path / "a.json") == ["no coordinates: not three numbers for each of 1 atoms"]


# -- files, folders, archives --------------------------------------------------------------------
@pytest.mark.parametrize("name", ["a.csv.gz", "a.cif.gz", "a.json.gz", "a.extxyz.gz"])
def test_gzip_bombs(tmp_path: Path, name: str) -> None:
    bomb = gzip.compress(bytes(50 * MIB))
    (tmp_path / name).write_bytes(bomb)
    with seconds(5):
        try:
            said = " ".join(reasons(tmp_path / name))
        except UsageError as error:
            said = str(error)
    words = (f"packed more than {MAX_RATIO} to 1", "--max-", "no atom count")
    assert any(word in said for word in words)


def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.cif")
    assert "not a regular file" in refusal(lambda: read(tmp_path / "a.cif"))
    (tmp_path / "b.cif").write_text(CIF)
    bundle = read(tmp_path)
    assert bundle.ids.tolist() == ["b"]
    assert "not a regular file" in bundle.rejects[0].reason
    assert "not a regular file" in refusal(lambda: read(Path("/dev/zero")))


def test_zip_members_packed_in_other_ways(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.cif", CIF)
        archive.writestr("b.cif", CIF, zipfile.ZIP_LZMA)
        archive.writestr("c.zip", CIF)
    bundle = read(tmp_path / "a.zip")
    assert bundle.ids.tolist() == ["a"]
    assert [r.reason for r in bundle.rejects] == [
        "unreadable zip member: packed by method 14",
        "unreadable archive: File is not a zip file; the rest of it was not read",
    ]


def overlapping(path: Path, times: int) -> None:
    """An archive whose members are all the same bytes."""
    text = np.random.default_rng(0).integers(48, 58, 100_000, dtype=np.uint8).tobytes() * 10
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", text[: 15 * MIB])
    content = path.read_bytes()
    at, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    members = content[at:end] * times
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, times, times, len(members), at, 0)
    path.write_bytes(content[:at] + members + tail)


def test_zip_of_members_that_share_their_bytes(tmp_path: Path) -> None:
    overlapping(tmp_path / "a.zip", 60_000)
    with seconds(10):
        said = refusal(lambda: read(tmp_path / "a.zip"))
    assert f"more than {MAX_RATIO} times its size" in said


def test_zip_of_too_many_members(tmp_path: Path) -> None:
    overlapping(tmp_path / "a.zip", 20_000)
    said = refusal(lambda: read(tmp_path / "a.zip", limits=Limits(max_file_bytes=MIB)))
    assert "too long for --max-file-mib 1" in said


def test_csv_row_of_many_large_fields(tmp_path: Path) -> None:
    row = ",".join('"' + "x" * 900_000 + '"' for _ in range(50))
    (tmp_path / "a.csv").write_text(f"id,cif\n{row}\na,b\n")
    limits = Limits(max_entry_bytes=MIB)
    (reason,) = reasons(tmp_path / "a.csv", limits)
    assert "row over 1 MiB (--max-entry-mib" in reason
    (tmp_path / "a.csv").write_text("id,cif\n" + "a,b\n" * 100)
    said = refusal(lambda: read(tmp_path / "a.csv", limits=Limits(max_entries=50)))
    assert "--max-entries" in said


@pytest.mark.parametrize("text", ["id,cif\na,\0b\n", "\ufeffid,cif\na,b\n", "id\0,cif\0\na,b\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "cp037"])
def test_csv_in_other_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding, "replace"))
    try:
        found = reasons(tmp_path / "a.csv")
    except UsageError as error:
        found = [str(error)]
    assert len(found) == 1
    assert found[0].isprintable()


def test_parquet_bombs(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"cif": ["x" * 20 * MIB]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert "packed more than" in refusal(lambda: read(tmp_path / "a.parquet"))
    table = pa.table({"cif": [CIF], "many": [[1] * 10], "s": [{"a": 1}], "x": [1]})
    pq.write_table(table, tmp_path / "b.parquet")
    assert list(read(tmp_path / "b.parquet").columns) == ["x"]


# -- bundles -------------------------------------------------------------------------------------
def forged(path: Path, forge: Callable[[h5py.File], None]) -> str:
    write_bundle(path, bundle_of(5))
    with h5py.File(path, "r+") as file:
        forge(file)
    assert "damaged" in refusal(lambda: list(read_chunks([path])))
    return refusal(lambda: read_bundle(path))


def test_links_in_place_of_groups(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    for name in ("columns", "verdicts", "provenance", "crystals", "columns/energy"):
        for link in (h5py.ExternalLink(str(tmp_path / "pipe"), "/x"), h5py.SoftLink("/id")):

            def forge(file: h5py.File, name: str = name, link: Any = link) -> None:
                del file[name]
                file[name] = link

            assert f"{name} is a link" in forged(tmp_path / "a.h5", forge)


def test_storage_that_unpacks_to_anything(tmp_path: Path) -> None:
    def repacked(**options: Any) -> Callable[[h5py.File], None]:
        def forge(file: h5py.File) -> None:
            lattice = file["crystals/lattice"][()]
            del file["crystals/lattice"]
            file.create_dataset("crystals/lattice", data=lattice, maxshape=(None, 3, 3), **options)

        return forge

    chunks = (10**6, 3, 3)
    assert "has chunks of" in forged(tmp_path / "a.h5", repacked(chunks=chunks))
    assert "only gzip is read" in forged(tmp_path / "a.h5", repacked(compression="lzf"))
    assert "only gzip is read" in forged(tmp_path / "a.h5", repacked(scaleoffset=2))
    path = tmp_path / "b.h5"
    write_bundle(path, bundle_of(5))
    with h5py.File(path, "r+") as file:
        repacked(compression=9, shuffle=True)(file)
    assert len(read_bundle(path)) == 5

    def stuffed(file: h5py.File) -> None:
        repacked(compression=9)(file)
        file["crystals/lattice"].id.write_direct_chunk((0, 0, 0), bytes(MIB))

    assert "has a chunk of 1048576 bytes" in forged(tmp_path / "a.h5", stuffed)


def test_counts_and_texts_without_bound(tmp_path: Path) -> None:
    def rejects(file: h5py.File) -> None:
        file.attrs["n_rejects"] = 10**9

    assert "MAX_REJECTS" in forged(tmp_path / "a.h5", rejects)

    def source(file: h5py.File) -> None:
        file["columns/energy"].attrs["source"] = "x" * 10**6

    assert "1000000 characters" in forged(tmp_path / "a.h5", source)

    def infinite(file: h5py.File) -> None:
        file.attrs["n_crystals"] = np.inf

    forged(tmp_path / "a.h5", infinite)


def test_crystals_of_a_bundle_have_the_same_limit(tmp_path: Path) -> None:
    bundle = bundle_of(5)
    write_bundle(tmp_path / "a.h5", bundle)
    largest = int(bundle.crystals.n_atoms.max())
    found = read(tmp_path / "a.h5", limits=Limits(max_atoms=largest - 1))
    assert 0 < len(found) < 5
    fresh = found.rejects[len(bundle.rejects) :]
    assert len(found) + len(fresh) == 5
    assert fresh[0].reason == f"oversized: {largest} atoms, --max-atoms is {largest - 1}"


# -- experiments and checkpoints -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 100_000, "not valid TOML"),
        ("a = " + "{a=" * 100_000, "not valid TOML"),
        ("a." * 5000 + "a = 1", "not valid TOML"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("seed = 1" + "0" * 400, "64 bits"),
        ("name = 1" + "0" * 400, "expected text"),
        ("[train]\nepochs = 1e999", "must be finite|expected a whole number"),
        ("[filter]\nspp = 1" + "0" * 400, "64 bits"),
        ("[filter]\nspp = nan", "must be finite"),
        ('[filter]\nknown = "\\u0000"', "no path"),
        ('[filter]\nknown = "~nobody_of_that_name/x"', "no path|no such file"),
        (f'[filter]\nknown = "{"x" * 100_000}"', "no path"),
        ("x" * 500_000 + " = 1", "unknown key"),
        (f"[filter]\nspp = {[0] * 9999}", "expected a number"),
        ("#" * 2 * MIB, "MAX_TOML_BYTES"),
        ("name = '\x1b[2J'", "not valid TOML"),
    ],
)
def test_experiments(tmp_path: Path, text: str, said: str) -> None:
    from pigen.config import load_experiment

    (tmp_path / "a.toml").write_text('name = "x"\n' * ("name" not in text[:5]) + text)
    with seconds(5):
        assert re.search(said, refusal(lambda: load_experiment(tmp_path / "a.toml")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    READERS["checkpoint"].make(folder)
    return folder / "a.safetensors"


def said_of(path: Path) -> str:
    import torch

    from pigen.model.checkpoint import load_checkpoint

    return refusal(lambda: load_checkpoint(path, torch.device("cpu")))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.layers", 10**9, "tensors for 1000000000 layers"),
        ("model.scalars", 10**9, "do not fit the network"),
        ("model.scalars", 10**18, "do not fit the network"),
        ("model.scalars", "many", "model.scalars: expected a whole number"),
        ("model.depth", 1, "model.depth: unknown key"),
        ("diffusion.sigma_min", -1, "diffusion.sigma_min: must be above 0"),
        ("lattice.shape_sd", 0, "deviations above 0"),
        ("elements", [0, 300], "elements: expected different atomic numbers"),
        ("elements", "x", "elements"),
        ("label_mean", [1e999], "label_mean"),
        ("training", None, "not a readable checkpoint"),
    ],
)
def test_headers_of_checkpoints(
    checkpoint: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    content = checkpoint.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    tree = json.loads(header["__metadata__"]["header"])
    table, _, leaf = key.rpartition(".")
    (tree[table] if table else tree)[leaf] = value
    header["__metadata__"]["header"] = json.dumps(tree)
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + n :])
    assert said in said_of(path)


class Bomb:
    """Code that runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


def test_no_code_runs_when_a_checkpoint_is_loaded(checkpoint: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    mark = tmp_path / "ran"
    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    assert "not a readable checkpoint" in said_of(tmp_path / "a.safetensors")
    torch.save({"x": Bomb(mark)}, tmp_path / "b.safetensors")
    assert "not a readable checkpoint" in said_of(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(struct.pack("<Q", 10**15) + b"{}")
    assert "not a readable checkpoint" in said_of(tmp_path / "c.safetensors")
    assert not mark.exists()
    content = checkpoint.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + n])["__metadata__"]
    weights = load_file(checkpoint)
    name = next(name for name in weights if not name.startswith("sizes."))
    save_file({**weights, name: weights[name] * np.nan}, tmp_path / "d.safetensors", metadata)
    assert f"{name} holds numbers that are not finite" in said_of(tmp_path / "d.safetensors")
    del weights[name]
    save_file(weights, tmp_path / "d.safetensors", metadata)
    assert f"{name}: expected" in said_of(tmp_path / "d.safetensors")
    version = {**metadata, "format": "pigen-checkpoint-9"}
    save_file(weights, tmp_path / "d.safetensors", version)
    assert "expected a pigen-checkpoint-1 file, found pigen-checkpoint-9" in said_of(
        tmp_path / "d.safetensors"
    )


# -- tables, references, results of other programs -----------------------------------------------
def test_no_code_runs_of_a_table_of_potentials(tmp_path: Path) -> None:
    from pigen.descriptors.spp.table import load_table

    mark, path = tmp_path / "ran", tmp_path / "a.npz"
    np.savez(path, format=np.array("pigen-spp-1"), steps=np.array([Bomb(mark)], dtype=object))
    assert "not an SPP table" in refusal(lambda: load_table(path))
    assert not mark.exists()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("steps.npy", bytes(MAX_SIDE_FILE_BYTES + 1))
    assert "oversized" in refusal(lambda: load_table(path))


def test_computed_entries_import_nothing(tmp_path: Path) -> None:
    from pigen.energy.hull.imports import import_reference

    (tmp_path / "imported_by_no_one.py").write_text("raise SystemExit")
    entry = {
        "composition": {"Na": 1},
        "energy": -1.0,
        "correction": 0.0,
        "data": {"x": {"@module": "imported_by_no_one", "@class": "X"}},
    }
    (tmp_path / "a.json").write_text(json.dumps([entry]))
    sys.path.insert(0, str(tmp_path))
    try:
        assert [e.formula for e in import_reference(tmp_path / "a.json").entries] == ["Na1"]
    finally:
        sys.path.remove(str(tmp_path))
    assert "imported_by_no_one" not in sys.modules
    said = refusal(lambda: import_reference(tmp_path / "a.json", max_bytes=10))
    assert "--max-file-mib" in said


def test_formulas_without_end(tmp_path: Path) -> None:
    from pigen.descriptors.novelty import read_formulas

    for text in ("(" * 5000, "Na" * 50_000, "Na1e999", "Na" + "9" * 280, "(Na)" * 70):
        (tmp_path / "a.txt").write_text(text)
        with seconds(5):
            try:
                found = sorted(read_formulas(tmp_path / "a.txt"))
            except UsageError as error:
                found = [str(error)]
            assert len(found) == 1
    (tmp_path / "a.txt").write_bytes(gzip.compress(bytes(50 * MIB)))
    assert "packed more than" in refusal(lambda: read_formulas(tmp_path / "a.txt"))


@pytest.fixture
def searches(tmp_path: Path) -> Path:
    READERS["searches"].make(tmp_path)
    return tmp_path / "csp"


def edited(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", ["..", "../elsewhere", "/tmp", "a/../../b", "", "a\0b", ".x"])
def test_manifests_lead_nowhere(searches: Path, name: str) -> None:
    from pigen.csp.outcome import read_outcomes

    before = json.loads((searches / "manifest.json").read_text())["compositions"]
    edited(searches / "manifest.json", compositions=[name])
    assert "folder" in refusal(lambda: read_outcomes(searches))
    edited(searches / "manifest.json", compositions=before)
    edited(searches / before[0] / "manifest.json", folder=name)
    assert "folder" in refusal(lambda: read_outcomes(searches))


@pytest.mark.parametrize(
    "values",
    [
        {"elements": {"Xx": 1}},
        {"elements": {}},
        {"elements": {"Na": 10**9}},
        {"generated_atoms": 10**6},
        {"max_atoms": "many"},
        {"random_seeds": {"seeded": 1}},
        {"random_seeds": {"seeded": -1, "composition_only": 2}},
        {"generated_energy": 10**400},
    ],
)
def test_manifests_that_no_search_could_follow(searches: Path, values: dict[str, Any]) -> None:
    from pigen.csp.outcome import read_outcomes

    (name, *_) = json.loads((searches / "manifest.json").read_text())["compositions"]
    edited(searches / name / "manifest.json", **values)
    assert "manifest.json" in refusal(lambda: read_outcomes(searches))


def test_results_of_searches_in_any_state(searches: Path) -> None:
    from pigen.csp.results import COLUMNS, parse_graph, read_search

    head = ",".join(COLUMNS)
    row = "initial,I,0,-3.0,0.02,0.0,-3.0,{},-"
    for text in (
        "\r" * 5,
        f"{head}\r{row.format('a.cif')}",
        head + "\n" + "x" * 200_000,
        '"' * 99_999,
    ):
        parse_graph(text)
    (place, *_) = sorted(searches.glob("*/seeded"))
    for name in ("..", "x" * 5000, "/etc/passwd", "", "a\0b"):
        (place / "graph_output.csv").write_text(f"{head}\n{row.format(name)}\n")
        (place / "output.txt").write_text("successfully read " + "9" * 5000 + " structures")
        read_search(place).minimum()
    os.mkfifo(place / "pipe")
    (place / "output.txt").unlink()
    (place / "output.txt").symlink_to(place / "pipe")
    assert read_search(place).engine == "FUSE"


def test_a_search_writes_through_no_link(searches: Path, tmp_path: Path) -> None:
    from pigen.csp.folder import compositions, read_experiment
    from pigen.csp.search_folder import SearchFolder, plan_of

    experiment = read_experiment(searches)
    composition = compositions(searches, experiment)[0]
    place = searches / composition.folder / "seeded"
    plan = plan_of(place, composition, experiment.settings, "seeded")
    (tmp_path / "outside").mkdir()
    for file in (place / "structures").iterdir():
        file.unlink()
    (place / "structures").rmdir()
    (place / "output.txt").unlink()
    (place / "structures").symlink_to(tmp_path / "outside")
    said = refusal(lambda: SearchFolder(place, plan, "test").open())
    assert "structures is a link" in said
    assert list((tmp_path / "outside").iterdir()) == []


def test_vasprun_with_entities(tmp_path: Path) -> None:
    from pigen.energy.dft.collect import collect

    READERS["vasprun"].make(tmp_path)
    path = tmp_path / "candidate" / "a" / "vasprun.xml"
    assert collect(tmp_path)[0].columns["dft_status"].values.tolist() == [""]
    text = path.read_text()
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(12))
    lol = f'<!DOCTYPE x [<!ENTITY a0 "x">{entities}]>'
    for hostile in (
        text.replace("<modeling>", f"{lol}<modeling>&a12;"),
        text.replace("<modeling>", "<modeling>" + "<a>" * 100_000),
        text.replace("PAW_PBE Na_pv", "PAW_PBE Qq"),
    ):
        path.write_text(hostile)
        with seconds(10):
            (status,) = collect(tmp_path)[0].columns["dft_status"].values
        assert status
        assert "\n" not in status


# -- what leaves ---------------------------------------------------------------------------------
def test_the_terminal_takes_no_commands(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a.h5", bundle_of(2))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["provenance"].attrs["\x1b[2Jkey"] = "\x1b]0;title\x07 value"
        file["columns/energy"].attrs["unit"] = "\x1b[31m"
    done = CliRunner().invoke(main, ["show", str(tmp_path / "a.h5")])
    assert done.exit_code == 0
    assert done.output.replace("\n", "").isprintable()
    (tmp_path / "b.csv").write_text("\x1b[2J,x\n1,2\n")
    done = CliRunner().invoke(
        main, ["import", str(tmp_path / "b.csv"), "-o", str(tmp_path / "c.h5")]
    )
    assert done.exit_code == 2
    assert done.stderr.replace("\n", "").isprintable()


# -- the limits, named ---------------------------------------------------------------------------
def test_options_have_the_limits_as_defaults() -> None:
    from pigen.cli.data import import_

    defaults = {option.name: option.default for option in import_.params}
    assert defaults["max_atoms"] == MAX_ATOMS
    assert defaults["max_entries"] == MAX_ENTRIES
    assert defaults["max_entry_bytes"] * MIB == MAX_ENTRY_BYTES
    assert defaults["max_file_bytes"] * MIB == MAX_FILE_BYTES


def test_documented_limits_are_those_of_the_code() -> None:
    """Rows of docs/inputs.md: `name` in `module` | value | flag or none."""
    from importlib import import_module

    text = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(MAX_\w+)` \| `([\w.]+)` \| ([\d,]+)( MiB| KiB)? \|", text, re.MULTILINE
    )
    assert len(rows) > 15
    for name, module, value, unit in rows:
        factor = {" MiB": MIB, " KiB": 2**10, "": 1}[unit]
        assert getattr(import_module(module), name) == int(value.replace(",", "")) * factor, name


def test_too_large_a_file_names_the_flag(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(to_cif(QUARTZ, "q") + "#" * MIB)
    (reason,) = reasons(tmp_path / "a.cif", Limits(max_file_bytes=MIB))
    assert reason.startswith("oversized")
    assert reason.endswith("--max-file-mib is 1")
