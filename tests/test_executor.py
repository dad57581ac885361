"""The local pool: ordered, bounded, single-threaded, and gone when its owner is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest

from pigen.errors import PigenError
from pigen.executor import SerialExecutor, available_cores, local_executor, map_ordered


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with local_executor(2) as executor:
        yield executor


def slow_first(x: int) -> int:
    time.sleep(0.2 if x == 0 else 0)
    return x * x


def threads(_: int) -> str:
    return os.environ["OMP_NUM_THREADS"] + os.environ["NUMBA_NUM_THREADS"]


def fail(x: int) -> int:
    if x == 3:
        raise ZeroDivisionError
    return x


def die(_: int) -> None:
    os._exit(1)


def test_results_keep_the_order(pool: Executor) -> None:
    assert list(map_ordered(pool, slow_first, range(20), 4)) == [x * x for x in range(20)]


def test_one_worker_is_this_process() -> None:
    with local_executor(1) as executor:
        assert isinstance(executor, SerialExecutor)
        (pid,) = map_ordered(executor, lambda _: os.getpid(), [0])
    assert pid == os.getpid()


def test_workers_have_one_thread(pool: Executor) -> None:
    assert set(map_ordered(pool, threads, range(4))) == {"11"}


@pytest.mark.parametrize(("serial", "limit"), [(True, 1), (False, 3)])
def test_few_items_are_under_way(pool: Executor, serial: bool, limit: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for i in range(50):
            taken += 1
            yield i

    results = map_ordered(SerialExecutor() if serial else pool, slow_first, items(), 3)
    for done in range(10):
        next(results)
        assert taken - done <= limit


@pytest.mark.parametrize("serial", [True, False])
def test_an_error_comes_at_its_turn(pool: Executor, serial: bool) -> None:
    results = map_ordered(SerialExecutor() if serial else pool, fail, range(9), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_dead_worker_is_a_clear_error() -> None:
    with (
        pytest.raises(PigenError, match="a worker process died"),
        local_executor(2) as executor,
    ):
        list(map_ordered(executor, die, range(3)))


def test_no_workers() -> None:
    with pytest.raises(ValueError, match="at least 1"), local_executor(0):
        pass
    assert available_cores() >= 1


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from pigen.executor import local_executor, map_ordered

            def pid(_):
                time.sleep(0.05)
                return os.getpid()

            if __name__ == "__main__":
                with local_executor(2) as executor:
                    print(*set(map_ordered(executor, pid, range(8))), flush=True)
                    time.sleep(60)
            """
        )
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [int(word) for word in process.stdout.readline().split()]
    assert workers
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
