"""What every public function says: its errors and the shapes of its arrays. Ruff sees the rest."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "pigen"

# Bugs, and what Python itself raises; commands (pigen.cli) end with an exit code and one line.
_SILENT = {"AssertionError", "NotImplementedError", "KeyboardInterrupt", "StopIteration"}
_ARRAY = re.compile(r"\b(NDArray|ndarray|ArrayLike|Tensor)\b")
_SHAPE = re.compile(r"\([\w …*+-]+,|\b(scalars?|shapes?|elementwise)\b")
_ELSEWHERE = re.compile(r"\b[Rr]aises as\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Public:
    """A public function, the class around it, and what its module defines."""

    where: str
    node: Function
    around: ast.ClassDef | None
    private: dict[str, Function]

    @property
    def said(self) -> str:
        """Its docstring, and that of its class."""
        of_class = ast.get_docstring(self.around) if self.around else None
        return f"{ast.get_docstring(self.node) or ''}\n{of_class or ''}"


def functions_of(path: Path) -> Iterator[Public]:
    tree = ast.parse(path.read_text("utf-8"))
    private = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name.startswith("_") and node.name[1:2] != "_"
    }
    where = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield Public(f"{where}.{node.name}", node, None, private)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not re.match(r"_(?!_init__)", inner.name):
                    yield Public(f"{where}.{node.name}.{inner.name}", inner, node, private)


def raised_by(node: ast.AST, private: dict[str, Function], seen: frozenset[str]) -> set[str]:
    """Names of the exceptions raised in a body and in the private functions it calls.

    What a ``try`` around it catches, or raises again under its own name, is left to the handlers.
    """
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            continue  # what it raises, it raises when it is called
        if isinstance(child, ast.Try) and child.handlers:
            for part in (*child.handlers, *child.orelse, *child.finalbody):
                found |= raised_by(part, private, seen)
            continue
        if isinstance(child, ast.With) and any(handles(item, private) for item in child.items):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            raised = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(raised).rpartition(".")[2]
            if name[:1].isupper():
                found.add(name)
        if isinstance(child, ast.Call):
            name = ast.unparse(child.func).removeprefix("self.")
            if name in private and name not in seen:
                found |= raised_by(private[name], private, seen | {name})
        found |= raised_by(child, private, seen)
    return found


def handles(item: ast.withitem, private: dict[str, Function]) -> bool:
    """Whether a context catches errors: `contextlib.suppress`, or one of ours with handlers."""
    called = item.context_expr
    name = ast.unparse(called.func) if isinstance(called, ast.Call) else ""
    inside = ast.walk(private[name]) if name in private else ()
    return name.endswith("suppress") or any(isinstance(n, ast.ExceptHandler) for n in inside)


def everything() -> list[Public]:
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.parts)
    return [public for path in paths for public in functions_of(path)]


def test_docstrings_name_what_is_raised() -> None:
    silent = []
    for public in everything():
        raised = raised_by(public.node, public.private, frozenset()) - _SILENT
        if not _ELSEWHERE.search(public.said):
            missing = {name for name in raised if not re.search(rf"\b{name}\b", public.said)}
            silent += [f"{public.where}: {name}" for name in sorted(missing)]
    assert silent == []


def test_docstrings_give_shapes_of_arrays() -> None:
    silent = []
    for public in everything():
        arguments = [*public.node.args.args, *public.node.args.kwonlyargs]
        annotations = [argument.annotation for argument in arguments] + [public.node.returns]
        arrays = [a for a in annotations if a is not None and _ARRAY.search(ast.unparse(a))]
        if arrays and not _SHAPE.search(public.said):
            silent.append(public.where)
    assert silent == []
