"""A built wheel works in any folder, without the repository and without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
MAX_WHEEL_BYTES = 32 * 2**20
SOURCES = {
    *(".ci", "benchmarks", "docs", "src", "tests", "LICENSE", "CITATION.cff"),
    *("Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml", "PKG-INFO", ".gitignore"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", ".pre-commit-config.yaml"),
}
"""What stands at the top of the source distribution."""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an sdist of the working tree and of the wheel made of that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """The wheel."""
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``pigen`` of a fresh virtual environment that borrows this one's dependencies."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # A path named in a .pth file is searched, but its own .pth files are not read: the editable
    # install of this environment stays out of sight.
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*command, "--no-index", "--no-deps", str(wheel)], check=True)
    return folder / "bin" / "pigen"


def run(command: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run in a folder, with nothing of the repository in the environment and no way out."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIGEN"))}
    environment |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [str(command), *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_wheel_carries_the_package_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} <= {"pigen"} | {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }
    for needed in ("experiments/pigen_mled_c.toml", "published_tables.toml"):
        assert f"pigen/data/{needed}" in names
    assert not [name for name in names if name.endswith((".nbi", ".nbc", ".pyc"))]
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_sdist_carries_the_sources_and_nothing_else(dist: Path) -> None:
    (built,) = dist.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = [name.split("/")[1:] for name in archive.getnames()]
    assert {name[0] for name in names} == SOURCES
    assert ["tests", "test_install.py"] in names
    assert not [n for n in names if n[-1].endswith((".nbi", ".nbc", ".pyc", ".whl"))]
    assert built.stat().st_size < MAX_WHEEL_BYTES


def test_help_and_version_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", cwd=tmp_path).stdout.startswith("pigen, version ")
    done = run(installed, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "run" in done.stdout


def test_shipped_experiment_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    options = ["--set", "sample.n=4", "--set", "sample.steps=4", "--out", "out"]
    done = run(installed, "run", "pigen_mled_c", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| A′ |" in done.stdout
    table = json.loads((tmp_path / "out" / "table.json").read_text("utf-8"))
    assert table["rates"]["A"]["total"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
