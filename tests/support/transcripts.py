"""Pages whose ``console`` blocks are run as written and compared with the output they show.

A block holds commands (``$ …``), each followed by what it prints, standard error included; ``...``
stands for anything, as in a doctest. A command may go on in lines that begin with ``> ``.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_CHECKER = doctest.OutputChecker()
_LIMIT = 900  # seconds
_NUMBER = re.compile(r"[+−]?\d+(\.\d+)?")


@dataclass(frozen=True)
class Step:
    """One command of a page, the line it stands on, and the output shown below it."""

    line: int
    command: str
    shown: str


def steps_of(page: Path) -> list[Step]:
    """All commands of a page in their order."""
    steps = []
    text = page.read_text("utf-8")
    for block in re.finditer(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, block.start(1)) + 1
        for entry in re.split(r"^(?=\$ )", block[1], flags=re.MULTILINE):
            if entry:
                lines = entry.splitlines(keepends=True)
                n = next((i for i, x in enumerate(lines) if i and not x.startswith("> ")), None)
                command = "".join(x[2:] for x in lines[:n])
                steps.append(Step(line, command, "" if n is None else "".join(lines[n:])))
                line += len(lines)
    return steps


def check(page: Path, step: Step, printed: str, *, numbers: bool = True) -> None:
    """Fail if a command printed something else than the page shows; numbers may differ if told."""
    where = f"{page.name}, line {step.line}: {step.command}"
    shown, found = (text if numbers else _NUMBER.sub("#", text) for text in (step.shown, printed))
    shown = re.sub(r"\s*\.\.\.\s*", "...", shown)  # nothing between is also anything
    same = _CHECKER.check_output(shown, found, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert same, f"{where}\nshows:\n{step.shown}\nprinted:\n{printed}"


def run_page(page: Path, folder: Path, *, numbers: bool = True) -> None:
    """Run every command of a page in the folder, in order; fail at the first that differs."""
    run_steps(page, steps_of(page), folder, numbers=numbers)


def run_steps(
    page: Path,
    steps: Iterable[Step],
    folder: Path,
    *,
    numbers: bool = True,
    change: Callable[[str], str] = str,
) -> None:
    """Run some commands of a page, changed before; fail at the first that fails or differs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIGEN")}
    environment["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    for step in steps:
        done = subprocess.run(
            ["bash", "-c", change(step.command)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
        )
        check(page, step, done.stdout, numbers=numbers)
