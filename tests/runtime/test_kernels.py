"""Kernels: compiled once, which is said, and kept in the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pigen.runtime import kernels, resources
from pigen.runtime.progress import QUIET

CODE = "import numpy as np; from pigen.crystal import lattice; lattice.determinant(np.eye(3))"


def started(*, quiet: bool = False, **variables: str) -> subprocess.Popen[str]:
    env = {**os.environ, **variables}
    for name in ("NUMBA_CACHE_DIR", QUIET):
        env.pop(name, None)
    if quiet:
        env[QUIET] = "1"
    command = [sys.executable, "-c", CODE]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    text = process.communicate(timeout=300)[1]
    assert process.returncode == 0, text
    return text.splitlines()


@pytest.fixture
def beside() -> Iterator[None]:
    """Nothing is written beside the sources."""
    folder = Path(resources.__file__).parents[1] / "crystal" / "__pycache__"
    before = {path.name for path in folder.glob("lattice.*.nb*")}
    yield
    assert {path.name for path in folder.glob("lattice.*.nb*")} == before


@pytest.mark.usefixtures("beside")
def test_compiling_is_said_once_and_kept_for_the_user(tmp_path: Path) -> None:
    cache = str(tmp_path)
    pair = [started(XDG_CACHE_HOME=cache), started(XDG_CACHE_HOME=cache)]  # of one command
    assert [line for one in pair for line in said(one)] == [kernels.SAID]
    kept = {path.name.split("-")[0] for path in (tmp_path / "pigen" / "numba").glob("*/*.nbi")}
    assert "lattice.determinant" in kept
    assert said(started(XDG_CACHE_HOME=cache)) == []
    assert said(started(XDG_CACHE_HOME=str(tmp_path / "other"), quiet=True)) == []


@pytest.mark.usefixtures("beside")
def test_without_a_folder_each_process_compiles(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert said(started(XDG_CACHE_HOME=str(tmp_path / "file"))) == [kernels.SAID]


@pytest.mark.usefixtures("beside")
def test_a_home_is_not_needed(tmp_path: Path) -> None:
    del_home = {"XDG_CACHE_HOME": "", "HOME": str(tmp_path / "nowhere" / "home")}
    assert said(started(**del_home)) == [kernels.SAID]
    assert (tmp_path / "nowhere" / "home" / ".cache" / "pigen" / "numba").is_dir()
