"""A pool of worker processes on this machine, in which no structure takes the others with it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from multiprocessing import Pipe, spawn
from typing import Any, ParamSpec, TypeVar

from pigen.runtime.device import available_memory
from pigen.runtime.errors import PigenError
from pigen.runtime.executor import worker
from pigen.runtime.executor.mapping import Divisible

P = ParamSpec("P")
R = TypeVar("R")

START_LIMIT = 600.0
"""s that a worker may take to start and to load what a task needs."""
LEAST_MEMORY = 4 * 2**30
"""Bytes that a worker may hold however little memory there is for each: a structure needs a
fraction, and the libraries their part."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_BOOTSTRAP = (
    "import signal, sys, json; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "from pigen.runtime.executor.worker import main; main(*map(int, sys.argv[2:]))"
)
_POLL = 3600.0
"""s: `Connection.poll` takes no infinity."""
_LONE = 16
"""A piece of at most so many structures is divided into single ones."""


class Lost(Exception):
    """A task took its worker with it.

    Attributes:
        reason: what became of it; what follows a colon is detail.
        killed: whether the worker died by itself, which has causes beside the task.
    """

    def __init__(self, reason: str, *, killed: bool = False) -> None:
        """Keep what happened."""
        super().__init__(reason)
        self.reason, self.killed = reason, killed


