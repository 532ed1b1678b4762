"""The imports of the package, type-checking and late ones included: knots, and the compiled module where it belongs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import corefilt

PACKAGE = Path(corefilt.__file__).parent
# Whoever asks the compiled module; what it is asked for are tables, notes, payload and moving bytes.
ASKING_FAST = {
    "batching", "bundle", "classify", "corefile", "crash", "doctor", "evidence", "filtering", "io", "plan", "procfs",
    "scrub",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Return every module of the package by its name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """Read a module of the package; all tests of this file are run by one process (tests/conftest.py)."""
    return ast.parse(path.read_text())


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, wherever in it the import stands."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("corefilt"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def graph() -> dict[str, set[str]]:
    """Return what every module imports; the package itself stands for its version and its compiled module."""
    known = modules()
    return {name: set(imported(path, set(known))) - {name, "corefilt"} for name, path in known.items()}


def knots(edges: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that reach each other (strongly connected components, by Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in edges[name] & edges.keys():
            if other not in number:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == number[name]:
            group = set(stack[stack.index(name) :])
            del stack[stack.index(name) :]
            found.extend([group] if len(group) > 1 else [])

    for name in edges:
        if name not in number:
            visit(name)
    return found


def test_no_module_reaches_itself() -> None:
    assert [sorted(group) for group in knots(graph())] == []


def test_the_types_of_the_public_names_are_those_of_the_package() -> None:
    names = [
        {
            alias.asname or alias.name
            for node in ast.walk(ast.parse((PACKAGE / "__init__.pyi").read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        },
        set(corefilt.__all__),
    ]
    assert names[0] == names[1]


def test_a_knot_is_seen() -> None:
    assert knots({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d", "a"}}) == [{"b", "c"}]


def test_who_asks_the_compiled_module() -> None:
    asking = {
        name.removeprefix("corefilt.")
        for name, path in modules().items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.module == "corefilt" and "_fast" in {a.name for a in node.names}
    }
    assert {name for name in asking if not {name, name.partition(".")[0]} & ASKING_FAST} == set()
    assert asking


def defined(module: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the names of a module's classes, inner ones included, and of its types, and whether each is a class."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name, True
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
            yield ast.unparse(node.target), False


def twofold(sources: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the names of classes that stand for something else too, with the modules that define them."""
    where: dict[str, list[str]] = {}
    classes = set()
    for name, source in sources.items():
        for called, is_class in defined(source):
            where.setdefault(called, []).append(name)
            classes |= {called} if is_class else set()
    return {called: where[called] for called in sorted(classes) if len(where[called]) > 1}


def test_no_class_name_means_two_things() -> None:
    assert twofold({name: parsed(path) for name, path in modules().items()}) == {}


def test_a_class_name_that_means_two_things_is_seen() -> None:
    a, b = "class Rule: pass\nclass Row: pass\nAt: TypeAlias = int", "class Rule: pass\nAt: TypeAlias = int"
    texts = {"a": a, "b": b, "c": "if TYPE_CHECKING:\n    Row: TypeAlias = int"}
    assert twofold({name: ast.parse(text) for name, text in texts.items()}) == {
        "Row": ["a", "c"],
        "Rule": ["a", "b"],
    }
