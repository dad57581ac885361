"""pigen in a fork of this process: what it imports is imported once, and it can be killed at will.

A fork is sound as long as this process runs no threads: nothing here opens a pool, and gradients
are taken in the forks alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np

from pigen.bundle import Bundle, BundleWriter
from pigen.cli import main

VOLATILE = {"created"}
"""Attributes that may differ between a run and its resumption."""
_GROWING = {"complete", "state", "n_crystals", "n_atoms", "n_rejects"}


@dataclass
class Fork:
    """A pigen under way.

    Attributes:
        pid: of its process.
        said: file of its stderr; appends: file with a line for each chunk that it has finished.
    """

    pid: int
    said: Path
    appends: Path
    began: float

    def wait(self) -> int:
        """Its exit code, negative the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def stop(self, number: signal.Signals) -> int:
        """Send a signal, and wait for the end."""
        os.kill(self.pid, number)
        return self.wait()

    @property
    def stderr(self) -> str:
        return self.said.read_text(encoding="utf-8")

    def finished(self) -> dict[str, tuple[int, int]]:
        """Bundle → crystals and rejects in it after the last chunk that was said to be safe."""
        found = {}
        for line in self.appends.read_text(encoding="utf-8").splitlines():
            name, n, n_rejects = line.rsplit(" ", 2)
            found[name] = (int(n), int(n_rejects))
        return found


def pigen(args: Sequence[object], log: Path, before: Callable[[], object] = lambda: None) -> Fork:
    """Start `pigen args`; ``before`` is called in its process, and log holds what it says."""
    log.mkdir(parents=True, exist_ok=True)
    said, appends = log / "stderr.txt", log / "appends.txt"
    said.write_text("")
    appends.write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python ≥ 3.12 warns of threads that a library left
        pid = os.fork()
    if not pid:
        _run([str(arg) for arg in args], log, said, appends, before)
    return Fork(pid, said, appends, time.monotonic())


def _run(
    args: list[str], log: Path, said: Path, appends: Path, before: Callable[[], object]
) -> NoReturn:
    code: Any = 99
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stdout = (log / "stdout.txt").open("w", encoding="utf-8")
        sys.stderr = said.open("w", encoding="utf-8", buffering=1)
        _note_appends(appends)
        before()
        main(args, prog_name="pigen")
    except SystemExit as ended:
        code = ended.code or 0
    except KeyboardInterrupt:  # before the verb began
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _note_appends(path: Path) -> None:
    append, noted = BundleWriter.append, os.open(path, os.O_WRONLY | os.O_APPEND)

    def append_and_note(self: BundleWriter, chunk: Bundle, state: str = "") -> None:
        append(self, chunk, state)
        os.write(noted, f"{self._path.name} {self.n_written} {self.n_rejected}\n".encode())

    BundleWriter.append = append_and_note  # type: ignore[method-assign]


def completed(args: Sequence[object], log: Path, **more: Any) -> float:
    """Run `pigen args` to its end, which must be good; the seconds it took."""
    fork = pigen(args, log, **more)
    assert fork.wait() == 0, fork.stderr
    return time.monotonic() - fork.began


# -- comparing -----------------------------------------------------------------------------------
def bundles(folder: Path) -> dict[str, Path]:
    """Name → path of the bundles in a folder, those of a shadow left out."""
    return {path.name: path for path in sorted(folder.rglob("*.h5")) if path.name[0] != "."}


def assert_same_files(whole: Path, parts: Path, ignored: Callable[[str], bool]) -> None:
    """The same files in two folders, equal in data; ``ignored`` tells names that may differ."""
    files = [
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (whole, parts)
    ]
    assert files[0] == files[1]
    for name in files[0]:
        if name.endswith(".h5"):
            assert_same_bundle(whole / name, parts / name)
        elif not ignored(name):
            assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def assert_same_bundle(whole: Path, parts: Path) -> None:
    """Every dataset and attribute is equal, apart from the time it was made."""
    with h5py.File(whole, "r") as a, h5py.File(parts, "r") as b:
        assert _names(a) == _names(b)
        for name in [*_names(a), "/"]:
            left, right = _attributes(a[name]), _attributes(b[name])
            assert left == right, f"{name} of {parts}"
        for name in _names(a):
            if isinstance(a[name], h5py.Dataset):
                assert a[name].dtype == b[name].dtype
                np.testing.assert_array_equal(a[name][()], b[name][()], err_msg=name)


def assert_beginning(whole: Path, part: Path) -> tuple[int, int]:
    """Plain h5py opens a stopped writer's bundle, which is a beginning of the whole one.

    Returns:
        Its crystals and rejects.
    """
    with h5py.File(whole, "r") as a, h5py.File(part, "r") as b:
        assert set(_names(b)) == set(_names(a))
        for name in [*_names(a), "/"]:
            left, right = _attributes(a[name]), _attributes(b[name])
            for key in _GROWING:
                left.pop(key, None), right.pop(key, None)
            assert left == right, f"{name} of {part}"
        for name in _names(a):
            if isinstance(a[name], h5py.Dataset):
                n = len(b[name])
                np.testing.assert_array_equal(b[name][()], a[name][:n], err_msg=name)
        n, n_atoms, n_rejects = (
            int(b.attrs[key]) for key in ("n_crystals", "n_atoms", "n_rejects")
        )
        assert [len(b[key]) for key in ("id", "crystals/ptr", "rejects/id")] == [
            *(n, n + 1, n_rejects)
        ]
        assert len(b["crystals/frac_coords"]) == n_atoms
        return n, n_rejects


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visit(found.append)
    return sorted(found)


def _attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    return {
        key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        for key, value in item.attrs.items()
        if key not in VOLATILE
    }


def left_behind(folder: Path) -> Iterator[str]:
    """What a writer that ended well must not leave: shadows, locks, parts."""
    return (path.name for path in folder.rglob(".*"))
