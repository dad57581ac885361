"""Dask clusters as executors: one that runs, or one of Slurm jobs; needs the extra `cluster`."""

from __future__ import annotations

import difflib
import inspect
import platform
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import loads
from typing import Any, ParamSpec, TypeVar

from pigen import __version__
from pigen.runtime.checked import REQUIRED, checked, setting
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor.pool import (
    Task,
    Worker,
    like_this_process,
    no_keywords,
    share_of_memory,
)
from pigen.runtime.files import parse_toml, read_text

P = ParamSpec("P")
R = TypeVar("R")

CONNECT_LIMIT = 30.0
"""s to wait for a scheduler."""
_LOOK = 1.0
"""s between two looks at which workers there are."""
_LOSSES = 10
"""Workers that a task may lose, of a scheduler that we start: jobs are ended by their limits, and
no structure can take a Dask worker with it."""


class ClusterExecutor(Executor):
    """Tasks on the workers of a Dask scheduler.

    A worker hands each task to a process of its own, under the same time limit as in a `LocalPool`,
    and is not harmed by it. A task whose Dask worker is lost runs again on another.
    """

    def __init__(
        self,
        client: Any,
        *,
        time_limit: float | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Look at the workers.

        Args:
            client: a `distributed.Client`.
            time_limit: as of `LocalPool`.
            say: takes a line when workers come and go.

        Raises:
            UsageError: a worker has another version of PIGEN or Python, or none.
        """
        self._client, self._time_limit, self._say = client, time_limit, say
        self._there: Mapping[str, int] = client.nthreads()
        _check_versions(client)
        self._executor: Executor = client.get_executor(pure=False)
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def workers(self) -> int:
        """Tasks that run at a time, 1 while there is no worker yet."""
        return max(sum(self._there.values()), 1)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand a task to the scheduler; function, arguments and result must pickle."""
        task = Task.of(fn, no_keywords(args, kwargs), self._time_limit)
        inner = self._executor.submit(_run, task, _VERSIONS)
        outer: Future[R] = Future()

        def pass_on(done: Future[bytes]) -> None:
            if done.cancelled():
                if not outer.cancelled():
                    outer.set_exception(PigenError("the Dask scheduler is gone"))
            elif outer.set_running_or_notify_cancel():
                error = done.exception()
                if error is None:
                    outer.set_result(loads(done.result()))
                else:
                    outer.set_exception(_in_words(error))

        weak = weakref.ref(inner)  # its end frees the result on the Dask worker: let no cycle wait

        def cancel(done: Future[R]) -> None:
            if done.cancelled() and (still := weak()) is not None:
                still.cancel()

        inner.add_done_callback(pass_on)
        outer.add_done_callback(cancel)
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; those under way are waited for, or cancelled with ``cancel_futures``.

        Args:
            wait: return only when they have ended.
            cancel_futures: cancel what has not ended.
        """
        self._ended.set()
        if self._client.status == "running":
            self._executor.shutdown(wait=wait and not cancel_futures)

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            try:
                there: Mapping[str, int] = self._client.nthreads()
            except (OSError, RuntimeError):  # the scheduler or the client is gone
                continue
            for lines, changed in (
                ("is lost; what it was doing runs again on another", self._there.keys() - there),
                ("joined", there.keys() - self._there),
            ):
                for one in sorted(changed):
                    self._say(f"Dask worker {one} {lines} ({len(there)} there)")
            self._there = there


@contextmanager
def dask_executor(
    address: str, *, time_limit: float | None = None, say: Callable[[str], None] = print
) -> Iterator[Executor]:
    """The workers of a scheduler that runs.

    Args:
        address: host:port.
        time_limit, say: as of `ClusterExecutor`.

    Raises:
        UsageError: the extra is not installed, no scheduler answers, or versions differ.
    """
    distributed = _imported("distributed")
    try:
        client = distributed.Client(f"tcp://{address}", timeout=CONNECT_LIMIT)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler at {address} within {CONNECT_LIMIT:g} s ({error}); start one with "
            "`dask scheduler`, and workers with `dask worker HOST:PORT`"
        ) from None
    with client, _open(client, time_limit, say) as executor:
        yield executor


@contextmanager
def slurm_executor(
    path: Path, *, time_limit: float | None = None, say: Callable[[str], None] = print
) -> Iterator[Executor]:
    """Workers in Slurm jobs, which are submitted here and cancelled at the end.

    Args:
        path: TOML, see `read_slurm`.
        time_limit, say: as of `ClusterExecutor`.

    Raises:
        UsageError: the extra is not installed, or something is wrong with the file.
        PigenError: Slurm refuses the jobs.
    """
    distributed = _imported("distributed")
    jobs = read_slurm(path)
    with jobs.cluster() as cluster:
        try:
            cluster.adapt(**jobs.adapt) if jobs.adapt else cluster.scale(jobs=jobs.jobs)
        except (OSError, RuntimeError) as error:
            raise PigenError(f"{path}: Slurm does not take the jobs: {error}") from error
        with distributed.Client(cluster) as client, _open(client, time_limit, say) as executor:
            yield executor


@contextmanager
def _open(client: Any, time_limit: float | None, say: Callable[[str], None]) -> Iterator[Executor]:
    executor = ClusterExecutor(client, time_limit=time_limit, say=say)
    there = len(client.nthreads())
    say(f"Dask at {client.scheduler.address}: {there or 'waiting for'} workers")
    try:
        yield executor
    except BaseException:
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


# -- Slurm -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SlurmJobs:
    """What a TOML file says of the jobs.

    Attributes:
        path: of the file.
        options: of `dask_jobqueue.SLURMCluster`.
        jobs: how many.
        adapt: ``minimum`` and ``maximum`` jobs in their place, as the work needs.
    """

    path: Path
    options: Mapping[str, Any]
    jobs: int
    adapt: Mapping[str, int]

    def cluster(self) -> Any:
        """The cluster, without jobs yet; UsageError for a value that dask-jobqueue refuses."""
        import dask

        jobqueue = _imported("dask_jobqueue")
        dask.config.set({"distributed.scheduler.allowed-failures": _LOSSES})
        try:
            return jobqueue.SLURMCluster(**self.options)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.path}: {error}") from None


_NOT_FOR_A_FILE = {
    *("self", "asynchronous", "config_name", "job_cls", "job_kwargs", "base_class_kwargs", "loop"),
    *("n_workers", "name", "scheduler", "scheduler_cls", "security"),
}
"""Parameters that are objects, or ours to give."""


def read_slurm(path: Path) -> SlurmJobs:
    """Read the TOML file of ``--executor slurm:FILE``.

    Its keys are parameters of `dask_jobqueue.SLURMCluster` (cores, memory, queue, walltime, …), and
    ``jobs = N`` or ``adapt = {minimum = N, maximum = M}``.

    Raises:
        UsageError: the extra is not installed, the file can't be read, a key is unknown, or a
            value is not what it must be.
    """
    try:
        said = parse_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from None
    size = checked(_Size, {key: said.pop(key) for key in ("jobs", "adapt") if key in said}, path)
    known = _slurm_keys()
    for key in said:
        if key not in known:
            near = difflib.get_close_matches(key, [*known, "jobs", "adapt"], n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise UsageError(f"{path}: unknown key {key!r}{meant}")
    adapt = size.adapt
    bounds = {"minimum_jobs": adapt.minimum, "maximum_jobs": adapt.maximum} if adapt else {}
    return SlurmJobs(path, said, size.jobs or 0, bounds)


@dataclass(frozen=True)
class _Adapt:
    minimum: int = setting(REQUIRED, "Jobs that stay.", lo=0)
    maximum: int = setting(REQUIRED, "Jobs at a time.", lo=1)

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ValueError(f"the minimum {self.minimum} is above the maximum {self.maximum}")


@dataclass(frozen=True)
class _Size:
    jobs: int | None = setting(None, "Slurm jobs.", lo=1)
    adapt: _Adapt | None = None

    def __post_init__(self) -> None:
        if (self.jobs is None) == (self.adapt is None):
            raise ValueError("give jobs = N, or adapt = {minimum = N, maximum = M}")


def _slurm_keys() -> list[str]:
    jobqueue = _imported("dask_jobqueue")
    from dask_jobqueue.core import Job
    from dask_jobqueue.slurm import SLURMJob

    found: set[str] = set()
    for one in (jobqueue.SLURMCluster, SLURMJob, Job):
        found.update(inspect.signature(one.__init__).parameters)
    return sorted(found - _NOT_FOR_A_FILE)


def _imported(name: str) -> Any:
    from importlib import import_module

    handler = signal.getsignal(signal.SIGINT)
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise UsageError(
            f"this executor needs {name}: pip install 'pigen[cluster]' here and on the workers"
        ) from None
    finally:
        # dask_jobqueue makes Ctrl-C end the process at once, without what we save then.
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


# -- on a Dask worker ------------------------------------------------------------------------------
_VERSIONS = {"pigen": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
_own = threading.local()
"""The process of each of a Dask worker's threads."""


def _run(task: Task, versions: Mapping[str, str]) -> bytes:
    """Run a task in the process that belongs to this thread."""
    _check(versions, f"the Dask worker on {platform.node()}")
    if not hasattr(_own, "worker"):
        from distributed import get_worker

        share = share_of_memory(max(get_worker().state.nthreads, 1))
        _own.worker = Worker(like_this_process(), share)
    return bytes(_own.worker.run(task))


def _versions() -> dict[str, str]:
    return _VERSIONS


def _check_versions(client: Any) -> None:
    try:
        found: Mapping[str, Mapping[str, str]] = client.run(_versions)
    except ModuleNotFoundError as error:
        raise UsageError(_in_words(error).args[0]) from None
    for address, versions in found.items():
        _check(versions, f"the Dask worker {address}")


def _check(versions: Mapping[str, str], where: str) -> None:
    for name, version in _VERSIONS.items():
        if versions.get(name) != version:
            raise UsageError(
                f"{where}: {name} {version} and {versions.get(name)} meet; install the same "
                "version of pigen and Python on all machines"
            )


def _in_words(error: BaseException) -> BaseException:
    """An error of Dask's as one of ours."""
    if isinstance(error, ModuleNotFoundError):
        return PigenError(f"a Dask worker lacks {error.name}: install pigen there")
    if type(error).__name__ == "KilledWorker":
        return PigenError(f"a task lost one Dask worker after the other: {error}")
    return error


def say_on_stderr(line: str) -> None:
    """Print a line beside a progress bar."""
    from tqdm import tqdm

    tqdm.write(f"pigen: {line}", file=sys.stderr)
