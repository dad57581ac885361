"""Loops over an executor, and work that can be divided where one structure spoils it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

TIME_LIMIT = 60.0
"""s that a call may take: most are done within a second."""


class Divisible(ABC, Generic[T, R]):
    """A function of an item that holds many structures, which may be given to it in pieces.

    A worker that such a call hangs, kills or leaves without memory is replaced; the item is then
    done in pieces, and the structure that alone does so is refused.

    Attributes:
        time_limit: s without a sign of life (`pigen.runtime.executor.alive`) after which a call
            is taken to hang.
    """

    time_limit: float = TIME_LIMIT

    @abstractmethod
    def __call__(self, item: T) -> R:
        """The result; of an item without structures too."""

    @abstractmethod
    def size(self, item: T) -> int:
        """Number of structures."""

    @abstractmethod
    def divide(self, item: T, size: int) -> list[T]:
        """The item in pieces of at most ``size`` structures, at least one piece."""

    @abstractmethod
    def join(self, results: Sequence[R]) -> R:
        """The result of an item from those of its pieces."""

    @abstractmethod
    def refuse(self, item: T, reason: str) -> R:
        """The result of an item whose one structure cannot be worked on, and why."""

    @abstractmethod
    def nothing(self, item: T) -> T:
        """The item without its structures: a call with it loads what all calls need."""


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
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def map_ordered(
    executor: Executor, fn: Callable[[T], R], items: Iterable[T], in_flight: int | None = None
) -> Iterator[R]:
    """``fn`` of every item, in order, with few items under way at any time.

    Unlike `Executor.map`, it takes the next item only when a result is taken, so a stream of any
    length passes through bounded memory.

    Args:
        executor: where ``fn`` runs.
        fn: a function that pickles, and so do its argument and result; a `Divisible` one survives
            bad structures.
        items: taken lazily.
        in_flight: how many results may be under way or waiting; None for twice the workers that the
            executor has. A serial executor never works ahead.

    Raises:
        PigenError: a worker process died, and ``fn`` is not `Divisible`.
        Exception: whatever ``fn`` raises, at its item's turn.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(fn, item))
            if len(pending) >= (in_flight or width(executor)):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def width(executor: Executor) -> int:
    """Tasks that keep an executor busy: twice its workers; a serial one never works ahead."""
    if isinstance(executor, SerialExecutor):
        return 1
    workers: int = getattr(executor, "workers", 0) or available_cores()
    return 2 * workers
