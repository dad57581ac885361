"""The verb doctor: each check says what it found, and what to do if it is wrong."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pigen import __version__
from pigen.runtime import resources
from pigen.runtime.device import available_memory
from pigen.runtime.executor import available_cores
from pigen.runtime.files import sha256_of

if TYPE_CHECKING:  # heavy: imported by the checks that need it
    import torch


OK, WARN, FAIL = "ok", "warn", "fail"
_GIB = 2**30
_LEAST_MEMORY = 4 * _GIB
"""Below it, sampling and relaxation in the usual batches may not fit."""
_LEAST_DISK = 2 * _GIB
"""Below it, a large run may fill the disk."""
_REINSTALL = "install again, in the repository: pip install --force-reinstall --no-deps ."
_PINNED = "install the tested versions, in the repository: pip install -c constraints.txt ."
_SALT = {"c": 0.6381, "mled": 6.3047, "k": 1.0}
"""Labels of rock salt, a = 5.64 Å."""
_COLORS = {OK: "green", WARN: "yellow", FAIL: "red"}
_INDENT = 20


@dataclass(frozen=True)
class Check:
    """One line of the examination.

    Attributes:
        name: what was looked at.
        status: `OK`; `WARN`, something will be slow or missing; `FAIL`, something cannot work.
        found: what is there.
        remedy: what to do, "" where there is nothing to do.
    """

    name: str
    status: str
    found: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Check]:
    """All checks, each as soon as it is done.

    A check that fails by itself is a failed check: nothing is raised.

    Args:
        folder: where results would be written.
    """
    checks: tuple[tuple[str, Callable[[], Iterable[Check]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("package data", _package_data),
        ("experiments", _experiments),
        ("folder", lambda: _folder(folder)),
        ("memory", _memory),
        ("torch", _torch),
        ("model", _model),
        ("numba", _numba),
        ("self test", _self_test),
        ("chgnet", _chgnet),
    )
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:  # a broken installation breaks in any way
            text = " ".join(str(error).split())
            yield Check(name, FAIL, f"{type(error).__name__}: {text}"[:300], _PINNED)


# -- what is installed ---------------------------------------------------------------------------
def _python() -> Iterator[Check]:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("python", OK, f"{found}, {sys.executable}")


def _packages() -> Iterator[Check]:
    try:
        installed = metadata.version("pigen")
        required = metadata.requires("pigen") or []
    except metadata.PackageNotFoundError:
        source = Path(resources.__file__).parent
        remedy = "in the repository: pip install -c constraints.txt -e ."
        yield Check("pigen", WARN, f"{__version__}, not installed but used from {source}", remedy)
        return
    if installed != __version__:
        remedy = "in the repository: pip install -c constraints.txt -e ."
        yield Check("pigen", WARN, f"{__version__}, but installed as {installed}", remedy)
    else:
        yield Check("pigen", OK, __version__)
    yield from check_requirements(required)


def check_requirements(required: Iterable[str]) -> Iterator[Check]:
    """Installed versions against requirements as package metadata states them; extras left out."""
    from packaging.requirements import Requirement

    fine = []
    for requirement in map(Requirement, required):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        remedy = f"pip install '{requirement.name}{requirement.specifier}'"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check(requirement.name, FAIL, "not installed", remedy)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            fine.append(f"{requirement.name} {version}")
        else:
            wanted = f"{version}, but {requirement.specifier} is needed"
            yield Check(requirement.name, FAIL, wanted, remedy)
    yield Check("packages", OK, f"{len(fine)} as required: {', '.join(fine)}")


def _package_data() -> Iterator[Check]:
    broken = []
    expected = resources.checksums()
    for name, digest in expected.items():
        path = resources.DATA / name
        if not path.is_file():
            broken.append(f"{name} is missing")
        elif sha256_of(path, 64) != digest:
            broken.append(f"{name} differs from what was shipped")
    if broken:
        yield Check("package data", FAIL, "; ".join(broken), _REINSTALL)
    else:
        names = ", ".join(name for name in expected)
        yield Check("package data", OK, f"{len(expected)} files as shipped: {names}")


def _experiments() -> Iterator[Check]:
    from pigen.config import load_experiment, shipped_experiments

    names = shipped_experiments()
    for name in names:
        load_experiment(name, check_files=False)
    yield Check("experiments", OK, f"{len(names)}: {', '.join(names)}")


# -- the machine ---------------------------------------------------------------------------------
def _folder(folder: Path) -> Iterator[Check]:
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check(
            "folder", FAIL, f"{folder} cannot be written: {error.strerror}", "go to another folder"
        )
        return
    free = shutil.disk_usage(folder).free
    found = f"{folder} can be written, {free / _GIB:.1f} GiB free"
    if free < _LEAST_DISK:
        yield Check("folder", WARN, found, "a large run may fill the disk: free some, or use --out")
    else:
        yield Check("folder", OK, found)


def _memory() -> Iterator[Check]:
    try:
        free = available_memory()
    except OSError:
        yield Check("memory", OK, "not known on this system")
        return
    found = f"{free / _GIB:.1f} GiB free"
    if free < _LEAST_MEMORY:
        remedy = "set sample.batch_size lower and take --executor local:1"
        yield Check("memory", WARN, found, remedy)
    else:
        yield Check("memory", OK, found)


def _torch() -> Iterator[Check]:
    import torch

    from pigen.runtime.device import fast_bf16

    cpu = torch.device("cpu")
    threads = torch.get_num_threads()
    bf16 = "fast" if fast_bf16(cpu) else "slow, not used"
    found = f"torch {torch.__version__}, {available_cores()} cores, {threads} threads, bf16 {bf16}"
    if threads > available_cores():
        remedy = f"more threads than cores are slow: export OMP_NUM_THREADS={available_cores()}"
        yield Check("cpu", WARN, found, remedy)
    else:
        yield Check("cpu", OK, found)
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield _cuda(torch.device("cuda", i))
    elif shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
        why = "is built for another driver" if torch.version.cuda else "is a build without CUDA"
        remedy = "install a build of torch for this driver: https://pytorch.org/get-started/locally"
        yield Check("cuda", WARN, f"there is an NVIDIA GPU, but this torch {why}", remedy)
    else:
        yield Check("cuda", OK, "none; everything runs on the CPU")


def _cuda(device: torch.device) -> Check:
    import torch

    from pigen.runtime.device import fast_bf16

    name, about = f"cuda:{device.index}", torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    bf16 = "fast" if fast_bf16(device) else "slow, not used"
    found = f"{about.name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free, bf16 {bf16}"
    try:
        ones = torch.ones(64, 64, device=device)
        assert float((ones @ ones).sum()) == 64**3
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        remedy = 'use device = "cpu", or a build of torch for this GPU'
        return Check(name, FAIL, f"{found}; it cannot compute: {first}", remedy)
    return Check(name, OK, found)


# -- whether it works ----------------------------------------------------------------------------
def _model() -> Iterator[Check]:
    import torch

    from pigen.model.checkpoint import load_checkpoint

    for name in resources.SHIPPED_CHECKPOINTS:
        model, header = load_checkpoint(resources.checkpoint(name), torch.device("cpu"))
        n = sum(parameter.numel() for parameter in model.parameters())
        labels = ", ".join(header.model.labels)
        yield Check("model", OK, f"checkpoint {name}: {n:,} parameters, labels {labels}")


def _numba() -> Iterator[Check]:
    import numba

    from pigen.runtime.kernels import cache_folder, can_keep

    started = time.monotonic()
    assert numba.njit(lambda x: x + 1)(1) == 2
    found = f"numba {numba.__version__} compiles ({time.monotonic() - started:.1f} s)"
    if can_keep():
        yield Check("numba", OK, f"{found}; kernels are kept in {cache_folder()}")
    else:
        remedy = "export NUMBA_CACHE_DIR= a folder that can be written"
        found += f", again in every process: no writing to {cache_folder()}"
        yield Check("numba", WARN, found, remedy)


def _self_test() -> Iterator[Check]:
    import numpy as np

    from pigen.bundle import Bundle, strings
    from pigen.crystal.crystals import Crystals
    from pigen.screening.label import label

    started = time.monotonic()
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    salt = Crystals(
        lattice=5.64 * np.eye(3)[None],
        frac_coords=np.concatenate([corners, (corners + 0.5) % 1]),
        atomic_numbers=np.repeat([11, 17], 4).astype(np.uint8),
        ptr=np.array([0, 8]),
    )
    labelled, _ = label(Bundle(crystals=salt, ids=strings(["NaCl"])), tuple(_SALT))
    found = {name: float(labelled.columns[name].values[0]) for name in _SALT}
    said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    took = f"in {time.monotonic() - started:.1f} s"
    if all(abs(found[name] - value) < 1e-3 for name, value in _SALT.items()):
        yield Check("self test", OK, f"labels of rock salt: {said} ({took})")
    else:
        expected = ", ".join(f"{name} {value:.4f}" for name, value in _SALT.items())
        yield Check("self test", FAIL, f"labels of rock salt: {said}; expected {expected}", _PINNED)


def _chgnet() -> Iterator[Check]:
    from pigen.energy.potential import load_potential

    yield Check("chgnet", OK, f"loads: {load_potential('chgnet', 'cpu').name}")


def _to_json(checks: Iterable[Check]) -> str:
    """The checks as one JSON object."""
    listed = list(checks)
    passed = all(check.status != FAIL for check in listed)
    return json.dumps({"ok": passed, "checks": [vars(check) for check in listed]})


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: packages, package data, device, memory, and whether it works.

    Each line is ok, warn (slow, or something is missing) or fail (something cannot work), with what
    to do. A crystal is labelled and the models are loaded, which takes a few seconds. Exit code 1
    if a check fails.

    \b
    Examples:
        pigen doctor
        pigen doctor --json > doctor.json
    """
    checks = []
    for check in examine(Path.cwd()):
        checks.append(check)
        if not as_json:
            click.echo("\n".join(_lines(check)))
    if as_json:
        click.echo(_to_json(checks))
    failed = sum(check.status == FAIL for check in checks)
    if failed and not as_json:
        click.echo(f"{failed} of {len(checks)} checks failed")
    if failed:
        ctx.exit(1)


def _lines(check: Check) -> Iterator[str]:
    width = max(60, min(100, shutil.get_terminal_size().columns)) - _INDENT
    status = click.style(f"{check.status:<4}", fg=_COLORS[check.status], bold=check.status != OK)
    found = textwrap.wrap(check.found, width, break_on_hyphens=False) or [""]
    remedy = textwrap.wrap(f"→ {check.remedy}", width) if check.remedy else []
    yield f"{status}  {check.name:<{_INDENT - 6}}{found[0]}"
    for line in (*found[1:], *remedy):
        yield " " * _INDENT + line
