"""Dask as an executor: results as of the local pool, whoever is lost; and Slurm's job scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from test_executor import BAD, Shout, fail, is_alive

from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.executor import Where, map_ordered, open_executor
from pigen.runtime.executor.cluster import ClusterExecutor, read_slurm

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.skipif(
        find_spec("dask_jobqueue") is None, reason="the extra cluster is not installed"
    ),
]
slow = pytest.mark.slow

SLURM = """
cores = 4
processes = 2
memory = "8GB"
queue = "long"
walltime = "02:00:00"
job_extra_directives = ["--gres=gpu:1"]
job_script_prologue = ["module load python"]
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "slurm.toml"


# -- Slurm -----------------------------------------------------------------------------------------
def test_ctrl_c_stays_ours(toml: Path) -> None:
    toml.write_text(SLURM + "jobs = 3\n")
    code = (  # in a process of its own: dask_jobqueue takes Ctrl-C when it is first imported
        "import signal, sys; from pathlib import Path; "
        "from pigen.runtime.executor.cluster import read_slurm; "
        "before = signal.getsignal(signal.SIGINT); read_slurm(Path(sys.argv[1])); "
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code, str(toml)], check=True)


def test_the_job_script_has_what_the_file_says(toml: Path) -> None:
    toml.write_text(SLURM + "jobs = 3\n")
    jobs = read_slurm(toml)
    assert (jobs.jobs, jobs.adapt) == (3, {})
    with jobs.cluster() as cluster:
        script = cluster.job_script()
    for text in ("-p long", "-t 02:00:00", "--gres=gpu:1", "module load python", "-n 1", "8G"):
        assert text in script
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--nworkers 2" in script


def test_jobs_as_the_work_needs(toml: Path) -> None:
    toml.write_text(SLURM + "adapt = {minimum = 1, maximum = 20}\n")
    assert read_slurm(toml).adapt == {"minimum_jobs": 1, "maximum_jobs": 20}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs = 1\nwaltime = '1'", "unknown key 'waltime'; did you mean 'walltime'"),
        ("jobs = 1\nzzz = 1", "unknown key 'zzz'; known: account"),
        ("", "give jobs = N"),
        ("jobs = 1\nadapt = {minimum = 1, maximum = 2}", "give jobs = N"),
        ("jobs = 0", "jobs: must be at least 1, got 0"),
        ("jobs = true", "jobs: expected a whole number, got true"),
        ("adapt = {minimum = 3, maximum = 2}", "adapt: the minimum 3 is above the maximum 2"),
        ("adapt = {minimum = 3}", "adapt.maximum: missing"),
        ("adapt = 3", "adapt: expected a table, got 3"),
        ("jobs =", "slurm.toml: "),
    ],
)
def test_a_file_that_says_what_can_not_be(toml: Path, text: str, said: str) -> None:
    toml.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_slurm(toml)


def test_a_file_without_what_dask_jobqueue_needs(toml: Path) -> None:
    toml.write_text("jobs = 1")
    with pytest.raises(UsageError, match=r"slurm.toml: .*cores"):
        read_slurm(toml).cluster()


def test_the_extra_is_named_where_it_is_missing(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text("jobs = 1")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UsageError, match=r"pip install 'pigen\[cluster\]'"):
        read_slurm(toml)


def test_executors_by_name(toml: Path) -> None:
    toml.touch()
    assert Where.parse("dask://host.x:8786") == Where(dask="host.x:8786")
    assert Where.parse(f"slurm:{toml}") == Where(slurm=toml)
    assert Where(dask="h:1").for_few() == Where(dask="h:1")
    for text in ("dask://host", "dask:host:1", "slurm:", f"slurm:{toml}x"):
        with pytest.raises(UsageError, match="executor"):
            Where.parse(text)


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pigen.runtime.executor.cluster.CONNECT_LIMIT", 0.2)
    with (
        pytest.raises(UsageError, match=r"no Dask scheduler at 127\.0\.0\.1:1 "),
        open_executor(Where(dask="127.0.0.1:1")),
    ):
        pass


# -- a cluster -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=4, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def slow_square(x: int) -> int:
    time.sleep(0.1)
    return x * x


def child(_: int) -> int:
    return os.getpid()


@slow
def test_one_of_four_workers_killed_mid_run(client: Any) -> None:
    said: list[str] = []
    executor = ClusterExecutor(client, say=said.append)
    assert executor.workers == 4
    (victim, *_) = client.run(os.getpid).values()
    children = set(map_ordered(executor, child, range(16)))
    assert os.getpid() not in children
    found = []
    for value in map_ordered(executor, slow_square, range(100)):
        found.append(value)
        if len(found) == 20:
            os.kill(victim, signal.SIGKILL)
    assert found == [x * x for x in range(100)]
    deadline = time.monotonic() + 120
    while len(said) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    executor.shutdown()
    assert any("is lost" in line for line in said)
    assert any("joined" in line for line in said)
    assert sum(map(is_alive, children)) <= 3


@slow
def test_bad_structures_on_a_cluster(client: Any) -> None:
    executor = ClusterExecutor(client, time_limit=2.0)
    chunks = [["a", "busy", "b"], ["c"], ["d", "killed"], ["e", "leave"]]
    found = list(map_ordered(executor, Shout(), chunks))
    executor.shutdown()
    assert found == [
        ["A", "busy timed out: no result after 2 s", "B"],
        ["C"],
        ["D", f"killed {BAD['killed'][1]}"],
        ["E", f"leave {BAD['leave'][1]}"],
    ]


@slow
def test_errors_come_back(client: Any) -> None:
    executor = ClusterExecutor(client)
    with pytest.raises(ZeroDivisionError):
        executor.submit(fail, 3).result(60)
    with pytest.raises(TypeError, match="positional"):
        executor.submit(fail, x=3)
    executor.shutdown()


@slow
def test_another_version_on_the_workers(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pigen": "99.0", "Python": "3.99"}
    monkeypatch.setattr("pigen.runtime.executor.cluster._VERSIONS", versions)
    with pytest.raises(UsageError, match=r"pigen 99\.0 and 0.* meet; install the same version"):
        ClusterExecutor(client)


@slow
def test_a_scheduler_that_goes_away() -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, timeout=2) as client,
    ):
        executor = ClusterExecutor(client)
        future = executor.submit(time.sleep, 60)
        time.sleep(1.0)
        cluster.close()
        with pytest.raises(PigenError, match="scheduler is gone"):
            future.result(60)
        executor.shutdown(cancel_futures=True)


@slow
def test_jobs_of_a_slurm_that_runs_them_here(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the file to results, with `sbatch` and `scancel` that start and end the job's script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("sbatch", 'setsid bash "$1" >/dev/null 2>&1 & echo "Submitted batch job $!"'),
        ("scancel", 'kill -- -"$1"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    toml.write_text(
        "cores = 1\nmemory = '2GB'\njobs = 2\ninterface = 'lo'\nwalltime = '00:10:00'\n"
        "death_timeout = 300\n"  # on a busy machine a worker takes minutes to start
        f"local_directory = '{tmp_path}'\nscheduler_options = {{dashboard_address = ':0'}}\n"
    )
    with open_executor(Where.parse(f"slurm:{toml}")) as executor:
        futures = [executor.submit(slow_square, x) for x in range(10)]
        assert [future.result(300) for future in futures] == [x * x for x in range(10)]
    assert "Dask at tcp://" in capfd.readouterr().err
