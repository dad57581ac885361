"""docs/cookbook.md: each job, run as written but for its numbers, where it finds what it needs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from known_structures import known_structures
from transcripts import Step, run_steps, steps_of

from pigen.crystal.crystals import Crystals
from pigen.io.export import to_cif

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cookbook.md"
SMALL = {
    r"--n \d+": "--n 2",
    r"sample\.n=\d+": "sample.n=3 --set sample.steps=4",
    r"--max-steps \d+": "--max-steps 60",
    r"train\.epochs=\d+": "train.epochs=2",
    r"pip install \S+": "true",  # tests/test_install.py installs the wheel
}
MADE = {
    "best 20": ["best.png", "best.csv"],
    "lithium": ["li.html"],
    "Materials Project": ["new.html"],
    "charge": ["balanced.html"],
    "one composition": ["predicted/report.html"],
    "like one": ["variants.html"],
    "perovskites": ["model/losses.png", "samples.h5"],
    "MatterGen": ["kept.html"],
    "cluster": ["kept.h5"],
}
"""Words of a job's heading → the pictures, or what is left where there is none."""


def jobs() -> dict[str, list[Step]]:
    """Heading → its commands."""
    text = PAGE.read_text("utf-8")
    starts = [text.count("\n", 0, m.start()) + 1 for m in re.finditer("^## ", text, re.M)]
    headings = re.findall("^## (.*)$", text, re.M)
    found: dict[str, list[Step]] = {heading: [] for heading in headings}
    for step in steps_of(PAGE):
        found[headings[sum(start < step.line for start in starts) - 1]].append(step)
    return found


def small(command: str) -> str:
    for pattern, less in SMALL.items():
        command = re.sub(pattern, less, command)
    return command


def perovskite(a: int, b: int, x: int) -> Crystals:
    frac = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Crystals.single(4.0 * np.eye(3), frac, [a, b, x, x, x])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the jobs take: folders of CIFs, one CIF, extended XYZ."""
    known = known_structures()
    real = {name: known[name].crystals for name in ("CsCl", "MgO", "Cu")}
    unknown = {f"n{b}": perovskite(a, b, 7) for a, b in ((56, 31), (38, 32), (20, 50))}
    oxides = {f"p{a}{b}": perovskite(a, b, 8) for a in (20, 38, 56) for b in (22, 40, 72)}
    for name, crystals in (("cifs", real | unknown), ("perovskites", oxides)):
        (tmp_path / name).mkdir()
        for id_, crystal in crystals.items():
            (tmp_path / name / f"{id_}.cif").write_text(to_cif(crystal, id_), encoding="utf-8")
    shutil.copy(tmp_path / "cifs" / "MgO.cif", tmp_path / "mine.cif")
    from ase.io import write

    write(tmp_path / "generated_crystals.extxyz", Crystals.concatenate([*real.values()]).to_ase())
    return tmp_path


def test_every_job_is_short_and_ends_in_what_is_looked_for() -> None:
    found = jobs()
    assert len(found) == len(MADE)
    for heading, steps in found.items():
        assert 1 <= len(steps) <= 3, heading
        assert sum(word in heading for word in MADE) == 1, heading


@pytest.mark.slow
@pytest.mark.parametrize("heading", jobs())
def test_a_job_runs_as_written(heading: str, folder: Path) -> None:
    run_steps(PAGE, jobs()[heading], folder, numbers=False, change=small)
    (made,) = (files for words, files in MADE.items() if words in heading)
    for name in made:
        assert (folder / name).stat().st_size > 0
