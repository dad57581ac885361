"""Disks that are full, folders that can't be written in, files that lost their tail."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
from forks import bundles, completed, pigen

from pigen.bundle import Bundle, bundle_info, iter_bundle, read_bundle, write_bundle
from pigen.bundle.appending import size_bound
from pigen.config import PseudoRandomConfig
from pigen.model.pseudo_random import pseudo_random_bundles
from pigen.runtime.executor import SerialExecutor

pytestmark = pytest.mark.slow

SERIAL = SerialExecutor()
TINY = ["model.scalars=8", "model.vectors=4", "model.messages=4", "model.layers=1"]


@contextlib.contextmanager
def here(where: object = None) -> Iterator[SerialExecutor]:
    """In place of workers, which would import everything anew."""
    yield SERIAL


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pigen.io.sources.CHUNK", 8)
        patch.setattr(
            "pigen.runtime.executor.open_executor",
            lambda where=None: contextlib.nullcontext(SERIAL),
        )
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "cells.h5"
    elements = "Li Na K Rb Mg Ca Sr Ba Al Ga In O S Se Te F Cl Br".split()
    config = PseudoRandomConfig(n_atoms=(2, 6), min_separation=1.0)
    write_bundle(path, Bundle.concatenate(list(pseudo_random_bundles(config, 400, 0, elements))))
    return path


def sets(*settings: str) -> list[str]:
    return [arg for one in settings for arg in ("--set", one)]


WRITERS: dict[str, Callable[[Path, Path], list[object]]] = {
    "import": lambda source, out: ["import", source, "-o", out / "a.h5"],
    "label": lambda source, out: ["label", source, "--columns", "c", "-o", out / "a.h5"],
    "filter": lambda source, out: ["filter", source, "--c", "0.5:0.9", "-o", out / "a.h5"],
    "energy": lambda source, out: [
        *("energy", source, "--model", "ase.calculators.emt:EMT", "--device", "cpu"),
        *("-o", out / "a.h5"),
    ],
    "export csv": lambda source, out: ["export", source, "--format", "csv", "-o", out / "a.csv"],
    "export cif": lambda source, out: ["export", source, "--format", "cif", "-o", out / "a"],
    "export zip": lambda source, out: ["export", source, "--format", "cif", "-o", out / "a.zip"],
    "known": lambda source, out: ["known", source, "-o", out / "a.txt.gz"],
    "csp-seed": lambda source, out: ["csp-seed", source, "--select", "random", "-o", out / "a"],
    "run": lambda source, out: ["run", "pseudo_random", *sets("sample.n=9"), "--out", out / "a"],
    "train": lambda source, out: [
        *("train", "diffcsp", "--out", out / "a"),
        *sets(*TINY, "train.epochs=1", "train.device='cpu'", f"data.train=['{source}']"),
    ],
}


def end_of(
    args: list[object], log: Path, before: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Exit code and the one line of error, after what else was said."""
    fork = pigen(args, log, before)
    code = fork.wait()
    assert "Traceback" not in fork.stderr, fork.stderr
    lines = [line for line in fork.stderr.splitlines() if line.startswith("pigen: error:")]
    assert len(lines) == 1, fork.stderr
    return code, lines[0]


@pytest.mark.parametrize("verb", WRITERS)
def test_a_quota_ends_every_verb_with_one_line(verb: str, source: Path, tmp_path: Path) -> None:
    """A limit on the size of files, as `ulimit -f` sets it, is the poor man's quota."""

    def little() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))

    out = tmp_path / "out"
    out.mkdir()
    code, said = end_of(WRITERS[verb](source, out), tmp_path / "log", little)
    assert code == 1
    assert "cannot write" in said
    assert "File too large" in said
    assert not bundles(out)


# -- disks that are mounted for the test -----------------------------------------------------------
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB; skipped where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here: not root, or in a container without the right")
    yield path
    subprocess.run(["umount", path], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def test_a_full_disk_keeps_the_chunks_before(source: Path, disk: Path, tmp_path: Path) -> None:
    output = disk / "a.h5"
    args: list[object] = ["filter", source, "--c", "0.1:0.9", "--keep-all", "-o", output]
    completed([*args[:-1], tmp_path / "whole.h5"], tmp_path / "log")
    # Room for the file, and for what an append claims, but not for the file twice.
    whole = tmp_path / "whole.h5"
    first = size_bound(next(iter_bundle(whole, 8)))
    (disk / "filler").write_bytes(bytes(4 * 2**20 - first - whole.stat().st_size))
    code, said = end_of(args, tmp_path / "log")
    assert code == 1
    assert f"cannot write {output}: No space left on device" in said
    with h5py.File(output, "r") as file:
        n = int(file.attrs["n_crystals"])
        assert 0 < n < 400
        assert f"it holds the {n} crystals before" in said
    assert [path.name for path in disk.iterdir() if path.name != "filler"] == ["a.h5"]
    (disk / "filler").unlink()
    completed([*args, "--resume"], tmp_path / "log")
    assert read_bundle(output).ids.tolist() == read_bundle(tmp_path / "whole.h5").ids.tolist()


@pytest.mark.parametrize("verb", WRITERS)
def test_a_disk_that_is_full_from_the_start(
    verb: str, source: Path, disk: Path, tmp_path: Path
) -> None:
    fill(disk)
    code, said = end_of(WRITERS[verb](source, disk), tmp_path / "log")
    assert code == 1
    assert "No space left on device" in said


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be made, not even by root."""
    path = tmp_path / "read_only"
    path.mkdir()
    if os.geteuid():
        path.chmod(0o555)
        yield path
        path.chmod(0o755)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("root, and no disk can be mounted read-only here")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("verb", WRITERS)
def test_a_read_only_folder_is_named_before_any_work(
    verb: str, source: Path, read_only: Path, tmp_path: Path
) -> None:
    code, said = end_of(WRITERS[verb](source, read_only), tmp_path / "log")
    assert code == 2
    assert f"cannot write in {read_only}" in said


# -- lost tails ------------------------------------------------------------------------------------
@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_a_bundle_without_its_tail_is_named_with_what_to_do(
    source: Path, tmp_path: Path, left: float
) -> None:
    half = tmp_path / "half.h5"
    content = source.read_bytes()
    half.write_bytes(content[: int(left * len(content))])
    label = ["label", "--columns", "c"]
    for args, output in (
        ([*label, half, "-o"], tmp_path / "a.h5"),
        ([*label, source, "--resume", "-o"], half),
    ):
        code, said = end_of([*args, output], tmp_path / "log")
        assert code == 1
        assert f"{half} is damaged" in said
        assert "take a whole copy of it, or remove it and make it again" in said
    assert half.stat().st_size == int(left * len(content))  # nobody made it worse


@pytest.mark.parametrize("name", ["samples.h5", "evaluated.h5", "survivors.h5"])
def test_a_run_with_a_damaged_stage_says_which(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    run = ["run", "pseudo_random", *sets("sample.n=9"), "--out", out, "--resume"]
    completed(run, tmp_path / "log")
    with (out / name).open("r+b") as file:
        file.truncate((out / name).stat().st_size // 2)
    code, said = end_of([*run], tmp_path / "log")
    assert code == 1
    assert f"{out / name} is damaged" in said
    (out / name).unlink()  # as it says
    completed(run, tmp_path / "log")
    assert bundle_info(out / name).complete
