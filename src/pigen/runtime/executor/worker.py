"""What a worker process runs: it takes tasks from a connection and answers each.

This module stays light: a worker loads what its tasks need.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import process, spawn
from multiprocessing.connection import Connection
from typing import Any

from pigen.runtime.device import is_out_of_memory, limit_memory
from pigen.runtime.executor.mapping import Divisible

STARTED, ALIVE, DONE, FAILED, NO_MEMORY = range(5)
"""First byte of an answer. A task is answered by STARTED, ALIVE any number of times, and then DONE
with the pickled result, FAILED with the exception and its traceback, or NO_MEMORY."""

_PR_SET_PDEATHSIG = 1
_BEAT = 0.5
"""s between two ALIVE."""
_KEPT = 8
"""Functions kept from task to task: each may hold tables."""
_connection: Connection | None = None
_last_beat = 0.0


def alive() -> None:
    """Say that the task goes on: the time limit begins anew. Without effect outside a worker."""
    global _last_beat
    now = time.monotonic()
    if _connection is not None and now - _last_beat > _BEAT:
        _last_beat = now
        _connection.send_bytes(bytes([ALIVE]))


def main(descriptor: int, parent: int, memory: int) -> None:
    """Serve until the connection closes.

    Args:
        descriptor: of the connection's end that this process inherited.
        parent: process id of the owner.
        memory: bytes of data that this process may hold; 0 for no limit.
    """
    global _connection
    if sys.platform == "linux":
        # The owner's thread that started this process lives as long as it wants this process to.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)
    if memory:
        limit_memory(memory)
    connection = Connection(descriptor)
    code = 0
    try:
        _prepare(connection.recv())
        _connection = connection
        _serve(connection)
    except (EOFError, OSError):
        pass  # the owner is gone
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # libraries take their time to leave


def _end_with(parent: int) -> None:
    """End this process soon after its owner, unless it is in a call that lets no thread run."""
    while os.getppid() == parent:
        time.sleep(_BEAT)
    os._exit(1)


def _prepare(data: dict[str, Any]) -> None:
    """Be what `multiprocessing` makes of a spawned process: the owner's paths and main module."""
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        spawn.prepare(data)
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def _serve(connection: Connection) -> None:
    functions: dict[bytes, Callable[..., Any]] = {}
    while True:
        connection.send_bytes(_answer(connection, functions))


def _answer(connection: Connection, functions: dict[bytes, Callable[..., Any]]) -> bytes:
    global _last_beat
    fn, how, arguments = connection.recv()
    try:
        loaded = pickle.loads(arguments)
        if fn not in functions:
            if len(functions) >= _KEPT:
                functions.clear()
            found = pickle.loads(fn)
            if isinstance(found, Divisible):
                found(found.nothing(loaded[0]))
            functions[fn] = found
        call = functions[fn] if how is None else getattr(functions[fn], how)
        _last_beat = 0.0
        connection.send_bytes(bytes([STARTED]))
        return bytes([DONE]) + _dumps(call(*loaded))
    except Exception as error:
        if is_out_of_memory(error):
            return bytes([NO_MEMORY])
        return _failure(error)


def _failure(error: Exception) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        dumped = _dumps((error, text))
        pickle.loads(dumped)  # some exceptions pickle, and then don't come back
    except Exception:
        dumped = _dumps((RuntimeError(f"{type(error).__name__}: {error}"), text))
    return bytes([FAILED]) + dumped


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
