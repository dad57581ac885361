"""`pigen reproduce` on rows that need no model: every stage, killed, resumed, and run twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import bundle_info, read_bundle
from pigen.cli import main
from pigen.config.searches import Settings
from pigen.paper.published import published_rows
from pigen.paper.reproduce import rows as rows_module
from pigen.paper.reproduce.output import TABLE_NAMES
from pigen.paper.reproduce.pipeline import Done, reproduce
from pigen.paper.reproduce.rows import plan
from pigen.paper.reproduce.scales import SCALES
from pigen.paper.reproduce.stamps import Stamp
from pigen.runtime import resources
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import Where
from pigen.runtime.files import sha256_of

FIGURES = tuple(
    f"{name}.png"
    for name in (
        *("figure_3a", "figure_3b", "figure_3c", "figure_3d", "figure_5"),
        *(f"extended_data_figure_{n}" for n in (1, 2, 3)),
    )
)

SEARCH = Settings(rmax=1, initial=1, iterations=4, steps=30)
TINY = replace(SCALES["smoke"], name="tiny", n=4, search=SEARCH, searched=("pigen_c",))
ROWS = {"pseudo_random": "Pseudo-random", "pigen_c": "PIGEN | C=0.7"}
EXPERIMENT = """
name = "{name}"
row = "{row}"
seed = {seed}
generator = "pseudo_random"
[pseudo_random]
n_atoms = [1, 2]
min_separation = 2.5
volume_per_atom = [20.0, 22.0]
elements = ["Na", "K"]
[filter]
spp = 1e9
c = [0.0, 9.0]
mled = 0.0
novel = false
"""
CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_reproduce import TINY, Where, reproduce, rows_module
rows_module.shipped_experiments = lambda: {experiments!r}
if __name__ == "__main__":
    reproduce(TINY, Path({out!r}), where=Where(1), say=lambda line: print(line, flush=True))
"""


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Two rows of small cells, nearly all of which pass, in place of the shipped ones."""
    folder = tmp_path_factory.mktemp("experiments")
    paths = {}
    for seed, (name, row) in enumerate(ROWS.items()):
        paths[name] = folder / f"{name}.toml"
        paths[name].write_text(EXPERIMENT.format(name=name, row=row, seed=seed), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "shipped_experiments", lambda: paths)
        yield paths


@pytest.fixture(scope="module")
def out(experiments: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce") / "tiny"
    done = reproduce(TINY, folder, where=Where(1))
    assert set(done.stages.values()) == {"done"}
    return folder


def tables_of(folder: Path) -> dict[str, str]:
    """Text of every table, the paths of its own folder taken out."""
    found = sorted((folder / "tables").iterdir())
    return {path.name: path.read_text("utf-8").replace(str(folder), "OUT") for path in found}


def again(folder: Path) -> Done:
    return reproduce(TINY, folder, where=Where(1))


# -- what is left behind ---------------------------------------------------------------------------
@pytest.mark.slow
def test_every_table_and_figure_is_there(out: Path) -> None:
    expected = {f"{name}{suffix}" for name in TABLE_NAMES for suffix in (".md", ".csv", ".json")}
    assert set(tables_of(out)) == expected
    names = {path.name for path in (out / "figures").iterdir()}
    assert set(FIGURES) <= names
    for name in FIGURES:
        stem = name.removesuffix(".png")
        assert {f"{stem}.csv", f"{stem}a.csv"} & names
        assert (out / "figures" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_head_names_what_the_tables_rest_on(out: Path) -> None:
    head = json.loads((out / "tables" / "table_1.json").read_text("utf-8"))["head"]
    assert "4 structures a row (paper: 10000)" in head["scale"]
    assert "chgnet 0.3.0" in head["energies"]
    assert "hull(reference=" in head["hull"]
    assert "frameworks ranked" in head["prototype library"]
    assert "seed 0" in head["structures (pseudo_random)"]
    assert "Python" in head["versions"]
    assert "core" in head["hardware"]
    assert "rmax 1," in head["searches"]
    text = (out / "tables" / "table_1.md").read_text("utf-8")
    assert all(f"- {key}: {value}" in text for key, value in head.items())


@pytest.mark.slow
def test_searches_fill_column_g_and_table_3(out: Path) -> None:
    ed3 = json.loads((out / "tables" / "table_ed3.json").read_text("utf-8"))
    assert [(row["model"], row["set"]) for row in ed3["rows"]] == [
        ("PIGEN | C", "filtered"),
        ("PIGEN | C", "unfiltered"),
    ]
    cells = json.loads((out / "tables" / "table_ed2.json").read_text("utf-8"))["cells"]
    (found,) = [c for c in cells if (c["run"], c["column"]) == ("pigen_c", "G")]
    assert found["n"] == 2
    assert found["published"] == [1.0]


@pytest.mark.slow
def test_figures_of_searches_can_be_traced(out: Path) -> None:
    def table(*args: str | Path) -> str:
        result = CliRunner().invoke(main, ["table", *map(str, args)])
        assert result.exit_code == 0, result.output
        return result.stdout

    folders = sorted((out / "csp/pigen_c").iterdir())
    said = table("ed3", *folders, "--explain")
    assert said.count("graph_output.csv: ") == 12  # columns a to f of two sets
    lines = table("ed3", *folders, "--format", "csv").splitlines()
    assert lines == (out / "tables/table_ed3.csv").read_text("utf-8").splitlines()
    ed2 = table("ed2", out / "runs/pigen_c", "--csp", folders[0], "--csp", folders[1], "--explain")
    assert "pigen_c G = " in ed2
    result = CliRunner().invoke(main, ["table", "1", str(out / "runs/pigen_c"), "--csp", str(out)])
    assert result.exit_code == 2


@pytest.mark.slow
def test_figure_3d_counts_the_bundle_that_it_names(out: Path) -> None:
    table = json.loads((out / "tables" / "prototype_novelty.json").read_text("utf-8"))
    for cell in table["cells"]:
        with h5py.File(cell["files"]) as file:
            assert eval(cell["query"], {"f": file, "np": np}) == cell["unmatched"]
        assert bundle_info(cell["files"]).n_crystals == cell["n"]


# -- again, resumed, changed -----------------------------------------------------------------------
@pytest.mark.slow
def test_nothing_is_done_twice(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    done = again(out)
    assert set(done.stages.values()) == {"kept"}
    changed = {p for p in out.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns}
    assert changed == {out / "summary.md"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "seconds"),
    [("runs/pigen_c/samples.h5", 1.0), ("csp/pigen_c/filtered/*/*/restart/graph_output.csv", 0.3)],
    ids=["row", "searches"],
)
def test_killed_and_resumed_tables_are_the_same(
    begun: str, seconds: float, out: Path, experiments: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "support")]
    code = CHILD.format(paths=paths, experiments=experiments, out=str(folder))
    code = code.replace("PosixPath", "Path")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not any(folder.glob(begun)):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(np.random.default_rng().uniform(0, seconds))
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    done = again(folder)
    assert "done" in done.stages.values()
    assert tables_of(folder) == tables_of(out)


@pytest.mark.slow
def test_only_what_depends_on_a_change_is_done_again(out: Path) -> None:
    samples, relaxed = (out / "runs/pigen_c" / name for name in ("samples.h5", "relaxed.h5"))
    before = [path.stat().st_mtime_ns for path in (samples, relaxed)]
    stamp = json.loads((out / "stamps/runs/pigen_c.json").read_text("utf-8"))
    stamp["inputs"]["hull"] = "another"
    (out / "stamps/runs/pigen_c.json").write_text(json.dumps(stamp), encoding="utf-8")
    tables = tables_of(out)
    done = again(out)
    assert done.stages["row pigen_c"] == "done"
    assert done.stages["row pseudo_random"] == "kept"
    assert samples.stat().st_mtime_ns == before[0]
    assert relaxed.stat().st_mtime_ns != before[1]
    assert tables_of(out) == tables


# -- requests --------------------------------------------------------------------------------------
def test_a_folder_of_something_else_is_left_alone(out: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="not the folder of a reproduction"):
        again(tmp_path)
    with pytest.raises(UsageError, match="holds the scale tiny"):
        reproduce(replace(TINY, name="other"), out, where=Where(1))


def test_rows_that_cannot_be_run_say_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {path.stem: path for path in sorted(resources.EXPERIMENTS.glob("*.toml"))}
    monkeypatch.setattr(rows_module, "shipped_experiments", lambda: shipped)
    found, not_run = plan(SCALES["smoke"], tmp_path, {}, {})
    names = [row.name for row in found]
    assert names[0] == "pseudo_random"
    assert "pigen_mled_c" in names
    order = [row.experiment.row for row in found]
    assert order == sorted(order, key=[*published_rows(), ""].index)
    assert names[-1] == "substitution"
    assert "--mattergen FILE" in not_run["MatterGen"]
    assert {"diffcsp", "diffcsp_pi", "diffcsp_cfg"} < set(names)
    structures = tmp_path / "theirs.cif"
    structures.write_text("data_x", encoding="utf-8")
    found, not_run = plan(SCALES["smoke"], tmp_path, {"mattergen": structures}, {})
    (mattergen,) = [row for row in found if row.name == "mattergen"]
    assert mattergen.stamp.inputs["source"] == sha256_of(structures)
    with pytest.raises(UsageError, match="pigen_c takes no structures"):
        plan(SCALES["smoke"], tmp_path, {"pigen_c": structures}, {})


def test_a_checkpoint_given_takes_the_place_of_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {path.stem: path for path in sorted(resources.EXPERIMENTS.glob("*.toml"))}
    monkeypatch.setattr(rows_module, "shipped_experiments", lambda: shipped)
    given = {"diffcsp": resources.checkpoint("pigen")}
    found, _ = plan(SCALES["smoke"], tmp_path, {}, given)
    (diffcsp,) = [row for row in found if row.name == "diffcsp"]
    assert diffcsp.experiment.sample.checkpoint == str(given["diffcsp"].resolve())


def test_command_line_refuses_a_checkpoint_that_is_none() -> None:
    result = CliRunner().invoke(main, ["reproduce", "--scale", "smoke", "--checkpoint", "diffcsp"])
    assert result.exit_code == 2
    assert "expected NAME=FILE" in result.stderr


# -- stamps ----------------------------------------------------------------------------------------
def test_a_stamp_is_fresh_only_when_the_work_is_done(tmp_path: Path) -> None:
    output = tmp_path / "output"
    stamp = Stamp(tmp_path / "stamps" / "one.json", {"seed": "0"}, [output])
    assert not stamp.fresh
    with stamp.work():
        assert not stamp.fresh
        output.write_text("done", encoding="utf-8")
    assert stamp.fresh
    assert set(stamp.seconds()) == {"wall", "cpu"}
    other = replace(stamp, inputs={"seed": "1"})
    assert not other.fresh
    assert other.changed() == {"seed"}
    with pytest.raises(ZeroDivisionError), other.work():
        1 / 0  # noqa: B018
    assert not other.fresh
    assert other.changed() == frozenset()
    output.unlink()
    assert not stamp.fresh
    stamp.path.write_text("{", encoding="utf-8")  # cut off by a full disk
    assert not stamp.fresh


@pytest.mark.slow
def test_rows_pass_on_the_structures_of_their_run(out: Path) -> None:
    evaluated = read_bundle(out / "runs/pigen_c/evaluated.h5")
    plausible = read_bundle(out / "prototypes/pigen_c.h5")
    passed = evaluated.verdicts["spp"].passed & evaluated.verdicts["c"].passed
    assert list(plausible.ids) == list(evaluated.ids[passed])
