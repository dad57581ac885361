"""Where loops over structures run: any `concurrent.futures.Executor`, a local pool by default."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from pigen.errors import PigenError

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class SerialExecutor(Executor):
    """Runs each task in this process, at once, when it is submitted."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run the task; the future returned is done."""
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def available_cores() -> int:
    """Cores this process may use, which a job scheduler may have made fewer than there are."""
    return len(os.sched_getaffinity(0))


@contextmanager
def local_executor(workers: int | None = None) -> Iterator[Executor]:
    """A pool of processes on this machine, each held to one thread.

    Args:
        workers: how many; None for one per core. One means no other process: tasks then run in
            this one, as they are submitted.

    Workers are spawned, never forked: a fork of a process in which torch, numba or HDF5 run threads
    may hang. They ignore Ctrl-C, which is for this process to handle, and end when it ends, however
    it ends. Leaving the context by an exception ends them without waiting for their tasks.
    """
    n = available_cores() if workers is None else workers
    if n < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if n == 1:
        yield SerialExecutor()
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        n, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


def map_ordered(
    executor: Executor, fn: Callable[[T], R], items: Iterable[T], in_flight: int | None = None
) -> Iterator[R]:
    """``fn`` of every item, in order, with few items under way at any time.

    Unlike `Executor.map`, it takes the next item only when a result is taken, so a stream of any
    length passes through bounded memory.

    Args:
        executor: where ``fn`` runs.
        fn: a function that pickles, and so do its argument and result.
        items: taken lazily.
        in_flight: how many results may be under way or waiting; None for twice the cores of this
            machine. A serial executor never works ahead.

    Raises:
        PigenError: a worker process died.
        Exception: whatever ``fn`` raises, at its item's turn.
    """
    limit = 1 if isinstance(executor, SerialExecutor) else in_flight or 2 * available_cores()
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(fn, item))
            if len(pending) >= limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise PigenError("a worker process died, perhaps for lack of memory") from error
    finally:
        for future in pending:
            future.cancel()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before any library is loaded: each would start a thread per core in every worker.
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    torch: Any = sys.modules.get("torch")
    if torch is not None:  # the user's main script imported it
        torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A killed parent cannot tell its workers, which would wait for tasks for ever."""
    parent.join()
    os._exit(1)
