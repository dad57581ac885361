"""Every reader of a file that a stranger could hand over, with files for it that are in order."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from models import CONFIG, header, model
from real_crystals import ALL, NACL, PEROVSKITE, QUARTZ, bundle_of
from vasprun import vasprun

from pigen.bundle import Bundle, Column, Rate, bundle_info, read_bundle, strings, write_bundle
from pigen.config import Experiment, dump_experiment
from pigen.crystal.crystals import Crystals
from pigen.csp.results import COLUMNS, CONVERGED
from pigen.descriptors.prototypes.library import Library
from pigen.descriptors.spp.table import N_BINS, N_PAIRS, save_table
from pigen.energy.dft.export import EXPORTED
from pigen.energy.hull.reference import Entry, Reference
from pigen.io import Limits, open_source, stream
from pigen.io.cif_text import to_cif
from pigen.io.export import to_poscar
from pigen.run.table import RunTable

CIF = to_cif(PEROVSKITE, "x")
SYMMETRIC = CIF.replace("'x, y, z'", "'x,y,z'\n'-x,-y,-z'\n'y,z,x'").replace("'P 1'", "'P m -3 m'")
FRAME = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 e=1.5 name="a b" pbc="T T T"
Na 0 0 0
Cl 2 2 2
"""
LIMITS = Limits(max_entry_bytes=2**20)


@dataclass(frozen=True)
class Counted:
    """What became of one file: entries it was said to hold (None: not known), kept, refused."""

    total: int | None
    kept: int
    rejects: int


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        make: writes its files into a folder.
        read: reads the folder; raises nothing but PigenError.
        targets: patterns of the files to damage.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Counted | None]
    targets: Sequence[str] = ("*",)


def read_source(path: Path) -> Counted:
    """As the command line reads; a chunk that could not be read on says so."""
    source = open_source(path, LIMITS)
    kept = rejects = 0
    cut_short = False
    for chunk in stream([source], limits=LIMITS):
        kept, rejects = kept + len(chunk), rejects + len(chunk.rejects)
        for reject in chunk.rejects:
            assert reject.id, "a reject without a name"
            assert reject.reason, "a reject without a reason"
            assert reject.reason.isprintable(), reject.reason
            cut_short = cut_short or "was not read" in reject.reason
        assert all(i and i.isprintable() for i in chunk.ids), chunk.ids.tolist()
    return Counted(None if cut_short else source.total, kept, rejects)


def _csv() -> str:
    file = io.StringIO()
    rows = [["id", "x", "name", "cif"], ["a", "1.5", "NaN", CIF], ["b", "", "", SYMMETRIC]]
    csv.writer(file).writerows(rows)
    return file.getvalue()


def _text(name: str, text: str) -> Reader:
    def make(folder: Path) -> None:
        content = text.encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)

    return Reader(make, lambda folder: read_source(folder / name))


def _make_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", CIF)
        archive.writestr("b/c.cif", SYMMETRIC)
        archive.writestr("b/d.extxyz", FRAME * 2)


def _make_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"cif": [CIF, SYMMETRIC], "x": [1.0, None], "l": [[1, 2], []]})
    pq.write_table(table, folder / "a.parquet")


