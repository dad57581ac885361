"""Searches with FUSE: input.py, run.sh and the job scripts, run against a stand-in for FUSE.

The stand-in is a package fuse202 in a temporary folder that does what docs/csp.md says of FUSE: it
reads seeds and deletes those that it refuses, relaxes by the run_chgnet that its modules bind,
writes FUSE's files, goes on from restart/, and fails where FUSE fails. It records each start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest

from pigen.bundle import Bundle, strings
from pigen.config.searches import Request, Settings
from pigen.crystal.crystals import Crystals
from pigen.csp.results import COLUMNS, read_search
from pigen.csp.seed import csp_seed

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])

RUN_FUSE = """
import csv, json, os, random, sys, time
from decimal import Decimal

import ase.io
from ase import Atoms
from fuse202.run_multiple_calculators import run_chgnet

COLUMNS = "{columns}"


def run_fuse(restart, initial_gen, rmax, composition, read_exisiting_structures=False, **given):
    done, graph = [], "restart/graph_output.csv"
    if restart:
        done = list(csv.reader(open(graph)))[1:]
    else:
        for name in ("structures", "restart"):
            os.makedirs(name, exist_ok=True)
        open("output.txt", "w").write("#### Flexible Unit Structure Engine\\n")
        open(graph, "w").write(COLUMNS + "\\n")
    starts = []
    if read_exisiting_structures:
        names = sorted(os.listdir("reference_structures"))
        for name in names:
            atoms = ase.io.read("reference_structures/" + name)
            if len(atoms) > given["max_atoms"]:
                os.remove("reference_structures/" + name)
            else:
                starts.append(atoms)
        open("reference_structures/temp.cif", "w").close()
        with open("output.txt", "a") as out:
            out.write(f"... successfully read {len(starts)} structure\\n")
    limit = int(os.environ.get("FAKE_LIMIT", 10**6))
    for slot in range(len(done), initial_gen + rmax):
        kind = "I" if slot < initial_gen else "S"
        if slot < len(starts):
            atoms = starts[slot].copy()
        else:  # a cell with mirror planes, as FUSE builds them
            symbols = [e for e, n in composition.items() for _ in range(n)]
            a = 4 + random.random()
            places = [[i * a / 2, 0, 0] for i in range(len(symbols))]
            atoms = Atoms(symbols, places, cell=[a] * 3, pbc=True)
        began = atoms.positions.tolist()
        atoms, energy, converged = run_chgnet(atoms=atoms, n_opts=given["n_opts"])
        energy = Decimal(energy)
        file = f"{kind}-{slot:07d}.cif"
        ase.io.write("structures/" + file, atoms, format="cif")
        with open(graph, "a") as out:
            out.write(f"1,{kind},{slot},{energy},0.02,0,0,{file},-\\n")
        with open("starts.jsonl", "a") as out:
            said = {"slot": slot, "began": began, "relaxed": atoms.positions.tolist()}
            out.write(json.dumps(said) + "\\n")
        if os.path.exists("stop.txt"):
            break
        if slot + 1 >= limit:
            time.sleep(60)
    else:
        with open("output.txt", "a") as out:
            out.write("*** BH rountine converged, stopping calculation ***\\n")
    os.replace(graph, "graph_output.csv")
    sys.exit()
