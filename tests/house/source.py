"""The project's own source, as syntax trees: what the guards of the house look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: Where the project's text is; beside it only what tools and runs leave behind.
FOLDERS = ("sync", "field_api", "migrations", "tests", ".ci")


def modules(package: str) -> dict[str, ast.Module]:
    """The modules of a package by their full names; its `__init__` goes by the name of the package."""
    files = sorted((ROOT / package).glob("*.py"))
    return {_name(file): ast.parse(file.read_text("utf-8"), str(file)) for file in files}


def _name(file: Path) -> str:
    package = file.parent.name
    return package if file.stem == "__init__" else f"{package}.{file.stem}"


def imports(tree: ast.AST) -> set[str]:
    """Everything a module imports, under every name it could be: `from a import b` is `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def roots(names: set[str]) -> set[str]:
    """The packages that these names belong to."""
    return {name.partition(".")[0] for name in names}


def graph(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which of these modules imports which of the others; a package's `__init__` tells a story and imports nothing."""
    rooms = {name for name in trees if "." in name}
    return {name: imports(trees[name]) & rooms for name in rooms}


def circles(edges: Mapping[str, set[str]]) -> set[str]:
    """The modules that reach themselves again."""
    return {name for name in edges if name in _reached(edges, name)}


def _reached(edges: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = list(edges[start])
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            ahead += edges[name]
    return seen


def calls(tree: ast.AST, method: str) -> bool:
    """Whether anything's method of this name is called."""
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
        for node in ast.walk(tree)
    )


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the project by its path from the root."""
    inside = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    for path in [*ROOT.glob("*.*"), ROOT / "Makefile", *inside]:
        if path.is_file() and path.suffix not in (".pyc", ".jpg", ".png") and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT), path.read_text("utf-8")
