"""How much of the source one structure meets: functions, modules, opened bundles, by stage.

    python benchmarks/walk.py                 # one NaCl, from a CIF in a zip to the report's page
    python benchmarks/walk.py --run           # pigen_mled_c with two samples, relaxed

A newcomer who follows a structure through the code reads what is counted here. Counted are distinct
functions and modules of `pigen` that are entered, without those that run at import: the bodies of
classes and what registers itself. All modules are imported before anything is counted. Templates
of the page (HTML) are not counted.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType

import h5py
from click.testing import CliRunner

import pigen.runtime.executor
from pigen.cli import main
from pigen.runtime.executor.mapping import SerialExecutor

SOURCE = str(Path(pigen.__file__).parent)
NACL = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


@contextmanager
def entered() -> Iterator[set[CodeType]]:
    """The functions of pigen that are called meanwhile, in this process."""
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE) and is_python(code):
            found.add(code)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


@contextmanager
def opened() -> Iterator[Counter[str]]:
    """How often each HDF5 file is opened for reading meanwhile."""
    files: Counter[str] = Counter()
    plain = h5py.File.__init__

    def counted(
        self: h5py.File, name: object, mode: str = "r", *args: object, **more: object
    ) -> None:
        if mode == "r" and isinstance(name, str | bytes | Path):  # the `.file` of a group is none
            files[Path(str(name)).name] += 1
        plain(self, name, mode, *args, **more)

    h5py.File.__init__ = counted
    try:
        yield files
    finally:
        h5py.File.__init__ = plain


def call(*args: str) -> None:
    """Run a verb."""
    done = CliRunner().invoke(main, list(args))
    if done.exit_code:
        raise SystemExit(f"pigen {' '.join(args)}: {done.output}")


def is_python(code: CodeType) -> bool:
    """Whether the code stands in a module: jinja2 compiles templates to functions."""
    return code.co_filename.endswith(".py")


def named(code: CodeType) -> bool:
    """Whether it is a function with a name: neither a lambda nor a comprehension."""
    return not code.co_name.startswith("<")


def stages(folder: Path) -> dict[str, tuple[str, ...]]:
    """The verbs, each on what the one before it wrote."""
    paths = {n: str(folder / n) for n in ("in.zip", "in.h5", "labelled.h5", "kept.h5", "e.h5")}
    with zipfile.ZipFile(paths["in.zip"], "w") as archive:
        archive.writestr("NaCl.cif", NACL)
    return {
        "import": ("import", paths["in.zip"], "-o", paths["in.h5"]),
        "label": ("label", paths["in.h5"], "-o", paths["labelled.h5"]),
        "filter": (
            *("filter", paths["labelled.h5"], "--c", "0:9", "--spp", "9"),
            *("-o", paths["kept.h5"]),
        ),
        "energy": ("energy", paths["kept.h5"], "-o", paths["e.h5"]),
        "report": ("report", paths["e.h5"], "-o", str(folder / "page.html")),
    }


def import_all() -> None:
    """All modules; their loops run in this process alone, where functions are seen."""
    pigen.runtime.executor.open_executor = lambda *_: nullcontext(SerialExecutor())
    for found in pkgutil.walk_packages(pigen.__path__, "pigen."):
        if not found.name.endswith("__main__"):
            import_module(found.name)


def walk(verbs: dict[str, tuple[str, ...]]) -> None:
    together: set[CodeType] = set()
    print("| stage | functions | modules | bundles opened |\n|---|---|---|---|")
    for name, args in verbs.items():
        with opened() as files, entered() as functions:
            call(*args)
        met = {code for code in functions if named(code)}
        together |= met
        print(row(name, met, sum(files.values())))
    print(row("all", together, None))


def row(name: str, functions: set[CodeType], n_opened: int | None) -> str:
    modules = {code.co_filename for code in functions}
    return (
        f"| {name} | {len(functions)} | {len(modules)} | {'' if n_opened is None else n_opened} |"
    )


def experiment(folder: Path) -> dict[str, tuple[str, ...]]:
    sets = ("sample.n=2", "energy.relax=true", "sample.steps=10", "filter.spp=1e9", "filter.mled=0")
    words = [word for one in sets for word in ("--set", one)]
    return {"run": ("run", "pigen_mled_c", *words, "--out", str(folder / "run"))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="an experiment instead of the verbs")
    asked = parser.parse_args()
    import_all()
    with tempfile.TemporaryDirectory() as made:
        walk(experiment(Path(made)) if asked.run else stages(Path(made)))
