"""What FUSE 2.02 is started with: input.py, run.sh and job scripts.

FUSE is installed by the user. The facts these texts rest on are in docs/csp.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pprint import pformat

from pigen.csp.folder import SEEDS, Composition, Settings

REFERENCE = "reference_structures"
"""Where FUSE looks for seeds, and deletes those it does not take."""
FAILED = 1e17
"""eV/atom: FUSE gives a failed relaxation an energy of at least this."""

_HEAD = '''\
"""Searches the crystal structure of {formula} with FUSE 2.02 and CHGNet: python input.py"""

import os
import shutil

os.chdir(os.path.dirname(os.path.abspath(__file__)))
# FUSE reads these when it is imported; a search with CHGNet alone does not use them.
os.environ.setdefault("GNBOSS_TEMP", "")
os.environ.setdefault("SPP_PATH", "")
'''

_SEEDS = f'''
# FUSE deletes the seeds that it refuses and leaves a temp.cif beside them: it gets fresh copies.
shutil.rmtree("{REFERENCE}", ignore_errors=True)
shutil.copytree("{SEEDS}", "{REFERENCE}")
'''

_GUARD = '''
from fuse202.all import *  # noqa: E402, F403

# After the line above, which may bind any name.
import functools  # noqa: E402
import importlib  # noqa: E402
import random  # noqa: E402


def plain_energy(run):
    """FUSE makes a Decimal of the energy, which fails for the float32 that numpy 2 keeps."""

    @functools.wraps(run)
    def plain(*args, **kwargs):
        atoms, energy, converged = run(*args, **kwargs)
        return atoms, float(energy), converged

    return plain


guarded = plain_energy(importlib.import_module("fuse202.run_chgnet").run_chgnet)
for name in ("run_chgnet", "run_fuse", "run_multiple_calculators"):
    module = importlib.import_module(f"fuse202.{name}")
    if hasattr(module, "run_chgnet"):
        module.run_chgnet = guarded
'''


def input_py(composition: Composition, settings: Settings, mode: str) -> str:
    """The text of input.py for one of `folder.MODES`.

    The seed comes on top of the initial pool, so both modes draw the same number of random cells.
    ``iterations`` counts the initial relaxations too, so it lies above ``initial_gen + rmax``.
    """
    seeded = mode == "seeded"
    arguments: dict[str, object] = {
        "composition": dict(composition.elements),
        "max_atoms": composition.max_atoms,
        "imax_atoms": composition.max_atoms,
        "restart": False,
        "initial_gen": settings.initial + seeded,
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
    }
    if seeded:
        arguments |= {
            "read_exisiting_structures": True,  # FUSE's spelling
            "path_to_structures": REFERENCE,
            "pull_random": False,
            "pull_spp_rank": False,
            "generate_gn_boss_structures": False,
            "rank_gn_structures": None,
            "use_spglib": False,
            "ratt_dist": 0,
        }
    lines = [
        f"    {key}={pformat(value, width=90, sort_dicts=False)},"
        for key, value in arguments.items()
    ]
    return "\n".join(
        [
            _HEAD.format(formula=composition.formula) + (_SEEDS if seeded else "") + _GUARD,
            f"random.seed({composition.random_seeds[mode]})",
            "run_fuse(  # noqa: F405; it ends the process",
            *lines,
            ")",
            "",
        ]
    )


def run_sh(settings: Settings) -> str:
    """The text of run.sh: one search under a wall-clock limit, for it may never end by itself."""
    return f"""\
#!/bin/sh
# Runs this search for at most PIGEN_CSP_LIMIT (default {settings.hours:g}h). One that ended is left
# as it is; one that was killed starts anew. PYTHON is the interpreter that FUSE is installed for.
cd "$(dirname "$0")" || exit 1
if [ -e graph_output.csv ]; then
    echo "$PWD: has ended before"
    exit 0
fi
if grep -q "^PIGEN" output.txt 2>/dev/null; then
    echo "$PWD: holds a search of pigen csp-run, which goes on with it" >&2
    exit 1
fi
rm -rf structures restart backup output.txt stop.txt exit_code
export GNBOSS_TEMP="${{GNBOSS_TEMP-}}" SPP_PATH="${{SPP_PATH-}}"
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-1}}"
limit="${{PIGEN_CSP_LIMIT:-{settings.hours:g}h}}"
timeout --kill-after=60 "$limit" "${{PYTHON:-python}}" input.py >fuse.log 2>&1
code=$?
echo "$code" >exit_code
exit "$code"
"""


def slurm_array(searches: Sequence[str], settings: Settings) -> str:
    """The text of a Slurm script with a task for each line of searches.txt."""
    minutes = int(settings.hours * 60) + 10
    return f"""\
#!/bin/sh
#SBATCH --job-name=pigen-csp
#SBATCH --array=1-{len(searches)}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time={minutes // 60}:{minutes % 60:02d}:00
# Submit it from this folder: sbatch slurm_array.sh
cd "${{SLURM_SUBMIT_DIR:-.}}" || exit 1
sh "$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" searches.txt)/run.sh"
"""


PARALLEL_SH = """\
#!/bin/sh
# All searches on this machine, one a core, with GNU parallel.
cd "$(dirname "$0")" && parallel --joblog parallel.log sh {}/run.sh :::: searches.txt
"""
