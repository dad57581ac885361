"""csp-collect and table ed3 on folders as FUSE leaves them; columns a–f worked by hand."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pigen.bundle import Bundle, read_bundle, strings
from pigen.cli import main
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.folder import Experiment, write_manifest
from pigen.csp.outcome import count, read_outcomes, total
from pigen.csp.results import COLUMNS, CONVERGED, parse_graph, read_search
from pigen.csp.seed import csp_seed
from pigen.io.cif_text import to_cif
from pigen.paper.ed3 import Row, render
from pigen.runtime.errors import PigenError, UsageError

ELEMENTS = [3, 4, 11, 12, 19, 20, 37, 38]
READ = "... found 1 structure\n... successfully read 1 structure"
ENDED = f"\n\n\n{CONVERGED}, stopping calculation ***\n"


def halide(z: int, a: float = 5.0) -> Crystals:
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystals.single(fcc * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [z, 9])


def leave(
    folder: Path,
    initial: list[float],
    search: list[float],
    *,
    read: str = READ,
    ended: str = ENDED,
    running: bool = False,
) -> None:
    """Write what FUSE leaves: energies of the initial pool, then of the search."""
    lines = [",".join(COLUMNS)]
    lowest = math.inf
    for slot, energy in enumerate(initial + search):
        kind = "I" if slot < len(initial) else "S"
        file = f"{kind}-{slot:07d}.cif"
        move = "initial" if kind == "I" else "3"
        lines.append(f"{move},{kind},{slot},{energy},0.02,0.0,{lowest},{file},-")
        lowest = min(lowest, energy)
        (folder / "structures").mkdir(exist_ok=True)
        (folder / "structures" / file).write_text(to_cif(halide(11, 5.0 + slot / 10), file))
    text = "\n".join([*lines, ""])
    (folder / "restart").mkdir(exist_ok=True)
    (folder / "restart" / "graph_output.csv").write_text(text)
    (folder / "restart" / "energies.p").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    if not running:
        (folder / "graph_output.csv").write_text(text)
    (folder / "output.txt").write_text(f"#### Flexible Unit Structure Engine\n{read}\n{ended}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight compositions: each case of FUSE.md once."""
    crystals = [halide(z) for z in ELEMENTS]
    made = Bundle(crystals=Crystals.concatenate(crystals), ids=strings(f"g{i}" for i in range(8)))
    out = tmp_path / "csp"
    csp_seed(made, Request(n=8, choice="random", model="PIGEN | C"), out)
    names = json.loads((out / "manifest.json").read_text())["compositions"]
    seeded = [out / name / "seeded" for name in names]
    alone = [out / name / "composition_only" for name in names]
    # 0: the seed, −3.0, stays lowest by 2 meV; it was the lowest start; seeded ends lower.
    leave(seeded[0], [-3.0, -2.5], [-2.998, -2.9])
    leave(alone[0], [-2.4], [-2.95], read="")
    # 1: the seeded search finds −3.1, 100 meV below the seed, which was not the lowest start.
    leave(seeded[1], [-3.0, -3.05], [-3.1])
    leave(alone[1], [-2.4], [-3.05], read="")
    # 2: the unseeded search is the lower one, 300 meV below the seed; the seed a lowest start.
    leave(seeded[2], [-3.0, -2.0], [-3.1])
    leave(alone[2], [-2.4], [-3.3], read="")
    # 3: the seed's relaxation failed.
    leave(seeded[3], [1.25e19, -2.0], [-2.1])
    leave(alone[3], [-2.4], [-2.2], read="")
    # 4: no seed was read; slot 0 is one of FUSE's own.
    leave(seeded[4], [-9.0, -2.0], [-2.1], read="... successfully read 0 structures")
    leave(alone[4], [-2.4], [-2.2], read="")
    # 5: both killed, in the middle of a line.
    leave(seeded[5], [-3.0, -2.0], [-3.2], ended="", running=True)
    leave(alone[5], [-2.4], [-2.2], read="", ended="", running=True)
    with (seeded[5] / "restart" / "graph_output.csv").open("a") as file:
        file.write("3,S,3,-99")
    # 6: out of iterations; the other built nothing.
    leave(seeded[6], [-3.0], [-3.4], ended="\n#### Calculation finished ####")
    (alone[6] / "output.txt").write_text("#### Flexible Unit Structure Engine\n")
    (alone[6] / "restart").mkdir()
    # 7: every relaxation failed; the other never started.
    leave(seeded[7], [1e20, 5e19], [])
    return out


