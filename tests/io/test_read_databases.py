"""JSON, tables and archives as databases and programs write them."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_crystals import ALL, NACL, QUARTZ

from pigen.bundle import Bundle
from pigen.crystal.elements import SYMBOLS
from pigen.io import Limits, read
from pigen.io.cif_text import to_cif
from pigen.io.export import to_poscar
from pigen.runtime.errors import UsageError
from pigen.screening.label import label

PYMATGEN = [one.as_dict() for crystal in ALL for one in crystal.to_pymatgen()]
CIF = to_cif(NACL, "NaCl")
FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 0\nCl 2 2 2\n'


def formulas(bundle: Bundle) -> list[str]:
    found = []
    for crystal in bundle.crystals:
        counts = Counter(SYMBOLS[z] for z in crystal.atomic_numbers)
        found.append("".join(f"{symbol}{n}" for symbol, n in sorted(counts.items())))
    return found


def read_json(tmp_path: Path, content: Any, name: str = "a.json") -> Bundle:
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return read(tmp_path / name)


EVERY = ["Cl1Na1", "Cu1", "O3Sr1Ti1", "O6Si3"]


def entry(i: int, **data: Any) -> dict[str, Any]:
    """A ComputedStructureEntry as pymatgen writes it."""
    return {
        "@module": "pymatgen.core.entries",
        "@class": "ComputedStructureEntry",
        "energy": -2.5 * (i + 1),
        "composition": {"X": 1},
        "entry_id": f"e-{i}",
        "correction": -0.5,
        "parameters": {},
        "data": data,
        "structure": PYMATGEN[i],
    }


def jarvis(i: int) -> dict[str, Any]:
    atoms = ALL[i].to_ase()[0]
    return {
        "jid": f"JVASP-{i}",
        "ehull": 0.1 * i,
        "optb88vdw_bandgap": "na" if i else 1.5,
        "atoms": {
            "lattice_mat": atoms.cell.array.tolist(),
            "coords": (atoms.positions if i % 2 else atoms.get_scaled_positions()).tolist(),
            "elements": atoms.get_chemical_symbols(),
            "cartesian": bool(i % 2),
            "abc": [1, 1, 1],
        },
    }


def optimade(i: int, **attributes: Any) -> dict[str, Any]:
    atoms = ALL[i].to_ase()[0]
    symbols = atoms.get_chemical_symbols()
    return {
        "id": f"o-{i}",
        "type": "structures",
        "attributes": {
            "lattice_vectors": atoms.cell.array.tolist(),
            "cartesian_site_positions": atoms.positions.tolist(),
            "species_at_sites": [f"{symbol}-x" for symbol in symbols],
            "species": [
                {"name": f"{s}-x", "chemical_symbols": [s], "concentration": [1.0]}
                for s in sorted(set(symbols))
            ],
            "dimension_types": [1, 1, 1],
            "nsites": len(symbols),
            "_alexandria_hull_distance": 0.1 * i,
            **attributes,
        },
    }


LAYOUTS: dict[str, Any] = {
    "entries": {"entries": [entry(i, e_above_hull=0.1 * i) for i in range(4)]},
    "list of entries": [entry(i, e_above_hull=0.1 * i) for i in range(4)],
    "lines of entries": "\n".join(json.dumps(entry(i, e_above_hull=0.1 * i)) for i in range(4)),
    "documents": [
        {
            "material_id": f"mp-{i}",
            "energy_above_hull": 0.1 * i,
            "structure": PYMATGEN[i],
            "symmetry": {"number": 1},
            "is_stable": i == 0,
        }
        for i in range(4)
    ],
    "jarvis": [jarvis(i) for i in range(4)],
    "optimade": {
        "data": [optimade(i) for i in range(4)],
        "meta": {"api_version": "1.1.0"},
        "links": {"next": None},
    },
    "split": {
        "columns": ["structure", "e_above_hull"],
        "index": list(range(4)),
        "data": [[PYMATGEN[i], 0.1 * i] for i in range(4)],
    },
    "by columns": {
        "structure": {str(i): PYMATGEN[i] for i in range(4)},
        "e_above_hull": {str(i): 0.1 * i for i in range(4)},
    },
    "texts": [
        {"structure": to_cif(crystal, "x"), "e_above_hull": 0.1 * i}
        for i, crystal in enumerate(ALL)
    ],
    "mapping": {
        f"mp-{i}": {"structure": PYMATGEN[i], "energy_above_hull": 0.1 * i} for i in range(4)
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_their_energies(tmp_path: Path, layout: str) -> None:
    bundle = read_json(tmp_path, LAYOUTS[layout])
    assert bundle.rejects == ()
    assert formulas(bundle) == EVERY
    labelled, _ = label(bundle, ())
    np.testing.assert_allclose(labelled.columns["e_hull"].values, [0, 0.1, 0.2, 0.3])
    assert labelled.columns["e_hull"].unit == "eV/atom"


def test_columns_of_entries(tmp_path: Path) -> None:
    bundle = read_json(tmp_path, LAYOUTS["entries"])
    assert bundle.ids.tolist() == ["e-0", "e-1", "e-2", "e-3"]
    assert bundle.columns["energy"].values.tolist() == [-2.5, -5.0, -7.5, -10.0]
    assert bundle.columns["correction"].values.tolist() == [-0.5] * 4
    assert set(bundle.columns) == {"energy", "correction", "e_above_hull"}


def test_structures_alone(tmp_path: Path) -> None:
    for content in (PYMATGEN, "\n\n".join(map(json.dumps, PYMATGEN)), {"structures": PYMATGEN}):
        assert formulas(read_json(tmp_path, content)) == EVERY
    lines = "\n".join(map(json.dumps, PYMATGEN)) + "\n{broken\n"
    for name in ("a.jsonl", "a.ndjson"):
        bundle = read_json(tmp_path, lines, name)
        assert formulas(bundle) == EVERY
        assert bundle.ids.tolist() == [f"a-{i}" for i in range(4)]
        assert [(r.id, r.reason[:15]) for r in bundle.rejects] == [("a-4", "unreadable json")]
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert formulas(read(tmp_path / "b.jsonl.gz")) == EVERY


def test_arrays_of_cdvae_and_diffcsp(tmp_path: Path) -> None:
    structures = [structure for crystal in ALL for structure in crystal.to_pymatgen()]
    arrays = {
        "frac_coords": np.concatenate([s.frac_coords for s in structures]).tolist(),
        "atom_types": [int(z) for s in structures for z in s.atomic_numbers],
        "num_atoms": [len(s) for s in structures],
        "lengths": [list(s.lattice.abc) for s in structures],
        "angles": [list(s.lattice.angles) for s in structures],
    }
    batched = {key: [value] for key, value in arrays.items()}
    for content in (arrays, batched):
        assert formulas(read_json(tmp_path, content)) == EVERY
    short = {**arrays, "num_atoms": [1]}
    (reject,) = read_json(tmp_path, short).rejects
    assert reject.reason.startswith("no coordinates: 17 positions and 17 elements of 1 atoms")


def test_json_as_ase_writes_it(tmp_path: Path) -> None:
    from ase.io import write

    frames = [frame for crystal in ALL for frame in crystal.to_ase()]
    write(tmp_path / "a.json", frames, format="json")
    assert formulas(read(tmp_path / "a.json")) == EVERY


def test_databases_and_trajectories_of_ase(tmp_path: Path) -> None:
    import ase.db
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frames = [frame for crystal in ALL for frame in crystal.to_ase()]
    slab = frames[0].copy()
    slab.pbc = [True, True, False]
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=-1.5)
    with ase.db.connect(tmp_path / "a.db") as database:
        for i, frame in enumerate([*frames, slab]):
            database.write(frame, e_above_hull=0.1 * i, note="a b")
    write(tmp_path / "a.traj", [*frames, slab])
    same = [frames[0], frames[0]]  # the second names no elements
    write(tmp_path / "b.traj", same)
    for name in ("a.db", "a.traj"):
        bundle = read(tmp_path / name)
        assert formulas(bundle) == EVERY
        assert bundle.columns["energy"].values.tolist() == [-1.5] * 4
        assert [r.reason for r in bundle.rejects] == [
            "not periodic in three directions: pbc is T T F, a slab"
        ]
    rows = read(tmp_path / "a.db")
    assert rows.ids.tolist() == ["a-1", "a-2", "a-3", "a-4"]
    np.testing.assert_allclose(rows.columns["e_above_hull"].values, [0, 0.1, 0.2, 0.3])
    assert rows.columns["note"].values.tolist() == ["a b"] * 4
    assert formulas(read(tmp_path / "b.traj")) == ["Cl1Na1"] * 2
    assert read(tmp_path / "b.traj").ids.tolist() == ["b-0", "b-1"]


def test_files_that_are_not_ases(tmp_path: Path) -> None:
    import sqlite3

    for name in ("a.db", "a.traj"):
        (tmp_path / name).write_bytes(b"SQLite format 3\0 or something")
        with pytest.raises(UsageError, match="is no ASE"):
            read(tmp_path / name)
    endless = "WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r) SELECT id FROM r"
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute(f"CREATE VIEW systems AS {endless}")
    connection.close()
    with pytest.raises(UsageError, match="it has no plain table of systems"):
        read(tmp_path / "b.db")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (optimade(0, species=[]), ""),
        (optimade(0, dimension_types=[1, 1, 0]), "not periodic in three directions"),
        (optimade(0, structure_features=["disorder"]), "disordered: structure feature"),
        (optimade(0, cartesian_site_positions=None), "no structure: an OPTIMADE entry without"),
        (
            optimade(0, species=[{"name": "Na-x", "chemical_symbols": ["Na", "K"]}]),
            "disordered: OPTIMADE species of Na, K",
        ),
        (
            optimade(
                0,
                species=[{"name": "Na-x", "chemical_symbols": ["Na"], "concentration": [0.5]}],
            ),
            "disordered: occupancy 0.5",
        ),
        (
            {"data": [], "meta": {}, "links": {"next": None}},
            "no structure: JSON with the keys data, meta, links",
        ),
        ({"@class": "Molecule", "sites": [], "charge": 0}, "no structure: a Molecule"),
        ({"a": 1, "b": {"c": 2}}, "no structure: JSON with the keys a, b"),
        ({**PYMATGEN[0], "lattice": {**PYMATGEN[0]["lattice"], "pbc": [1, 1, 0]}}, "a slab"),
        (
            {k: v for k, v in entry(0).items() if k != "structure"} | {"@class": "ComputedEntry"},
            "no structure: a ComputedEntry has an energy alone",
        ),
        ([], "no structure: the JSON is empty"),
        ("3", "no structure: the JSON is no object"),
        ('{"a": [1, 2', "unreadable json"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    bundle = read_json(tmp_path, content)
    if not reason:  # a species of an unknown name is looked up as a symbol
        reason = "unknown element: 'Na-x'"
    assert len(bundle) == 0
    assert [reason in reject.reason for reject in bundle.rejects] == [True], bundle.rejects


# -- parquet -------------------------------------------------------------------------------------
def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_as_lemat_bulk_has_it(tmp_path: Path) -> None:
    rows = [optimade(i)["attributes"] for i in range(4)]
    columns: dict[str, Any] = {
        key: [row[key] for row in rows]
        for key in ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")
    }
    columns["immutable_id"] = [f"agm{i}" for i in range(4)]
    columns["energy"] = [-1.5] * 4
    columns["long"] = [12345678901234567] * 4
    columns["forces"] = [[[0.0, 0, 0]]] * 4
    bundle = read(write_parquet(tmp_path / "a.parquet", columns))
    assert bundle.rejects == ()
    assert formulas(bundle) == EVERY
    assert bundle.ids.tolist() == ["agm0", "agm1", "agm2", "agm3"]
    assert bundle.columns["energy"].values.tolist() == [-1.5] * 4
    assert bundle.columns["long"].values.tolist() == ["12345678901234567"] * 4
    assert set(bundle.columns) == {"energy", "long"}


def test_parquet_with_structs(tmp_path: Path) -> None:
    structures = [{k: d[k] for k in ("lattice", "sites")} for d in map(_plain, PYMATGEN)]
    bundle = read(write_parquet(tmp_path / "a.parquet", {"structure": structures, "x": [1] * 4}))
    assert formulas(bundle) == EVERY
    atoms = [jarvis(i)["atoms"] for i in range(4)]
    assert formulas(read(write_parquet(tmp_path / "b.parquet", {"atoms": atoms}))) == EVERY


def _plain(structure: dict[str, Any]) -> dict[str, Any]:
    """Without the empty objects that parquet has no type for."""
    text = json.dumps(structure).replace(', "properties": {}', "").replace('"properties": {}, ', "")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_a_csv_keeps_long_integers(tmp_path: Path) -> None:
    text = to_cif(NACL, "x").replace("\n", "\n")
    (tmp_path / "a.csv").write_text(f'id,n,m,cif\na,12345678901234567,3,"{text}"\n')
    bundle = read(tmp_path / "a.csv")
    assert bundle.columns["n"].values.tolist() == ["12345678901234567"]
    assert bundle.columns["m"].values.tolist() == [3.0]


# -- archives ------------------------------------------------------------------------------------
def members() -> dict[str, bytes]:
    inner_zip, inner_tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner_zip, "w") as archive:
        archive.writestr("in/e.cif", CIF)
        archive.writestr("deep.zip", inner_zip.getvalue())
    with tarfile.open(fileobj=inner_tar, mode="w:gz") as tar:
        add(tar, "f.cif", CIF.encode())
    return {
        "a.cif": CIF.encode(),
        "b/b.cif.gz": gzip.compress(CIF.encode()),
        "POSCAR": to_poscar(NACL, "x").encode(),
        "c.xyz": (FRAME * 2).encode(),
        "d.json": json.dumps(PYMATGEN[:1] * 2).encode(),
        "d2.jsonl": (json.dumps(PYMATGEN[0]) + "\n").encode(),
        "e.zip": inner_zip.getvalue(),
        "f.tgz": inner_tar.getvalue(),
        "u.cif": CIF.encode("utf-16"),
        "._a.cif": b"\0",
        "README.md": b"text",
        "bad.cif.gz": b"\x1f\x8b broken",
    }


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tgz", "no suffix"])
def test_archives(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"all.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members().items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz", format=tarfile.PAX_FORMAT) as tar:
            for name, content in members().items():
                add(tar, name, content)
            link = tarfile.TarInfo("link.cif")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
            add(tar, "long/" * 40 + "å.cif", CIF.encode())  # an extended header
    bundle = read(path)
    expected = ["a", "b", "POSCAR", "c-0", "c-1", "d#1", "d#2", "d2-0", "e", "f", "u"]
    assert bundle.ids.tolist() == expected + ([] if kind == "zip" else ["å"])
    assert formulas(bundle) == ["Cl1Na1"] * len(bundle)
    reasons = {reject.id: reject.reason for reject in bundle.rejects}
    assert reasons.keys() == {"bad", "deep"}
    assert "unreadable archive member" in reasons["bad"]


def test_limits_of_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    bomb = gzip.compress(b"0" * 400_000_000)
    with tarfile.open(path, "w") as tar:
        add(tar, "large.cif", b"0" * (2**20 + 1))
        add(tar, "bomb.cif.gz", bomb)
        add(tar, "good.cif", CIF.encode())
    bundle = read(path, limits=Limits(max_entry_bytes=2**20))
    assert bundle.ids.tolist() == ["good"]
    assert all(reject.reason.startswith("oversized") for reject in bundle.rejects)
    assert len(bundle.rejects) == 2
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "the rest of it was not read" in read(path).rejects[-1].reason
    with tarfile.open(path, "w") as tar:
        add(tar, "a.txt", b"x")
    assert "no structure file" in read(path).rejects[0].reason


# -- what is not opened --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("eval_gen.pt", b"PK\3\4", "two lines of Python: import json, torch"),
        ("a.pkl", b"\x80\x04", "import json, pickle"),
        ("a.pkl.gz", b"\x80\x04", "import json, pickle"),
        ("unnamed", b"\x80\x05abc", "is a pickle"),
        ("a.json.bz2", b"BZh91", "unpack it first: bunzip2 a.json.bz2"),
        ("a.cif.xz", b"\xfd7zXZ\0", "unxz"),
    ],
)
def test_files_to_convert_first(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read(tmp_path / name)


def test_the_two_lines_convert_what_diffcsp_saves(tmp_path: Path) -> None:
    import torch

    from pigen.io.files import pickle_advice

    structure = QUARTZ.to_pymatgen()[0]
    saved = {
        "frac_coords": torch.tensor(structure.frac_coords),
        "atom_types": torch.tensor([int(z) for z in structure.atomic_numbers]),
        "num_atoms": torch.tensor([len(structure)]),
        "lengths": torch.tensor([structure.lattice.abc], dtype=torch.float64),
        "angles": torch.tensor([structure.lattice.angles], dtype=torch.float64),
        "eval_setting": "none",
    }
    torch.save(saved, tmp_path / "eval_gen.pt")
    advice = pickle_advice(Path("eval_gen.pt"))
    load, save = advice.split("two lines of Python: ")[1].split("  and  ")
    subprocess.run([sys.executable, "-c", f"{load}\n{save}"], cwd=tmp_path, check=True)
    assert formulas(read(tmp_path / "eval_gen.json")) == ["O6Si3"]
