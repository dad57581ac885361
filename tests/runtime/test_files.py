"""Files whole or not at all, one writer for each, and signals that wait."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest

from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import append_line, check_writable, replaced, write_atomically
from pigen.runtime.lock import Lock, interrupts_later, lock_of


def half_written(path: Path) -> None:
    with replaced(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "Å\n")
    with pytest.raises(PigenError, match=f"cannot write {path}: No space left"):
        half_written(path)
    append_line(path, "two\n")
    assert path.read_text(encoding="utf-8") == "Å\ntwo\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_to_be_made_is_as_writable_as_what_it_is_made_in(tmp_path: Path) -> None:
    check_writable(tmp_path / "runs" / "first")
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        check_writable(tmp_path / "file" / "first")


def test_a_lock_where_there_is_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    target = tmp_path / "a.h5"
    hint = f"process {os.getpid()} on .*; if that has ended, remove {lock_of(target)}"
    with Lock(target), pytest.raises(PigenError, match=hint):
        Lock(target)
    assert not lock_of(target).exists()
    for holder, is_free in (
        (f"{2**22 + 1}\n{socket.gethostname()}\n", True),  # no process has that number
        (f"{2**22 + 1}\nelsewhere\n", False),
        ("", True),  # killed before it wrote its name
    ):
        lock_of(target).write_text(holder)
        if is_free:
            Lock(target).release()
            continue
        with pytest.raises(PigenError, match=r"being written by .*if that has ended, remove"):
            Lock(target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_wait_even_where_interrupts_are_ignored(number: signal.Signals) -> None:
    """As under nohup: a SIGTERM in the block must not be taken for the Ctrl-C that is ignored."""
    heard: list[int] = []
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(number, lambda n, _: heard.append(n))
    try:
        with interrupts_later():
            signal.raise_signal(number)
            assert heard == []
        assert heard == [number]
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
