"""Dependencies point one way, and looking at the package stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pigen.cli import VERBS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "pigen"

# Each may import those before it. The modules at the top of the package come first and last.
PACKAGES = (
    "__init__ runtime crystal config bundle io descriptors screening model energy csp run paper"
    " report api cli __main__"
).split()
HEAVY = ("torch", "pymatgen", "numba", "e3nn", "scipy", "ase", "h5py", "pyarrow", "pandas")


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Packages of pigen that a module imports, at its top or inside functions; not for types."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "pigen":
                unit = name.split(".")[1]
                yield unit if (PACKAGE / unit).is_dir() or is_module(unit) else "__init__"


def is_module(unit: str) -> bool:
    return (PACKAGE / f"{unit}.py").is_file()


def dependencies() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        unit = unit_of(path)
        graph.setdefault(unit, set()).update(set(imports_of(path)) - {unit})
    return graph


def test_nothing_lies_beside_the_packages() -> None:
    assert set(dependencies()) == set(PACKAGES)
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__", "__main__", "api"}


def test_dependencies_point_one_way() -> None:
    upward = {
        f"{unit} imports {other}"
        for unit, others in dependencies().items()
        for other in others
        if PACKAGES.index(other) > PACKAGES.index(unit)
    }
    assert upward == set()


def loaded_by(code: str) -> set[str]:
    """Heavy libraries that a fresh interpreter has loaded after running the code."""
    check = (
        f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_import_pigen_is_light() -> None:
    assert loaded_by("import pigen") == set()


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_light_and_shows_an_example(verb: str) -> None:
    args = [verb, "--help"] if verb else ["--help"]
    code = (
        "import contextlib, io\n"
        "from pigen.cli import main\n"
        "text = io.StringIO()\n"
        "with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        f"    main({args!r})\n"
        "lines = [line.strip() for line in text.getvalue().splitlines()]\n"
        f"assert any(line.removeprefix('Start with: ').startswith('pigen {verb or 'run'} ')"
        " for line in lines), text.getvalue()"
    )
    assert loaded_by(code) == set()
