"""Descriptors: named functions from Crystals to columns, each with its unit.

The same function labels training data, filters samples and fills reports. To add one, write a
function that takes `Crystals` and returns `Evaluated`, and decorate it with `descriptor`: in a
module beside this one, or in a file of the user's, which `pigen.descriptors.registry` loads.
"""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pigen import __version__
from pigen.crystal.crystals import Crystals
from pigen.runtime.errors import UsageError
from pigen.runtime.files import sha256_of


@dataclass(frozen=True)
class ColumnSpec:
    """What a column is.

    Attributes:
        name, unit: of the column.
        meaning: in one line.
        kind: of its values: ``real`` or ``whole`` numbers, ``text``, or a ``flag``.
        per_atom: whether it has a value per atom.
    """

    name: str
    unit: str
    meaning: str
    kind: Literal["real", "whole", "text", "flag"] = "real"
    per_atom: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Evaluated:
    """Values of a descriptor over a batch of B crystals.

    Attributes:
        values: column name → (B,) or, for per-atom columns, (N,) array. Where a structure has a
            reason, its values are NaN (floats), False (bools), -1 (integers) or "" (texts).
        reasons: (B,) object array of str, empty where the structure was evaluated.
    """

    values: Mapping[str, NDArray[Any]]
    reasons: NDArray[np.object_]


class DescriptorFunction:
    """A registered descriptor. Call it with `Crystals` (and its own keyword settings).

    Attributes:
        origin: the code that computes it: this version of PIGEN, or a file of the user's with its
            hash. Columns name it in their `source`.
    """

    def __init__(
        self, name: str, columns: tuple[ColumnSpec, ...], compute: Callable[..., Evaluated]
    ) -> None:
        """Wrap ``compute``; `descriptor` is the public way to make one."""
        self.name = name
        self.columns = columns
        self.compute = compute
        self.module = compute.__module__
        self.ours = self.module.split(".")[0] == "pigen"
        self.origin = f"pigen {__version__}" if self.ours else _origin_of(self.module)
        self.__doc__ = compute.__doc__

    def __call__(self, crystals: Crystals, **settings: Any) -> Evaluated:
        """Evaluate a batch; any crystal may end with a reason instead of a value.

        A user's function is watched: where it raises, its crystals are tried one by one, and the
        exception is the reason of those that raise it; a number that is not finite and has no
        reason becomes NaN with the reason "no value".

        Raises:
            UsageError: a user's function returns anything but `Evaluated`, or arrays of other
                lengths than it should.
        """
        if self.ours:
            return self.compute(crystals, **settings)
        try:
            with np.errstate(all="ignore"):
                return self._checked(crystals, self.compute(crystals, **settings))
        except UsageError:
            raise
        except Exception as error:
            if len(crystals) == 0:
                raise UsageError(
                    f"descriptor {self.name!r} fails on no crystals: {error}"
                ) from error
            if len(crystals) == 1:
                return self._failed(crystals, error)
        parts = [self(one, **settings) for one in crystals]
        return Evaluated(
            {
                spec.name: np.concatenate([part.values[spec.name] for part in parts])
                for spec in self.columns
            },
            np.concatenate([part.reasons for part in parts]),
        )

    def _failed(self, crystal: Crystals, error: Exception) -> Evaluated:
        reason = " ".join(f"{self.name} failed: {type(error).__name__} {error}".split())
        sizes = {True: len(crystal.atomic_numbers), False: 1}
        return Evaluated(
            {spec.name: np.full(sizes[spec.per_atom], np.nan) for spec in self.columns},
            np.array([reason], dtype=object),
        )

    def _checked(self, crystals: Crystals, found: Any) -> Evaluated:
        """Return what a user's function returned, after checking it."""
        if not isinstance(found, Evaluated):
            raise UsageError(
                f"descriptor {self.name!r} must return Evaluated, got {type(found).__name__}"
            )
        reasons = np.array(found.reasons, dtype=object)
        self._check_length("reasons", reasons, len(crystals))
        values: dict[str, NDArray[Any]] = {}
        for spec in self.columns:
            if spec.name not in found.values:
                raise UsageError(f"descriptor {self.name!r} returns no column {spec.name!r}")
            column = np.array(found.values[spec.name])
            expected = len(crystals.atomic_numbers) if spec.per_atom else len(crystals)
            self._check_length(spec.name, column, expected)
            if column.dtype.kind == "f":
                lost = ~np.isfinite(column)
                column[lost] = np.nan
                if not spec.per_atom:
                    reasons[lost & (reasons == "")] = "no value"
            values[spec.name] = column
        return Evaluated(values, reasons)

    def _check_length(self, what: str, array: NDArray[Any], expected: int) -> None:
        if array.shape != (expected,):
            raise UsageError(
                f"descriptor {self.name!r}: {what} must have shape ({expected},), got {array.shape}"
            )