def test_columns_by_hand(folder: Path) -> None:
    counts = count(read_outcomes(folder)[1])
    # judged: 0, 1, 2, 5 (a seed and both searches with an energy)
    assert (counts.a, counts.judged) == (1, 4)
    # compared: also 3; seeded lower in 0 (−3.0), 1 (−3.1) and 5; not in 2 and 3
    assert (counts.b, counts.compared) == (3, 5)
    # gains: 1: 100, 2: 300, 5: 200 meV; losses: 0: 2 meV
    assert counts.c == pytest.approx(200.0)
    assert counts.d == pytest.approx(2.0)
    # lowest starting point: 0, 2, 5; and 6, the only one of its pool
    assert counts.e == 4
    assert counts.f == 2  # 3 and 7
    assert counts.seeds_unread == 1
    expected = {"converged": 10, "killed": 3, "unfinished": 1, "failed": 1, "never started": 1}
    assert dict(counts.statuses) == expected
    assert counts.statuses.total() == 2 * counts.compositions


def test_tie(folder: Path) -> None:
    counts = count(read_outcomes(folder)[1], tie=0.15)
    assert (counts.a, counts.judged) == (2, 4)  # 100 meV below the seed is no longer lower
    assert counts.b == 1
    assert counts.c == pytest.approx(250.0)
    assert counts.d is None
    assert counts.gains == pytest.approx((0.3, 0.2))


def test_statuses(folder: Path) -> None:
    _, outcomes = read_outcomes(folder)
    assert outcomes[6].unseeded.status == "killed"
    assert outcomes[6].unseeded.reason == "no structure was relaxed"
    assert outcomes[7].seeded.reason == "every relaxation failed"
    assert outcomes[7].unseeded.engine == ""
    assert outcomes[5].seeded.lowest == -3.2  # the cut line is left out
    assert {o.seeded.engine for o in outcomes} == {"FUSE"}


def test_totals(folder: Path) -> None:
    counts = count(read_outcomes(folder)[1])
    both = total([counts, replace(counts, gains=(1.0,))])
    assert (both.a, both.judged, both.f) == (2, 8, 4)
    assert both.c == pytest.approx(1000 * (0.1 + 0.3 + 0.2 + 1.0) / 4)
    assert both.statuses["converged"] == 20


def test_table(folder: Path) -> None:
    text = render({folder: Row.of(*read_outcomes(folder))})
    lines = text.splitlines()
    place = next(i for i, line in enumerate(lines) if "FUSE, rmax 1500" in line)
    assert lines[place - 1] == (
        "| PIGEN \\| C | unfiltered | published | 0/20 | 12/20 | 320.1 | 0.0 | 1 | 2 | 40 |"
    )
    assert lines[place].startswith(
        "| PIGEN \\| C | unfiltered | FUSE, rmax 1500 | 1/4 | 3/5 | 200.0 | 2.0 | 4 | 2 | "
        "10 converged, 1 unfinished, 3 killed, 1 failed, 1 never started; 1 read no seed"
    )
    assert "| all |  | published | 8/440 | 214/440 | 1089.5 | 1.8 | 47 | 28 | 880 |" in lines
    assert any(line.startswith("| all |  | measured | 1/4 | 3/5 |") for line in lines)
    assert len([line for line in lines if "published |" in line]) == 23


