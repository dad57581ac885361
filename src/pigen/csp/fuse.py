"""What FUSE 2.02 is started with: input.py, run.sh and job scripts.

FUSE is installed by the user. The facts these texts rest on are in docs/csp.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pprint import pformat

from pigen.config.searches import Settings
from pigen.csp.folder import SEEDS, Composition

REFERENCE = "reference_structures"
"""Where FUSE looks for seeds, and deletes those it does not take."""
FAILED = 1e17
"""eV/atom: FUSE gives a failed relaxation an energy of at least this."""
RATTLE = 0.05
"""Å, of every start but the seeds': FUSE's own ``ratt_dist``."""
PART = "part"
"""File with the number of times that a search was started, those that went on with it."""
LOCK = "run.lock"
"""What run.sh holds with flock(1) while a search runs; it names the holder."""
EXIT_CODE, LOG = "exit_code", "fuse.log"
"""What run.sh leaves: FUSE's exit code, 124 or 137 for the time limit, and all that it printed."""
TIMED_OUT = ("124", "137")
"""Exit codes of timeout(1): ended, and killed because it did not end."""

_HEAD = '''\
"""Searches the crystal structure of {formula} with FUSE 2.02 and CHGNet: python input.py

A search that was cut off goes on.
"""

import os

os.chdir(os.path.dirname(os.path.abspath(__file__)))
# FUSE reads these when it is imported; a search with CHGNet alone does not use them.
os.environ.setdefault("GNBOSS_TEMP", "")
os.environ.setdefault("SPP_PATH", "")

from fuse202.all import *  # noqa: E402, F403

# After the line above, which may bind any name.
import functools  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import shutil  # noqa: E402

import numpy  # noqa: E402


def lines_of(path):
    """The lines of a text file, none if it is not there."""
    if not os.path.isfile(path):
        return []
    with open(path) as file:
        return file.readlines()


random_seed = {random_seed}
n_before = max(len(lines_of("restart/graph_output.csv")) - 1, 0)  # its first line is a heading
going_on = n_before > 0
part = 1
if going_on:
    part += int(lines_of("{part}")[0]) if lines_of("{part}") else 1
    if os.path.isfile("output.txt"):  # which FUSE may begin anew
        shutil.copy("output.txt", f"output.part{{part - 1}}.txt")
with open("{part}", "w") as file:
    file.write(f"{{part}}\\n")
'''

_NO_SEEDS = """
seeds = []
"""

_SEEDS = f'''
# FUSE deletes the seeds that it refuses and leaves a temp.cif beside them: it gets fresh copies,
# but not when it goes on, for then it has read them.
seeds = [name for name in os.listdir("{SEEDS}") if name.endswith(".cif")]
if not going_on:
    shutil.rmtree("{REFERENCE}", ignore_errors=True)
    shutil.copytree("{SEEDS}", "{REFERENCE}")
'''

_GUARD = f'''

def guarded(run):
    """The relaxation, from a start on equal terms, and with an energy that FUSE can take.

    Without a rattle the cells that FUSE builds keep their mirror planes and end on saddle points;
    its own ratt_dist would rattle the seeds too, which come first and are kept as they are. FUSE
    makes a Decimal of the energy, which fails for the float32 that numpy 2 keeps.
    """
    starts, n_exact = n_before, None

    @functools.wraps(run)
    def relaxed(*args, **kwargs):
        nonlocal starts, n_exact
        starts += 1
        if n_exact is None:  # FUSE has read the seeds by now, and deleted those that it refused
            n_exact = sum(os.path.exists(os.path.join("{REFERENCE}", name)) for name in seeds)
        if starts > n_exact:
            atoms = kwargs["atoms"] if "atoms" in kwargs else args[0]
            atoms.rattle({RATTLE}, rng=numpy.random.RandomState([random_seed, part, starts]))
        atoms, energy, converged = run(*args, **kwargs)
        return atoms, float(energy), converged

    return relaxed


run_chgnet = guarded(importlib.import_module("fuse202.run_chgnet").run_chgnet)
for name in ("run_chgnet", "run_fuse", "run_multiple_calculators"):
    module = importlib.import_module(f"fuse202.{{name}}")
    if hasattr(module, "run_chgnet"):
        module.run_chgnet = run_chgnet

random.seed(random_seed if part == 1 else f"{{random_seed}} part {{part}}")
'''


