"""Damaged files of every kind: read in time, counted or refused in one line, nothing written.

``PIGEN_FUZZ`` says how many inputs each reader gets, ``PIGEN_FUZZ_SEED`` which.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest
from mutate import mutate
from readers import READERS, Reader

from pigen.runtime.errors import PigenError

pytestmark = pytest.mark.slow

N = int(os.environ.get("PIGEN_FUZZ", "40"))
SEED = int(os.environ.get("PIGEN_FUZZ_SEED", "0"))
LIMIT = 10
"""Seconds for one input."""
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class")
"""Audit events of code that a file would have run."""


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    """Read in a fork, so that a reader that dies of a file is found too."""
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    READERS[name].make(pristine)
    READERS[name].read(pristine)  # in order, and what it imports is imported once
    (tmp_path / "elsewhere").mkdir()
    log = tmp_path / "log"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _read_all(name, pristine, tmp_path, log)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert status == 0, f"{name}: seed {said[-1]['seed']} ends the process with status {status}"
    outcomes = Counter(line["outcome"] for line in said if "outcome" in line)
    print(f"\nfuzz {name}: {dict(outcomes)}")
    faults = [line for line in said if line.get("outcome") == "fault"]
    assert not faults, f"{name}: {len(faults)} of {N}; the first\n{_shown(faults)}"
    assert sum(outcomes.values()) == N
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["case", "elsewhere", "log", "pristine"]


def _shown(faults: list[dict[str, Any]]) -> str:
    by_kind = {line["said"].strip().splitlines()[-1][:60]: line for line in faults}
    return "\n".join(f"seed {line['seed']}: {line['said']}" for line in by_kind.values())


def _read_all(name: str, pristine: Path, tmp_path: Path, log: Path) -> None:
    case = tmp_path / "case"
    reader, broken = READERS[name], []
    os.chdir(tmp_path / "elsewhere")
    sys.addaudithook(lambda event, args: _audit(event, args, case, log, broken))
    signal.signal(signal.SIGALRM, _late)
    warnings.simplefilter("ignore")
    with log.open("a") as file:
        for seed in range(SEED, SEED + N):
            print(json.dumps({"seed": seed}), file=file, flush=True)
            said = _one(reader, pristine, case, Random(f"{name} {seed}"))
            if broken:
                said = {"outcome": "fault", "said": f"audit: {broken}"}
                broken.clear()
            print(json.dumps({"seed": seed, **said}), file=file, flush=True)


def _one(reader: Reader, pristine: Path, case: Path, rng: Random) -> dict[str, str]:
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(pristine, case)
    files = sorted(path for pattern in reader.targets for path in case.rglob(pattern))
    mutate(rng.choice([path for path in files if path.is_file()]), rng)
    before = sorted(case.rglob("*"))
    signal.alarm(LIMIT)
    try:
        counted = reader.read(case)
    except PigenError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            return {"outcome": "fault", "said": f"not one line: {error}"}
        return {"outcome": "refused"}
    except BaseException:
        return {"outcome": "fault", "said": traceback.format_exc()}
    finally:
        signal.alarm(0)
    if sorted(case.rglob("*")) != before:
        return {"outcome": "fault", "said": "files written where it read"}
    if counted is None:
        return {"outcome": "read"}
    if counted.total is not None and counted.kept + counted.rejects < counted.total:
        return {"outcome": "fault", "said": f"entries lost: {counted}"}
    return {"outcome": "read with rejects" if counted.rejects else "read"}


def _late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"over {LIMIT} s")


def _audit(event: str, args: Any, case: Path, log: Path, broken: list[str]) -> None:
    """Notes code that was run, and files opened to be written where they should not be."""
    if event in FORBIDDEN:
        broken.append(f"{event} {args!r:.100}")
    if event == "open" and isinstance(args[0], str | bytes) and isinstance(args[2], int):
        path = Path(os.fsdecode(args[0]))
        allowed = (case, log, Path("/dev/null"))
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = any(path == one or one in path.parents for one in allowed)
        if writes and not inside and "__pycache__" not in path.parts:
            broken.append(f"opened {path} to write")
