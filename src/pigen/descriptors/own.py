"""Descriptors of the user's own: Python files that register them, loaded where they are needed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from pigen.descriptors.registry import registered_by
from pigen.runtime.errors import UsageError

_LOADED: dict[Path, str] = {}
"""Hash of each file that was loaded."""


def load_descriptors(files: Iterable[str | Path]) -> list[str]:
    """Run Python files that register descriptors; one that was loaded, and is as it was, is not.

    Returns the names of the descriptors in them.

    Worker processes know nothing of what their parent loaded: a task that evaluates descriptors
    takes `loaded_files` along and loads them first.

    Raises:
        UsageError: no such file, it fails (naming the line), or it registers no descriptor.
    """
    names: list[str] = []
    for file in files:
        path = Path(file).resolve()
        if not path.is_file():
            raise UsageError(f"{file}: no such file of descriptors")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if _LOADED.get(path) != digest:
            _run(path)
            _LOADED[path] = digest
        names += registered_by(_module(path))
    return names


def loaded_files() -> tuple[Path, ...]:
    """The files loaded so far, for `load_descriptors` in a worker."""
    return tuple(_LOADED)


def _module(path: Path) -> str:
    """A name for each path, so that a file called numpy.py is in nobody's way."""
    return f"{path.stem}@{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _run(path: Path) -> None:
    name = _module(path)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: a file of descriptors must be Python (.py)")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:
        raise UsageError(f"{path}: {_line(error, path)}{type(error).__name__}: {error}") from None
    if not registered_by(name):
        raise UsageError(
            f"{path} registers no descriptor: decorate a function with pigen.descriptor"
        )


def _line(error: Exception, path: Path) -> str:
    """The line of the file that raised; "" if its traceback has none, as that of a SyntaxError."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
