"""The local pool: ordered, bounded, single-threaded, gone when its owner is; what spoils a task is
found and refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import (
    Divisible,
    LocalPool,
    SerialExecutor,
    Where,
    alive,
    available_cores,
    map_ordered,
    open_executor,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with open_executor(Where(2)) as executor:
        yield executor


@pytest.fixture(scope="module")
def impatient() -> Iterator[Executor]:
    """Workers with 1 s and 256 MiB."""
    pool = LocalPool(2, time_limit=1.0, memory=2**28)
    yield pool
    pool.shutdown(cancel_futures=True)


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


def unpicklable(_: int) -> Callable[[], None]:
    return lambda: None


class NeedsTwo(Exception):
    """Pickles, and does not come back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def odd_error(_: int) -> None:
    raise NeedsTwo(1, 2)


# -- what structures may do ------------------------------------------------------------------------
def sleep() -> None:
    time.sleep(60)


def busy() -> None:
    sum(range(10**12))  # holds the interpreter, so no thread of the worker runs


def leave() -> None:
    os._exit(7)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hoard() -> None:
    bytearray(2**36)


def steady() -> None:
    for _ in range(5):
        time.sleep(0.5)
        alive()


BAD: dict[str, tuple[Callable[[], None], str]] = {
    "sleep": (sleep, "timed out: no result after 1 s"),
    "busy": (busy, "timed out: no result after 1 s"),
    "leave": (leave, "ended its worker: exit code 7"),
    "killed": (killed, "killed its worker: SIGKILL"),
    "segfault": (segfault, "killed its worker: SIGSEGV"),
    "hoard": (hoard, "out of memory: more than 0.25 GiB"),
}


@dataclass(frozen=True)
class Shout(Divisible[list[str], list[str]]):
    """Upper case, unless a word does what it says; ``once`` is a folder of what was done before."""

    once: str = ""

    def __call__(self, item: list[str]) -> list[str]:
        for word in item:
            if word in BAD and not self._done_before(word):
                BAD[word][0]()
            if word == "steady":
                steady()
        return [word.upper() for word in item]

    def _done_before(self, word: str) -> bool:
        if not self.once:
            return False
        try:
            Path(self.once, word).touch(exist_ok=False)
        except FileExistsError:
            return True
        return False

    def size(self, item: list[str]) -> int:
        return len(item)

    def divide(self, item: list[str], size: int) -> list[list[str]]:
        return [item[i : i + size] for i in range(0, len(item), size)]

    def join(self, results: Sequence[list[str]]) -> list[str]:
        return [word for result in results for word in result]

    def refuse(self, item: list[str], reason: str) -> list[str]:
        return [f"{item[0]} {reason}"]

    def nothing(self, item: list[str]) -> list[str]:
        return []


def test_results_keep_the_order(pool: Executor) -> None:
    assert list(map_ordered(pool, slow_first, range(20), 4)) == [x * x for x in range(20)]


def test_one_worker_is_another_process() -> None:
    with open_executor(Where(1)) as executor:
        (pid,) = {executor.submit(os.getpid).result() for _ in range(3)}
    assert pid != os.getpid()


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

    results = map_ordered(SerialExecutor() if serial else pool, slow_first, items(), limit)
    for done in range(10):
        next(results)
        assert taken - done <= limit


@pytest.mark.parametrize("serial", [True, False])
def test_an_error_comes_at_its_turn(pool: Executor, serial: bool) -> None:
    results = map_ordered(SerialExecutor() if serial else pool, fail, range(9), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_does_not_pickle_is_an_error(pool: Executor) -> None:
    for task, error in ((unpicklable, "pickle"), (odd_error, "NeedsTwo")):
        with pytest.raises(Exception, match=error):
            pool.submit(task, 0).result(30)
    with pytest.raises(Exception, match="pickle"):
        pool.submit(lambda: 1).result(30)
    assert pool.submit(os.getpid).result(30)


def test_a_dead_worker_is_a_clear_error_and_is_replaced() -> None:
    with open_executor(Where(1)) as executor:
        with pytest.raises(PigenError, match=r"a worker process died.*exit code 1"):
            executor.submit(die, 0).result()
        assert executor.submit(slow_first, 3).result() == 9


def test_no_workers() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LocalPool(0)
    assert available_cores() >= 1


@pytest.mark.parametrize("text", ["", "local:", "local:0", "local:-1", "local:two", "threads", "2"])
def test_what_names_no_executor(text: str) -> None:
    with pytest.raises(UsageError, match="local:N"):
        Where.parse(text)


def test_executors_by_name() -> None:
    assert Where.parse("local") == Where()
    assert Where.parse("local:3") == Where(workers=3)
    assert Where.parse("local:3").for_few() == Where(workers=1)


# -- isolation -------------------------------------------------------------------------------------
@pytest.mark.parametrize("word", BAD)
def test_what_spoils_a_task_is_refused_alone(impatient: Executor, word: str) -> None:
    chunks = [["a", "b"], ["c", "d", word, "e"], ["f"], [word], []]
    found = list(map_ordered(impatient, Shout(), chunks))
    refused = f"{word} {BAD[word][1]}"
    assert found == [["A", "B"], ["C", "D", refused, "E"], ["F"], [refused], []]


def test_two_of_many(impatient: Executor) -> None:
    words = [f"w{i}" for i in range(300)]
    words[17], words[230] = "leave", "killed"
    (found,) = map_ordered(impatient, Shout(), [words])
    refused = {i: word for i, word in enumerate(found) if " " in word}
    assert refused == {17: f"leave {BAD['leave'][1]}", 230: f"killed {BAD['killed'][1]}"}
    assert [w for w in found if " " not in w] == [w.upper() for w in words if w not in BAD]


def test_what_was_killed_by_somebody_else_is_not_refused(
    impatient: Executor, tmp_path: Path
) -> None:
    assert impatient.submit(Shout(str(tmp_path)), ["killed"]).result() == ["KILLED"]
    chunk = ["a", "segfault", "b"]
    assert impatient.submit(Shout(str(tmp_path)), chunk).result() == ["A", "SEGFAULT", "B"]


def test_a_sign_of_life_starts_the_clock_anew(impatient: Executor) -> None:
    assert impatient.submit(Shout(), ["steady"]).result() == ["STEADY"]


def test_leaving_by_an_error_does_not_wait() -> None:
    start = time.monotonic()

    def leave_early() -> None:
        with open_executor(Where(2)) as executor:
            for _ in range(5):
                executor.submit(time.sleep, 60)
            time.sleep(0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert time.monotonic() - start < 20


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from pigen.runtime.executor import Where, open_executor, map_ordered

            def pid(_):
                time.sleep(0.05)
                return os.getpid()

            def busy():
                sum(range(10**12))

            if __name__ == "__main__":
                with open_executor(Where(2)) as executor:
                    pids = set(map_ordered(executor, pid, range(8)))
                    executor.submit(busy)
                    time.sleep(0.2)
                    print(*pids, flush=True)
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
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


def test_a_main_module_that_starts_work_when_imported(tmp_path: Path) -> None:
    """Such a script would start itself again and again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from pigen.runtime.executor import open_executor\n"
        "with open_executor() as executor:\n"
        "    executor.submit(os.getpid).result()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "__main__" in done.stderr
    assert "a worker process does not start" in done.stderr


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
