"""Strict reading of an experiment: one TOML file and overrides in, a validated `Experiment` out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pigen.config.settings import Experiment
from pigen.runtime import resources
from pigen.runtime.checked import checked, cut, join
from pigen.runtime.errors import UsageError
from pigen.runtime.files import parse_toml, read_text

MAX_TOML_BYTES = 2**20
"""Of an experiment: the longest of ours has 2 KiB."""


def shipped_experiments() -> dict[str, Path]:
    """The experiments that travel with the package, by name."""
    return {path.stem: path for path in sorted(resources.EXPERIMENTS.glob("*.toml"))}


def load_experiment(
    source: str | Path, overrides: Sequence[str] = (), *, check_files: bool = True
) -> Experiment:
    """Read the experiment in a TOML file, or the shipped one of that name.

    Args:
        source: path of a TOML file, or the name of a shipped experiment. Paths inside the file
            are relative to it.
        overrides: ``table.key=value`` texts that replace values of the file; a value is TOML, and
            text may go unquoted. Paths in them are relative to the working folder.
        check_files: every path must exist (off: to look at a run whose inputs have moved).

    Raises:
        UsageError: one line naming the file, the dotted key, what was expected, and for an
            unknown key the nearest right one.
    """
    path = _find(source)
    try:
        tree = parse_toml(read_text(path, MAX_TOML_BYTES, "MAX_TOML_BYTES"))
    except ValueError as error:
        raise UsageError(f"{path}: not valid TOML: {cut(str(error))}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    changed = [_apply_override(tree, override) for override in overrides]
    return checked(Experiment, tree, path, overridden=changed, check_files=check_files)


def _find(source: str | Path) -> Path:
    path = Path(source)
    shipped = shipped_experiments()
    if path.is_file():
        return path
    if str(source) in shipped:
        return shipped[str(source)]
    near = difflib.get_close_matches(path.stem, shipped, n=1, cutoff=0.5)
    hint = f"did you mean the shipped experiment {near[0]}?" if near else "`pigen init` makes one"
    raise UsageError(f"{source}: no such file, and no shipped experiment of that name; {hint}")


def _apply_override(tree: dict[str, Any], override: str) -> str:
    """Put ``a.b=value`` into the tree; the dotted key it changed."""
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override}: expected table.key=value, e.g. sample.n=200")
    table = tree
    for depth, part in enumerate(parts[:-1], start=1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"--set {override}: {'.'.join(parts[:depth])} is not a table")
    table[parts[-1]] = _toml_value(text)
    return key


def _toml_value(text: str) -> Any:
    """The TOML value of a text; the text itself where it is none (unquoted words)."""
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def differing_keys(a: Any, b: Any, key: str = "") -> list[str]:
    """Dotted keys of the settings in which two experiments (or tables of them) differ."""
    differing: list[str] = []
    for field in dataclasses.fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        name = join(key, field.name)
        if dataclasses.is_dataclass(one):
            differing += differing_keys(one, other, name)
        elif one != other:
            differing.append(name)
    return differing
