"""The project's Python files and what each of them imports."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import attrs

ROOT = pathlib.Path(__file__).resolve().parents[2]


@attrs.frozen
class Import:
    """One imported name.

    :ivar name: absolute and dotted: ``a.b`` for ``import a.b``, and ``a.b.c`` for
        ``from a.b import c``, whether ``c`` is a module or something in one.
    :ivar line: where it stands in its file.
    :ivar at_module_level: True if loading the module carries it out.
    """

    name: str
    line: int
    at_module_level: bool

    def is_of(self, package: str) -> bool:
        """Tell whether a package or module, or something in it, is imported."""
        return self.name == package or self.name.startswith(package + ".")


@attrs.frozen
class Module:
    """One Python file of the project.

    :ivar path: relative to the root of the project.
    """

    path: pathlib.Path

    @property
    def name(self) -> str:
        """Its dotted name."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def source(self) -> str:
        """Its text."""
        return (ROOT / self.path).read_text(encoding="utf-8")

    def is_in(self, package: str) -> bool:
        """Tell whether this module is a package or part of it."""
        return self.name == package or self.name.startswith(package + ".")

    def tree(self) -> ast.Module:
        """Parse it."""
        return ast.parse(self.source, str(self.path))

    def imports(self) -> Iterator[Import]:
        """Yield what it imports, anywhere in it."""
        return self._imports(self.tree(), at_module_level=True)

    def _imports(self, node: ast.AST, *, at_module_level: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, at_module_level)
            elif isinstance(child, ast.ImportFrom):
                origin = self._origin(child)
                for alias in child.names:
                    name = f"{origin}.{alias.name}"
                    yield Import(name, child.lineno, at_module_level)
            else:
                inside = isinstance(
                    child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
                )
                yield from self._imports(
                    child, at_module_level=at_module_level and not inside
                )

    def _origin(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of the module that ``from`` names."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        dropped = node.level - (self.path.name == "__init__.py")
        package = parts[: len(parts) - dropped]
        return ".".join([*package, *([node.module] if node.module else [])])


def modules(*directories: str) -> list[Module]:
    """Return the modules below the directories given, in a fixed order."""
    paths = {
        path.relative_to(ROOT)
        for directory in directories
        for path in (ROOT / directory).rglob("*.py")
    }
    return [Module(path) for path in sorted(paths)]