def input_py(composition: Composition, settings: Settings, mode: str) -> str:
    """The text of input.py for one of `folder.MODES`.

    Seeds come on top of the initial pool, so both modes draw the same number of random cells,
    and rattle each of them alike. ``iterations`` counts the initial relaxations too, so it lies
    above ``initial_gen + rmax``.
    """
    seeded = mode == "seeded"
    arguments: dict[str, object] = {
        "composition": dict(composition.elements),
        "max_atoms": composition.max_atoms,
        "imax_atoms": composition.max_atoms,
        "initial_gen": settings.initial + composition.n_seeds * seeded,
        "iterations": settings.iterations,
        "rmax": settings.rmax,
        "search": 1,
        "search_gen_bh": 1,
        "ctype": "chgnet",
        "n_opts": 2,
        "rel": None,
        "relaxer_opts": {
            "fmax": [2 * settings.fmax, settings.fmax],
            "steps": [max(settings.steps // 3, 1), settings.steps],
            "verbose": [False, False],
        },
        "opt_class": ["FIRE", "BFGSLineSearch"],
        "opt_device": "cpu",
        "use_spglib": False,
        "ratt_dist": 0,
    }
    given = [_argument(key, value) for key, value in arguments.items()]
    if seeded:
        given += [
            "    read_exisiting_structures=not going_on,",  # FUSE's spelling
            _argument("path_to_structures", REFERENCE),
            _argument("pull_random", False),
            _argument("pull_spp_rank", False),
            _argument("generate_gn_boss_structures", False),
            _argument("rank_gn_structures", None),
        ]
    head = _HEAD.format(
        formula=composition.formula, random_seed=composition.random_seeds[mode], part=PART
    )
    return "\n".join(
        [
            head
            + (_SEEDS if seeded else _NO_SEEDS)
            + _GUARD
            + "run_fuse(  # noqa: F405; it ends the process",
            "    restart=going_on,",
            *given,
            ")",
            "",
        ]
    )


def _argument(name: str, value: object) -> str:
    return f"    {name}={pformat(value, width=90, sort_dicts=False)},"


ENVIRONMENT_SH = """\
# Every run.sh reads this first. Have it find the Python that FUSE is installed for, for instance:
#     . "$HOME/fuse/bin/activate"
#     PYTHON="$HOME/fuse/bin/python"
"""


def run_sh(settings: Settings) -> str:
    """The text of run.sh: one search under a wall-clock limit, for it may never end by itself."""
    return f"""\
#!/bin/sh
# Runs this search for at most PIGEN_CSP_LIMIT (default {settings.hours:g}h), or goes on with it if
# it was cut off. One that has ended is left as it is; with --again it starts anew, and what it
# found is lost. PYTHON is the interpreter that FUSE is installed for, see environment.sh.
cd "$(dirname "$0")" || exit 1
refuse() {{ echo "$PWD: $*" >&2; exit 1; }}
for tool in timeout flock; do
    command -v "$tool" >/dev/null || refuse "$tool is not installed (coreutils, util-linux)"
done
grep -q "^PIGEN" output.txt 2>/dev/null &&
    refuse "holds a search of pigen csp-run, which goes on with it"
exec 9>>{LOCK} || exit 1
flock -w 2 9 || refuse "is being run by $(cat {LOCK})"
echo "process $$ on $(hostname) since $(date)" >{LOCK}
relaxed=$(cat restart/graph_output.csv 2>/dev/null | wc -l)
if [ "$1" = --again ] || {{ [ "$relaxed" -lt 2 ] && [ ! -e graph_output.csv ]; }}; then
    rm -rf structures restart backup output*.txt graph_output.csv global_minimum.cif {LOG} {PART}
elif [ -e graph_output.csv ]; then
    echo "$PWD: has ended; sh run.sh --again starts it anew, and what it found is lost"
    exit 0
fi
rm -f stop.txt {EXIT_CODE}
[ -e ../../environment.sh ] && . ../../environment.sh
export GNBOSS_TEMP="${{GNBOSS_TEMP-}}" SPP_PATH="${{SPP_PATH-}}"
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-1}}"
limit="${{PIGEN_CSP_LIMIT:-{settings.hours:g}h}}"
timeout --kill-after=60 "$limit" "${{PYTHON:-python}}" input.py >>{LOG} 2>&1
code=$?
echo "$code" >{EXIT_CODE}
exit "$code"
"""


MEMORY = "4G"
"""Of one search in a Slurm job: CHGNet and FUSE take about 1.5 GB."""


def slurm_array(searches: Sequence[str], settings: Settings) -> str:
    """The text of a Slurm script with a task for each line of searches.txt."""
    minutes = int(settings.hours * 60) + 10
    return f"""\
#!/bin/sh
#SBATCH --job-name=pigen-csp
#SBATCH --array=1-{len(searches)}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem={MEMORY}
#SBATCH --time={minutes // 60}:{minutes % 60:02d}:00
# Submit it from any folder; submitted again, searches that were cut off go on. environment.sh is
# the place to activate an environment.
# Slurm runs a copy of this script, and knows where it was submitted from.
script=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/^ *Command=//p' | head -n 1)
for folder in "$(dirname "${{script:-none/none}}")" "${{SLURM_SUBMIT_DIR:-.}}" "$(dirname "$0")"; do
    [ -e "$folder/searches.txt" ] && break
done
cd "$folder" && [ -e searches.txt ] || {{
    echo "no searches.txt beside slurm_array.sh; submit it from its own folder" >&2
    exit 1
}}
exec sh "$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" searches.txt)/run.sh"
"""


PARALLEL_SH = """\
#!/bin/sh
# All searches on this machine, one a core, with GNU parallel.
cd "$(dirname "$0")" || exit 1
parallel --version 2>/dev/null | grep -q GNU || {
    echo "GNU parallel is not installed (package parallel)" >&2
    exit 1
}
parallel --joblog parallel.log sh {}/run.sh :::: searches.txt
"""