def _origin_of(module: str) -> str:
    """A user's module by its file's hash; one without a file, as a notebook has it, by no hash.

    Equal origins promise equal values, and a notebook's cell may change between two runs.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file():
        return f"{module} {uuid.uuid4().hex[:16]}"
    return f"{Path(file).name} sha256 {sha256_of(Path(file))}"


_REGISTRY: dict[str, DescriptorFunction] = {}
_MADE_ELSEWHERE = {"e_hull"}
"""Names of columns that no descriptor may use."""


def descriptor(
    name: str, *columns: ColumnSpec
) -> Callable[[Callable[..., Evaluated]], DescriptorFunction]:
    """Register the decorated function under ``name``; the first column is its main value.

    The module that registered a name may register it again, as a notebook does when its cell is
    run twice, and so may a copy of its file. The decorator raises UsageError if the name, or that
    of a column, belongs to another descriptor, or if there is no column.
    """

    def register(compute: Callable[..., Evaluated]) -> DescriptorFunction:
        made = DescriptorFunction(name, columns, compute)
        if not columns:
            raise UsageError(f"descriptor {name!r} needs a column")
        if _MADE_ELSEWHERE & {name, *(spec.name for spec in columns)}:
            raise UsageError(f"descriptor {name!r}: e_hull is the column that `pigen energy` makes")
        if not made.ours:
            _load_all()
        for other in _REGISTRY.values():
            names = {name, *(spec.name for spec in columns)}
            shared = names & {other.name, *(spec.name for spec in other.columns)}
            alike = other.module == made.module or (other.origin == made.origin and not made.ours)
            if shared and not (alike and other.name == name):
                raise UsageError(
                    f"{min(shared)!r} is taken by the descriptor {other.name!r} of {other.origin}"
                )
        _REGISTRY[name] = made
        return made

    return register


def get_descriptor(name: str) -> DescriptorFunction:
    """The descriptor of that name; UsageError listing the known ones otherwise."""
    _load_all()
    try:
        return _REGISTRY[name]
    except KeyError:
        known = ", ".join(sorted(_REGISTRY))
        raise UsageError(f"no descriptor named {name!r}; known: {known}") from None


def descriptor_names() -> list[str]:
    """Names of all registered descriptors."""
    _load_all()
    return sorted(_REGISTRY)


def registered_by(module: str) -> list[str]:
    """Names of the descriptors that a module registered, in its order."""
    return [name for name, one in _REGISTRY.items() if one.module == module]


@lru_cache(maxsize=1)
def _load_all() -> None:
    """Import every module beside this one: each registers its descriptors."""
    package = import_module(__name__.rpartition(".")[0])
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def no_reasons(crystals: Crystals) -> NDArray[np.object_]:
    """Reasons (B,), all empty: every structure has a value."""
    return np.array([""] * len(crystals), dtype=object)


def column_specs(names: Iterable[str]) -> dict[str, ColumnSpec]:
    """Every column the named descriptors make, by column name."""
    return {spec.name: spec for name in names for spec in get_descriptor(name).columns}


_LOADED: dict[Path, str] = {}
"""Hash of each file that was loaded."""


def load_descriptors(files: Iterable[str | Path]) -> list[str]:
    """Run Python files that register descriptors, unless they were run before and have not changed.

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
    """A module name for each path, so that a file called numpy.py does not replace numpy."""
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