"""
PACKAGE = {
    "__init__.py": "",
    "run_chgnet.py": (  # relaxes nothing, so that what it was given shows
        "import numpy as np\ndef run_chgnet(atoms='', n_opts=2):\n"
        "    return atoms, np.float32(-1.5), True\n"
    ),
    "run_multiple_calculators.py": "from fuse202.run_chgnet import *\n",
    "run_fuse.py": RUN_FUSE.replace("{columns}", ",".join(COLUMNS)),
    "all.py": (
        "import os\nos.environ['GNBOSS_TEMP'], os.environ['SPP_PATH']\n"
        "from random import random\n"  # hides the module of that name
        "from fuse202.run_fuse import run_fuse\n"
    ),
}


def rock_salt(a: float, z1: int, z2: int) -> Crystals:
    return Crystals.single(FCC * a, [[0, 0, 0], [0.5, 0.5, 0.5]], [z1, z2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Searches of MgO and NaCl, 6 random starts and 3 steps each."""
    made = Bundle(
        crystals=Crystals.concatenate([rock_salt(4.21, 12, 8), rock_salt(5.64, 11, 17)]),
        ids=strings(["MgO", "NaCl"]),
    )
    settings = Settings(rmax=3, initial=6, iterations=1000, hours=1.5)
    csp_seed(made, Request(choice="random", settings=settings), tmp_path / "csp")
    return tmp_path / "csp"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Of a shell that has the stand-in for FUSE."""
    package = tmp_path / "python" / "fuse202"
    package.mkdir(parents=True)
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(package.parent),
        "PYTHON": sys.executable,
        "SLURM_JOB_ID": "7",
    }


def run(search: Path, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """run.sh of a search, started from elsewhere."""
    return subprocess.run(
        ["sh", search / "run.sh", *args],
        env=env,
        cwd="/",
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )


def searches(folder: Path) -> tuple[Path, Path]:
    found = next(folder.glob("*_MgO"))
    return found / "seeded", found / "composition_only"


def starts(search: Path) -> list[dict[str, Any]]:
    """What FUSE relaxed: where each start was built, and what the relaxation was given."""
    lines = (search / "starts.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def shifts(search: Path) -> list[float]:
    """Å, root mean square displacement of each start along an axis before it was relaxed."""
    return [
        float(np.sqrt(np.mean((np.array(one["relaxed"]) - np.array(one["began"])) ** 2)))
        for one in starts(search)
    ]


def test_starts_are_on_equal_terms(folder: Path, env: dict[str, str]) -> None:
    for search in searches(folder):
        done = run(search, env)
        assert done.returncode == 0, (search / "fuse.log").read_text()
        assert (search / "exit_code").read_text() == "0\n"
    seeded, alone = (shifts(search) for search in searches(folder))
    assert (len(seeded), len(alone)) == (1 + 6 + 3, 6 + 3)
    assert seeded[0] == 0  # the seed is exact
    seed = ase.io.read(searches(folder)[0] / "seeds" / "seed.cif")
    assert np.allclose(starts(searches(folder)[0])[0]["relaxed"], seed.positions, atol=1e-4)
    for rattled in (seeded[1:], alone):  # and every other start of either is off its mirror planes
        assert min(rattled) > 0.01
        assert 0.03 < np.mean(rattled) < 0.08
    assert len(set(seeded[1:] + alone)) == len(seeded[1:] + alone)  # each by another rattle


def test_a_refused_seed_leaves_no_start_exact(folder: Path, env: dict[str, str]) -> None:
    search = searches(folder)[0]
    text = (search / "input.py").read_text()
    (search / "input.py").write_text(text.replace("max_atoms=8", "max_atoms=4"))
    run(search, env)
    assert read_search(search).n_seeds == 0
    assert min(shifts(search)) > 0.01
    assert (search / "seeds" / "seed.cif").exists()


def test_started_anew_it_repeats_itself_with_fresh_seeds(folder: Path, env: dict[str, str]) -> None:
    search, said = searches(folder)[0], []
    for _ in range(2):
        assert run(search, env, "--again").returncode == 0
        said.append((search / "starts.jsonl").read_text())
        (search / "starts.jsonl").unlink()
        assert read_search(search).n_seeds == 1  # temp.cif is none
    assert said[0] == said[1]


def test_an_ended_search_is_left_as_it_is(folder: Path, env: dict[str, str]) -> None:
    search = searches(folder)[1]
    run(search, env)
    table = (search / "graph_output.csv").read_bytes()
    done = run(search, env)
    assert done.returncode == 0  # a job array may be submitted again
    assert "has ended; sh run.sh --again starts it anew" in done.stdout
    assert (search / "graph_output.csv").read_bytes() == table
    assert read_search(search).status == "converged"
    assert len(starts(search)) == 9
    run(search, env, "--again")
    assert len(starts(search)) == 18


def test_a_search_cut_off_goes_on(folder: Path, env: dict[str, str]) -> None:
    search = searches(folder)[0]
    short = {**env, "PIGEN_CSP_LIMIT": "6s", "FAKE_LIMIT": "4"}
    assert run(search, short).returncode == 124
    found = read_search(search)
    assert (found.status, found.n_parts, len(found.steps)) == ("time limit", 1, 4)
    # FUSE may begin its output anew; what was read is not forgotten
    assert run(search, env).returncode == 0
    found = read_search(search)
    assert (found.status, found.n_parts) == ("converged", 2)
    assert [step.slot for step in found.steps] == list(range(10))
    assert found.n_seeds == 1
    moved = shifts(search)
    assert moved[0] == 0 < min(moved[1:])  # no seed was read again
    assert len(set(moved)) == 10  # nor a random number drawn again
    built = [one["began"][1][0] for one in starts(search)[1:]]
    assert len(set(built)) == 9


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_running_search_is_not_started_again(folder: Path, env: dict[str, str]) -> None:
    search = searches(folder)[1]
    slow = {**env, "FAKE_LIMIT": "2"}
    with subprocess.Popen(["sh", search / "run.sh"], env=slow, start_new_session=True) as first:
        wait_until(lambda: len(read_search(search).steps) == 2)
        assert read_search(search).status == "running"
        refused = run(search, env, "--again")
        assert refused.returncode == 1
        assert f"is being run by process {first.pid} on " in refused.stderr
        assert len(read_search(search).steps) == 2
        # The whole session, for timeout(1) has a process group of its own.
        subprocess.run(["pkill", "-KILL", "-s", str(first.pid)], check=True)
    wait_until(lambda: read_search(search).status == "killed")  # a killed holder holds nothing
    assert run(search, env).returncode == 0
    assert (read_search(search).status, read_search(search).n_parts) == ("converged", 2)


def test_fuse_that_cannot_be_imported_is_named(folder: Path, env: dict[str, str]) -> None:
    search = searches(folder)[1]
    bare = {**env, "PYTHONPATH": ""}
    assert run(search, bare).returncode == 1
    found = read_search(search)
    assert found.status == "failed"
    assert found.reason == "ModuleNotFoundError: No module named 'fuse202'"
    assert run(search, env).returncode == 0  # and goes well once it is installed
    assert read_search(search).status == "converged"


def test_environment_sh_finds_the_python(folder: Path, env: dict[str, str]) -> None:
    with (folder / "environment.sh").open("a") as file:
        file.write(f'PYTHON="{sys.executable}"\n')
    search = searches(folder)[1]
    assert run(search, {**env, "PYTHON": "/nowhere"}).returncode == 0


def test_run_sh_ends_a_search_that_never_ends(
    folder: Path, env: dict[str, str], tmp_path: Path
) -> None:
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 60\n")
    endless.chmod(0o755)
    search = searches(folder)[1]
    limited = {**env, "PYTHON": str(endless), "PIGEN_CSP_LIMIT": "0.2s"}
    assert run(search, limited).returncode == 124
    assert "1.5h" in (search / "run.sh").read_text()
    found = read_search(search)
    assert (found.status, found.reason) == ("time limit", "no structure was relaxed")
    (search / "output.txt").write_text("PIGEN basin hopper, potential x\n")
    refused = run(search, limited)
    assert refused.returncode == 1
    assert "pigen csp-run, which goes on with it" in refused.stderr
    assert (search / "output.txt").exists()


def tools(path: Path, *names: str) -> str:
    """A PATH with nothing but these programs of the machine."""
    path.mkdir()
    for name in names:
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True)
        (path / name).symlink_to(found.stdout.strip())
    return str(path)


def test_missing_tools_are_named(folder: Path, env: dict[str, str], tmp_path: Path) -> None:
    env["PATH"] = tools(tmp_path / "bin", "sh", "dirname", "grep", "cat", "flock")
    done = run(searches(folder)[1], env)
    assert done.returncode == 1
    assert "timeout is not installed" in done.stderr
    command = ["sh", folder / "parallel.sh"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "GNU parallel is not installed (package parallel)\n"


def test_the_array_script_finds_its_folder(
    folder: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """As Slurm runs it: a copy elsewhere, from where it was submitted; scontrol knows its path."""
    spool = tmp_path / "spool"
    spool.mkdir()
    copy = spool / "slurm_script"
    copy.write_bytes((folder / "slurm_array.sh").read_bytes())
    (spool / "scontrol").write_text(
        f"#!/bin/sh\n[ \"$*\" = 'show job 7' ] && echo '   Command={folder}/slurm_array.sh'\n"
    )
    (spool / "scontrol").chmod(0o755)
    names = (folder / "searches.txt").read_text().split()
    assert "#SBATCH --array=1-4\n" in copy.read_text()
    task = {**env, "SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_ARRAY_TASK_ID": "2"}

    def submit(**changes: str) -> subprocess.CompletedProcess[str]:
        found = {**task, **changes}
        return subprocess.run(
            ["sh", copy], env=found, cwd="/", capture_output=True, text=True, check=False
        )

    assert submit(PATH=f"{spool}:{env['PATH']}").returncode == 0
    assert read_search(folder / names[1]).status == "converged"
    assert read_search(folder / names[0]).status == "never started"
    # without scontrol, from the folder it was submitted in
    assert submit(SLURM_SUBMIT_DIR=str(folder), SLURM_ARRAY_TASK_ID="1").returncode == 0
    assert read_search(folder / names[0]).status == "converged"
    lost = submit()
    assert lost.returncode == 1
    assert "no searches.txt beside slurm_array.sh" in lost.stderr


def test_job_scripts_name_every_search(folder: Path) -> None:
    names = (folder / "searches.txt").read_text().split()
    assert len(names) == 4
    assert all((folder / name / "run.sh").is_file() for name in names)
    script = (folder / "slurm_array.sh").read_text()
    assert "#SBATCH --time=1:40:00\n" in script
    assert "#SBATCH --mem=4G\n" in script
    assert ":::: searches.txt" in (folder / "parallel.sh").read_text()
    for path in folder.rglob("*.sh"):
        subprocess.run(["sh", "-n", path], check=True)
        assert os.access(path, os.X_OK) == (path.name != "environment.sh")