def _make_tar(folder: Path) -> None:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for name, text in (("a.cif", CIF), ("b/d.extxyz", FRAME * 2), ("c.cif", SYMMETRIC)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def _make_optimade(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    atoms = [crystal.to_ase()[0] for crystal in ALL]
    columns = {
        "lattice_vectors": [one.cell.array.tolist() for one in atoms],
        "cartesian_site_positions": [one.positions.tolist() for one in atoms],
        "species_at_sites": [one.get_chemical_symbols() for one in atoms],
        "n": [2**60] * len(atoms),
    }
    pq.write_table(pa.table(columns), folder / "a.parquet")


def _make_ase(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import ase.db
        from ase.io import write

        frames = [crystal.to_ase()[0] for crystal in ALL]
        if name.endswith(".traj"):
            write(folder / name, frames)
            return
        with ase.db.connect(folder / name, use_lock_file=False) as database:
            for frame in frames:
                database.write(frame, e_above_hull=0.1, note="a")

    return make


def _read_bundle(folder: Path) -> Counted:
    bundle_info(folder / "a.h5")
    counted = read_source(folder / "a.h5")
    whole = read_bundle(folder / "a.h5")
    assert len(whole) + len(whole.rejects) == counted.kept + counted.rejects
    return counted


def _make_checkpoint(folder: Path) -> None:
    from pigen.model.checkpoint import save_checkpoint

    made = header(config=replace(CONFIG, scalars=8, vectors=4, messages=2, layers=1))
    weights = model(made, torch.float32).state_dict()
    save_checkpoint(folder / "a.safetensors", weights, made)


def _read_checkpoint(folder: Path) -> None:
    from pigen.model.checkpoint import load_checkpoint

    load_checkpoint(folder / "a.safetensors", torch.device("cpu"))


def _read_toml(folder: Path) -> None:
    from pigen.config import load_experiment

    load_experiment(folder / "a.toml", check_files=True)


def _make_spp(folder: Path) -> None:
    rng = np.random.default_rng(0)
    potential = rng.normal(size=(N_PAIRS, N_BINS)).round(1)
    save_table(folder / "a.npz", potential, np.full(N_PAIRS, 40), 0.5, {"from": "nothing"})


def _read_spp(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from pigen.descriptors.spp.table import load_table

        load_table(folder / name).scores(NACL)

    return read


def _make_reference(folder: Path) -> None:
    entries = (Entry("Na1", -1.3, "a"), Entry("Cl1Na1", -3.4, "b"))
    Reference(entries, "PBE", "two", {"made": "here"}).write(folder)


def _read_reference(folder: Path) -> None:
    from pigen.energy.hull import load_reference

    load_reference(folder).digest  # noqa: B018


def _read_import(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        from pigen.energy.hull.imports import import_reference

        import_reference(folder / name)

    return read


def _make_entries(folder: Path) -> None:
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

    entries = [
        ComputedEntry("Na2", -2.6, correction=0.2, entry_id="mp-1"),
        ComputedStructureEntry(NACL.to_pymatgen()[0], -6.8),
    ]
    text = json.dumps([entry.as_dict() for entry in entries])
    (folder / "a.json").write_text(text, encoding="utf-8")


def _make_searches(folder: Path) -> None:
    from pigen.config.searches import Request
    from pigen.csp.seed import csp_seed

    made = Bundle(crystals=Crystals.concatenate([NACL, QUARTZ]), ids=strings(["a", "b"]))
    csp_seed(made, Request(n=2, choice="random"), folder / "csp")
    for search in sorted((folder / "csp").glob("*/*/")):
        if not (search / "input.py").exists():
            continue
        rows = [",".join(COLUMNS), "initial,I,0,-3.0,0.02,0.0,-3.0,I-0.cif,-"]
        rows.append("3,S,1,-3.1,0.02,0.0,-3.1,S-1.cif,True")
        (search / "structures").mkdir()
        (search / "structures" / "I-0.cif").write_text(CIF)
        (search / "structures" / "S-1.cif").write_text(SYMMETRIC)
        (search / "graph_output.csv").write_text("\n".join([*rows, ""]))
        (search / "restart").mkdir()
        (search / "restart" / "graph_output.csv").write_text("\n".join([*rows, ""]))
        (search / "energies.p").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
        said = f"FUSE\n... successfully read 1 structure\n{CONVERGED}\n"
        (search / "output.txt").write_text(said)


def _read_searches(folder: Path) -> None:
    from pigen.csp.folder import MODES
    from pigen.csp.outcome import read_outcomes
    from pigen.csp.search_folder import plan_of
    from pigen.paper.ed3 import Row, describe

    experiment, outcomes = read_outcomes(folder / "csp")
    describe(Row.of(experiment, outcomes))
    for outcome in outcomes:
        place = folder / "csp" / outcome.composition.folder
        for mode, search in zip(MODES, (outcome.seeded, outcome.unseeded), strict=True):
            search.minimum()
            plan_of(place / mode, outcome.composition, experiment.settings, mode)


def _make_dft(folder: Path) -> None:
    from pymatgen.io.vasp import Incar

    from pigen.energy.dft.vasp import SETTINGS

    place = folder / "candidate" / "a"
    place.mkdir(parents=True)
    column = Column(strings(["candidate"]), "", "test")
    where = Column(strings(["candidate/a"]), "", "test")
    bundle = Bundle(crystals=NACL, ids=strings(["a"]), columns={"kind": column, "folder": where})
    write_bundle(folder / EXPORTED, bundle)
    (place / "vasprun.xml").write_text(
        vasprun(NACL, -6.8, titles={"Na": "PAW_PBE Na_pv 01Jan2000"})
    )
    (place / "INCAR").write_text(Incar(SETTINGS).get_str() + "\n")


def _read_dft(folder: Path) -> None:
    from pigen.energy.dft.collect import collect

    collect(folder)


def _make_table(folder: Path) -> None:
    rates = {"A": Rate(1, 4), "sequence": Rate(1, 4), "E100": Rate(0, 4), "SUN": Rate(0, 4)}
    table = RunTable("x", "MatterGen", rates, {"A": Rate(1, 4)}, {"A": "spp < 1"}, {"seed": "0"})
    (folder / "table.json").write_text(table.to_json(), encoding="utf-8")


def _read_table(folder: Path) -> None:
    from pigen.paper.tables import join, joined, render

    table = RunTable.read(folder)
    render(table)
    join(joined("1", {folder: table}), [table])


def _make_stamp(folder: Path) -> None:
    from pigen.paper.reproduce.stamps import Stamp

    with Stamp(folder / "stamp.json", {"a": "b"}, ()).work():
        pass


def _read_stamp(folder: Path) -> None:
    from pigen.paper.reproduce.stamps import Stamp

    stamp = Stamp(folder / "stamp.json", {"a": "b"}, ())
    assert stamp.fresh in (True, False)
    stamp.changed()
    stamp.seconds()


def _make_library(folder: Path) -> None:
    bundle = Bundle(crystals=Crystals.concatenate(ALL), ids=strings(f"s{i}" for i in range(4)))
    Library.from_bundle(bundle, "test").write(folder / "a.h5", {})


def _read_library(folder: Path) -> None:
    from pigen.descriptors.prototypes.library import load_library

    load_library(folder / "a.h5").top(2).labels  # noqa: B018


def _read_formulas(folder: Path) -> None:
    from pigen.descriptors.novelty import read_formulas

    read_formulas(folder / "a.txt.gz")


def _read_folder(folder: Path) -> Counted:
    return read_source(folder)


def _make_folder(folder: Path) -> None:
    (folder / "a.cif").write_text(CIF)
    (folder / "b").mkdir()
    (folder / "b" / "POSCAR").write_text(to_poscar(QUARTZ, "x"))
    (folder / "b" / "c.extxyz").write_text(FRAME)


_SYMBOLS = {"Na-Cl": {"2.775": -1.5, "3.5": 0.25}, "Na-Na": {"3": 1, "4": 2}, "Cl-Cl": {"3": 0}}

READERS: dict[str, Reader] = {
    "cif": _text("a.cif", CIF + SYMMETRIC.replace("data_x", "data_y")),
    "cif_gz": _text("a.cif.gz", CIF),
    "poscar": _text("a.vasp", to_poscar(QUARTZ, "x")),
    "extxyz": _text("a.extxyz", FRAME * 2),
    "json": _text("a.json", json.dumps([QUARTZ.to_pymatgen()[0].as_dict()])),
    "jsonl": _text("a.jsonl", f"{json.dumps(QUARTZ.to_pymatgen()[0].as_dict())}\n" * 2),
    "csv": _text("a.csv", _csv()),
    "csv_gz": _text("a.csv.gz", _csv()),
    "no_suffix": _text("a", CIF),
    "folder": Reader(_make_folder, _read_folder),
    "zip": Reader(_make_zip, lambda folder: read_source(folder / "a.zip")),
    "parquet": Reader(_make_parquet, lambda folder: read_source(folder / "a.parquet")),
    "parquet_optimade": Reader(_make_optimade, lambda folder: read_source(folder / "a.parquet")),
    "ase_db": Reader(_make_ase("a.db"), lambda folder: read_source(folder / "a.db")),
    "ase_traj": Reader(_make_ase("a.traj"), lambda folder: read_source(folder / "a.traj")),
    "tar": Reader(_make_tar, lambda folder: read_source(folder / "a.tar.gz")),
    "bundle": Reader(lambda f: write_bundle(f / "a.h5", bundle_of(5)), _read_bundle),
    "library": Reader(_make_library, _read_library),
    "checkpoint": Reader(_make_checkpoint, _read_checkpoint),
    "experiment": Reader(
        lambda f: (f / "a.toml").write_text(dump_experiment(Experiment(name="x"))) and None,
        _read_toml,
    ),
    "spp_npz": Reader(_make_spp, _read_spp("a.npz")),
    "spp_json": Reader(
        lambda f: (f / "a.json").write_text(json.dumps(_SYMBOLS)) and None, _read_spp("a.json")
    ),
    "formulas": Reader(
        lambda f: (f / "a.txt.gz").write_bytes(gzip.compress(b"# x\nNaCl\nMg(InSe2)2\n")) and None,
        _read_formulas,
    ),
    "reference": Reader(_make_reference, _read_reference),
    "hull_csv": Reader(
        lambda f: (f / "a.csv").write_text("formula,energy,id\nNaN,-1.5,a\nNa,-1,b\n") and None,
        _read_import("a.csv"),
    ),
    "hull_json": Reader(_make_entries, _read_import("a.json")),
    "searches": Reader(_make_searches, _read_searches, ("*.json", "*.csv", "output.txt", "*.cif")),
    "vasprun": Reader(_make_dft, _read_dft, ("*.xml", "INCAR", "*.h5")),
    "table": Reader(_make_table, _read_table),
    "stamp": Reader(_make_stamp, _read_stamp),
}