class LocalPool(Executor):
    """Worker processes, each held to one thread and a share of the memory.

    Workers are new processes, never forks: a fork of a process in which torch, numba or HDF5 run
    threads may hang. They ignore Ctrl-C, which is for this process to handle, and end when it ends,
    however it ends.

    A task that shows no sign of life (`alive`) for the time limit, kills its worker or runs out of
    memory is done again in pieces if it is `Divisible`, as long as it takes to find the structures
    at fault, which are refused with the reason. Any other task may take any time, and if it kills
    its worker ends in PigenError.
    """

    def __init__(
        self, workers: int, *, time_limit: float | None = None, memory: int | None = None
    ) -> None:
        """No processes yet: each starts with its first task.

        Args:
            workers: how many.
            time_limit: s without a sign of life after which a `Divisible` task is given up; None
                for what the task says.
            memory: bytes that each worker may hold, 0 for no limit; None for a share of what is
                available, `LEAST_MEMORY` or more.

        Raises:
            ValueError: no workers.
            RuntimeError: called while a worker imports the main module, which must start its work
                under ``if __name__ == "__main__":``.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        self.workers = workers
        if memory is None:
            memory = share_of_memory(workers)
        preparation = like_this_process()
        self._time_limit = time_limit
        self._crew = [Worker(preparation, memory) for _ in range(workers)]
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(one,), daemon=True) for one in self._crew
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queue a task; function, arguments and result must pickle. RuntimeError once shut down."""
        future: Future[R] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot submit to a pool that has been shut down")
            self._jobs.put((future, fn, no_keywords(args, kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, after the tasks queued unless ``cancel_futures``.

        Args:
            wait: return only when they have ended.
            cancel_futures: cancel what waits and kill what is under way.
        """
        with self._lock:
            self._closed = True
        if cancel_futures:
            while True:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is not None:
                    job[0].cancel()
            for one in self._crew:
                one.close()
        for _ in self._crew:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self, one: Worker) -> None:
        """Run tasks in one worker, in the thread that the worker's life hangs on."""
        while (job := self._jobs.get()) is not None:
            future, fn, args = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                task = Task.of(fn, args, self._time_limit)
                future.set_result(pickle.loads(one.run(task)))
            except BaseException as error:
                future.set_exception(error)
            del future, fn, args, job  # before the next task is waited for
        one.end()


_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Task:
    """A call, pickled.

    Attributes:
        fn: the function.
        args: its arguments.
        limit: s it may take without a sign of life; None for any time: it is not `Divisible`.
    """

    fn: bytes
    args: bytes
    limit: float | None

    @classmethod
    def of(
        cls, fn: Callable[..., Any], args: tuple[Any, ...], time_limit: float | None = None
    ) -> Task:
        """Pickle a call; ``time_limit`` takes the place of what a `Divisible` function says."""
        limit = (time_limit or fn.time_limit) if isinstance(fn, Divisible) else None
        return cls(_dumps(fn), _dumps(args), limit)


def no_keywords(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...]:
    """The positional arguments; TypeError if there are others, which no task of ours has."""
    if keywords:
        raise TypeError("tasks take positional arguments only")
    return args


def share_of_memory(workers: int) -> int:
    """Bytes that each of so many workers may hold; 0, no limit, where the system tells nothing."""
    try:
        return max(available_memory() // workers, LEAST_MEMORY)
    except OSError:  # macOS
        return 0


def like_this_process() -> dict[str, Any]:
    """What makes a new process find the modules that this one finds.

    Raises:
        RuntimeError: called while a worker imports the main module.
    """
    preparation = spawn.get_preparation_data("pigen worker")
    preparation.pop("authkey")  # which does not pickle, and serves nothing here
    return preparation


class Worker:
    """One worker process, replaced when it is lost. All but `close` belong to one thread."""

    def __init__(self, preparation: dict[str, Any], memory: int) -> None:
        """No process yet.

        Args:
            preparation: from `like_this_process`.
            memory: as of `LocalPool`.
        """
        self._preparation, self._memory = preparation, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def _start(self) -> None:
        """Have a process."""
        with self._lock:
            if self._process is not None or self._closed:
                return
            self._connection, theirs = Pipe()
            command = (json.dumps(sys.path), theirs.fileno(), os.getpid(), self._memory)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOTSTRAP, *map(str, command)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Before any library is loaded: each would start a thread per core.
                env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")},
            )
            theirs.close()
        with contextlib.suppress(OSError):  # it has died already, which its first task will find
            self._connection.send(self._preparation)

    def end(self) -> None:
        """Let the process go; it has no task."""
        if self._process is not None:
            self._connection.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._kill()
        self._process = None

    def close(self) -> None:
        """Kill the process, from any thread, for good."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def run(self, task: Task) -> bytes:
        """The result of a task, pickled.

        Raises:
            PigenError: the worker was lost, and the function is not `Divisible`; or it can't start.
            Lost: also the refusal of its one thing was lost.
            Exception: whatever the task raises.
        """
        try:
            return self._once(task, None, task.limit or math.inf)
        except Lost as error:
            lost = error
        if task.limit is None:
            said = f"a worker process died, perhaps for lack of memory ({lost})"
            raise PigenError(said) from lost
        fn: Divisible[Any, Any] = pickle.loads(task.fn)
        (item,) = pickle.loads(task.args)
        n = fn.size(item)
        if n > 1:
            size = 1 if n <= _LONE else math.isqrt(n - 1) + 1
            parts = [replace(task, args=_dumps((part,))) for part in fn.divide(item, size)]
            return _dumps(fn.join([pickle.loads(self.run(part)) for part in parts]))
        if lost.killed:  # perhaps by somebody else
            try:
                return self._once(task, None, task.limit)
            except Lost as error:
                lost = error
        return self._once(replace(task, args=_dumps((item, lost.reason))), "refuse", math.inf)

    def _once(self, task: Task, how: str | None, limit: float) -> bytes:
        """Have the process do one thing; Lost if that takes it away."""
        order = _dumps((task.fn, how, task.args))
        try:
            kind, answer = self._begin(order)
        except Lost:  # by somebody else: the task had not begun
            try:
                kind, answer = self._begin(order)
            except Lost as lost:
                raise PigenError(f"a worker process does not start ({lost})") from lost
        while kind in (worker.STARTED, worker.ALIVE):
            kind, answer = self._receive(limit)
        if kind == worker.NO_MEMORY:
            raise Lost(f"out of memory: more than {self._memory / 2**30:.2g} GiB")
        if kind == worker.FAILED:
            error, text = pickle.loads(answer)
            error.__cause__ = _Remote(text)
            raise error
        return answer

    def _begin(self, order: bytes) -> tuple[int, bytes]:
        """Hand the process an order, and wait until it has loaded what that needs."""
        self._start()
        if self._process is None:
            raise PigenError("interrupted")
        with contextlib.suppress(OSError):  # it has died: the answer tells
            self._connection.send_bytes(order)
        return self._receive(START_LIMIT)

    def _receive(self, limit: float) -> tuple[int, bytes]:
        """The next answer; Lost if none comes in so many seconds, or never will."""
        deadline = time.monotonic() + limit
        try:
            while not self._connection.poll(min(max(deadline - time.monotonic(), 0.0), _POLL)):
                if time.monotonic() >= deadline:
                    self._kill()
                    raise Lost(f"timed out: no result after {limit:g} s")
            answer = self._connection.recv_bytes()
            return answer[0], answer[1:]
        except (EOFError, OSError):
            raise Lost(self._how_it_died(), killed=True) from None

    def _how_it_died(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(10)  # the connection closes before the process has ended
        except subprocess.TimeoutExpired:
            code = 0
        self._kill()
        if self._closed:
            raise PigenError("interrupted")
        if code < 0:
            return f"killed its worker: {signal.Signals(-code).name}"
        return f"ended its worker: exit code {code}"

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._connection.close()
            self._process = None


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


class _Remote(Exception):
    """Shows the traceback of a worker under an exception that it raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"
