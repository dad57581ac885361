"""A structure that hangs, kills, or fills a worker is refused by the verbs; the rest is as ever."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pigen.bundle import Bundle, read_bundle, strings, write_bundle
from pigen.crystal.crystals import Crystals

pytestmark = pytest.mark.slow

OWN = '''
import os, signal, time
from pathlib import Path
import numpy as np
import pigen

WAYS = {{
    11: lambda: time.sleep(600),
    13: lambda: sum(range(10**12)),
    17: lambda: os._exit(3),
    19: lambda: os.kill(os.getpid(), signal.SIGKILL),
}}

@pigen.descriptor("odd", pigen.ColumnSpec("odd", "", "first atomic number"))
def odd(crystals):
    """Misbehaves for crystals that begin with some elements."""
    found = crystals.atomic_numbers[crystals.ptr[:-1]]
    for z in found:
        if z in {bad!r}:
            WAYS[int(z)]()
    return pigen.Evaluated({{"odd": found.astype(float)}}, pigen.no_reasons(crystals))
'''
REASONS = {
    11: "timed out: no result after 3 s",
    13: "timed out: no result after 3 s",
    17: "ended its worker: exit code 3",
    19: "killed its worker: SIGKILL",
}
ELEMENTS = [3, 4, 11, 5, 6, 13, 7, 17, 8, 19, 9, 10]


def pigen(*arguments: object) -> Any:
    command = [sys.executable, "-m", "pigen", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def source(folder: Path, elements: Sequence[int]) -> Path:
    crystals = [Crystals.single(np.eye(3) * 4, np.zeros((1, 3)), [z]) for z in elements]
    path = folder / f"source_{len(elements)}.h5"
    ids = strings(f"z{z}" for z in elements)
    write_bundle(path, Bundle(crystals=Crystals.concatenate(crystals), ids=ids))
    return path


@pytest.mark.parametrize("executor", ["local:1", "local:2"])
def test_label(tmp_path: Path, executor: str) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN.format(bad=set(REASONS)))
    path, out = source(tmp_path, ELEMENTS), tmp_path / "labelled.h5"
    options = ("--descriptors", own, "--columns", "odd,c", "--time-limit", 3, "-o", out)
    counts = pigen("label", path, *options, "--executor", executor)
    assert (counts["read"], counts["labelled"], counts["rejected"]) == (12, 8, 4)
    labelled = read_bundle(out)
    assert {r.id: r.reason for r in labelled.rejects} == {f"z{z}": r for z, r in REASONS.items()}

    good = [z for z in ELEMENTS if z not in REASONS]
    path, alone = source(tmp_path, good), tmp_path / "good.h5"
    pigen("label", path, "--descriptors", own, "--columns", "odd,c", "-o", alone)
    expected = read_bundle(alone)
    assert labelled.ids.tolist() == expected.ids.tolist()
    for name in ("odd", "c"):
        found = labelled.columns[name].values
        np.testing.assert_array_equal(found, expected.columns[name].values)


def test_filter(tmp_path: Path) -> None:
    """Every structure has verdicts; one that could not be judged fails with its reason."""
    own = tmp_path / "own.py"
    own.write_text(OWN.format(bad={17}))
    path, out = source(tmp_path, ELEMENTS), tmp_path / "kept.h5"
    counts = pigen("filter", path, "--descriptors", own, "--where", "odd=0:12.5", "-o", out)
    assert (counts["read"], counts["kept"], counts["rejected"]) == (12, 9, 3)
    rejects = {r.id: r.reason for r in read_bundle(out).rejects}
    assert rejects["z17"] == REASONS[17]
    assert set(rejects) == {"z13", "z17", "z19"}