@pytest.mark.slow
def test_verb_writes_the_minima(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.h5"
    args = ["csp-collect", str(folder), "-o", str(output), "--library", "aflow", "--as-left"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    assert "c  E_generated − E_CSP, meV/atom   200.0  (n = 3)" in done.output
    bundle = read_bundle(output)
    assert len(bundle) + len(bundle.rejects) == 16
    row = list(bundle.ids).index(f"{bundle.ids[0].split('/')[0]}/composition_only")
    assert bundle.columns["e_relaxed"].values[:2] == pytest.approx([-3.0, -2.95])
    assert bundle.columns["mode"].values[row] == "composition_only"
    assert bundle.crystals.volume[0] == pytest.approx(5.0**3 / 4)  # I-0000000.cif, no other
    assert all(bundle.columns["prototype_rank"].values > 0)  # rock salt
    assert np.all(np.isfinite(bundle.columns["e_hull"].values))  # FUSE's CHGNet is the hull's
    reasons = {reject.reason for reject in bundle.rejects}
    assert "killed: no structure was relaxed" in reasons
    assert "relaxed again to 0.01 eV/Å before they were compared: 0 of 8" in done.output
    assert "never started" in reasons
    said = CliRunner().invoke(main, [*args, "--force", "--json"])
    content = json.loads(said.output)
    assert (content["a"], content["judged"], content["minima"]) == (1, 4, 7)
    shown = CliRunner().invoke(main, ["table", "ed3", str(folder)])
    assert "FUSE, rmax 1500 | 1/4 | 3/5" in shown.output


def test_energies_of_failed_relaxations() -> None:
    header = ",".join(COLUMNS)
    rows = ["initial,I,0,1e17,0,0,0,I-0000000.cif,-", "initial,I,1,9.9e16,0,0,0,I-0000001.cif,-"]
    rows += ["initial,I,2,nan,0,0,0,I-0000002.cif,-", "x,Q,3,-1,0,0,0,a,-", "3,S,4,-2,0,0,0"]
    steps = parse_graph("\n".join([header, *rows]))
    assert [step.energy for step in steps] == [math.inf, 9.9e16, math.inf]
    assert parse_graph("") == ()
    assert parse_graph("not,a,graph\n1,2,3\n") == ()


def test_a_file_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.cif").write_text(to_cif(halide(3), "x"))
    search = tmp_path / "search"
    search.mkdir()
    leave(search, [-1.0], [])
    table = (search / "graph_output.csv").read_text()
    (search / "graph_output.csv").write_text(table.replace("I-0000000.cif", "../../secret.cif"))
    assert read_search(search).minimum() is None


def test_folders_that_hold_no_searches(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder that pigen csp-seed wrote"):
        read_outcomes(tmp_path)
    write_manifest(
        tmp_path, Experiment("airss", "m", "filtered", 0, Settings(), 1, (), {}, (), "0")
    )
    with pytest.raises(UsageError, match="seeds are for airss"):
        read_outcomes(tmp_path)
    manifest = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest.replace('"airss"', '"a\\nirss"'))
    with pytest.raises(PigenError, match="engine: expected a name in small letters") as refused:
        read_outcomes(tmp_path)
    assert "\n" not in str(refused.value)


def test_folders_given_one_too_deep_are_named(folder: Path) -> None:
    composition = next(folder.glob("001*"))
    for deep, kind in ((composition, "one composition"), (composition / "seeded", "one search")):
        done = CliRunner().invoke(main, ["csp-collect", str(deep)])
        assert done.exit_code == 2
        assert f"{deep} is {kind}; give the folder of all, {folder}" in done.output
    done = CliRunner().invoke(main, ["csp-collect", str(folder), str(folder / "searches.txt")])
    assert done.exit_code == 2
    assert "searches.txt' is a file" in done.output


def test_several_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    monkeypatch.chdir(tmp_path)
    args = ["csp-collect", str(folder), str(other), "--library", "aflow", "--as-left", "--json"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0, done.output
    said = [json.loads(line) for line in done.output.splitlines()]
    assert [one["output"] for one in said] == ["csp_minima.h5", "other_minima.h5"]
    assert said[0]["searches"] == said[1]["searches"]
    assert len(read_bundle(tmp_path / "other_minima.h5")) == len(read_bundle(Path("csp_minima.h5")))
    refused = CliRunner().invoke(main, [*args, "-o", "m.h5"])
    assert (refused.exit_code, "-o takes the minima of one DIR" in refused.output) == (2, True)


def test_states_of_a_search(tmp_path: Path) -> None:
    """What run.sh, a scheduler or an installation may leave, beside what a search of FUSE does."""
    search = tmp_path / "search"
    search.mkdir()
    assert read_search(search).status == "never started"
    (search / "fuse.log").touch()
    (search / "output.txt").touch()  # empty until the first relaxation has ended
    early = read_search(search)
    assert (early.status, early.reason) == ("killed", "no structure was relaxed")
    with (search / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        running = read_search(search)
        assert (running.status, running.reason) == ("running", "no structure was relaxed")
    assert read_search(search).status == "killed"  # the lock is there, held by no one
    (search / "exit_code").write_text("124\n")
    assert read_search(search).status == "time limit"
    (search / "exit_code").write_text("1\n")
    assert (read_search(search).status, read_search(search).reason) == ("failed", "exit code 1")
    (search / "fuse.log").write_text(
        "part of a line\n"
        * 9000
        + 'Traceback (most recent call last):\n  File "input.py", line 12, in <module>\n'
        "    from fuse202.all import *\nModuleNotFoundError: No module named 'fuse202'\n"
    )
    assert read_search(search).reason == "ModuleNotFoundError: No module named 'fuse202'"
    leave(search, [-3.0], [-3.1], ended="", running=True)
    (search / "exit_code").write_text("137\n")
    assert (read_search(search).status, read_search(search).reason) == ("time limit", "")
    leave(search, [-3.0], [-3.1])
    assert read_search(search).status == "converged"
    (search / "part").write_text("3\n")
    assert read_search(search).n_parts == 3
    (search / "part").write_text("3 or so\n")
    assert read_search(search).n_parts == 1
