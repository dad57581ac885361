"""What Linux has and macOS lacks: what rests on it works without it too."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_crystals import assert_same, bundle_of

from pigen.bundle import read_bundle, write_bundle
from pigen.runtime import device
from pigen.runtime.errors import PigenError
from pigen.runtime.executor import LocalPool, available_cores
from pigen.runtime.lock import Lock, lock_of


@pytest.fixture(autouse=True)
def no_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_getaffinity", "posix_fallocate"):
        monkeypatch.delattr(os, name, raising=False)

    def nothing() -> int:
        raise OSError("tells nothing")

    monkeypatch.setattr(device, "_of_machine", nothing)


def test_workers_without_a_limit_of_memory() -> None:
    assert available_cores() == os.cpu_count()
    pool = LocalPool(1)
    try:
        assert pool.submit(abs, -2).result() == 2
    finally:
        pool.shutdown()


def test_bundles_and_full_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.h5"
    write_bundle(path, bundle_of(3))
    assert_same(read_bundle(path), bundle_of(3))
    monkeypatch.setattr(shutil, "disk_usage", lambda where: SimpleNamespace(free=1000))
    with pytest.raises(PigenError, match="No space left"):
        write_bundle(tmp_path / "other.h5", bundle_of(3))


def test_a_worker_ends_after_its_owner() -> None:
    code = (
        "import os, subprocess, sys; "
        "inner = 'import sys; from pigen.runtime.executor.worker import _end_with; "
        "_end_with(int(sys.argv[1]))'; "
        "subprocess.Popen([sys.executable, '-c', inner, str(os.getpid())]); print('started')"
    )
    # The pipe closes when the last of both has ended.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, text=True)
    assert done.stdout == "started\n"


def test_lock_of_a_holder_that_ended(tmp_path: Path) -> None:
    target = tmp_path / "b.h5"
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    lock_of(target).write_text(f"{int(ended.stdout)}\n{socket.gethostname()}\n")
    Lock(target).release()
