"""Collect where the rules of the protocol pages are implemented and tested.

A page marks a rule by a tag, ``[udt:linger]``; code and tests repeat it in a comment or
docstring. ``python docs/conformance.py DIRECTORY`` writes a table for each page that
has tags; a test holds that no tag is missing anywhere.
"""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

import attrs

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {"udt": ROOT / "docs" / "protocol" / "udt.rst"}
"""The pages with rules, by the first part of their tags."""

_TAG = re.compile(r"\[([a-z0-9]+):([a-z0-9-]+)\]")
_DEFINITION = re.compile(r"^( *)(?:async )?(class|def) (\w+)")


@attrs.frozen
class Place:
    """Where a tag stands: a class, function or method of a module."""

    module: str
    name: str


@attrs.define
class Rule:
    """A rule of a page."""

    tag: str
    code: list[Place] = attrs.field(factory=list)
    tests: list[Place] = attrs.field(factory=list)


def tags_of_page(page: pathlib.Path) -> list[str]:
    """Return the tags of a page in the order in which they stand there."""
    text = page.read_text(encoding="utf-8")
    return list(dict.fromkeys(tag for _, tag in _TAG.findall(text)))


def _places(path: pathlib.Path, space: str) -> Iterator[tuple[str, Place]]:
    """Yield tags of a source file with the definition that each belongs to."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    scopes: list[tuple[int, str]] = []
    waiting: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        definition = _DEFINITION.match(line)
        if definition:
            indent = len(definition[1])
            scopes = [scope for scope in scopes if scope[0] < indent]
            scopes.append((indent, definition[3]))
            name = ".".join(scope for _, scope in scopes)
            yield from ((tag, Place(module, name)) for tag in waiting)
            waiting = []
        found = [tag for prefix, tag in _TAG.findall(line) if prefix == space]
        indent = len(line) - len(line.lstrip())
        if scopes and indent > scopes[-1][0]:
            name = ".".join(scope for _, scope in scopes)
            yield from ((tag, Place(module, name)) for tag in found)
        else:
            # Above a definition: it belongs to what follows.
            waiting += found


def collect(space: str) -> dict[str, Rule]:
    """Return the rules of a page, and whatever else is tagged, by tag."""
    rules = {tag: Rule(tag) for tag in tags_of_page(PAGES[space])}
    for path in sorted((ROOT / "dwcloud").rglob("*.py")):
        for tag, place in _places(path, space):
            rules.setdefault(tag, Rule(tag)).code.append(place)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for tag, place in _places(path, space):
            rules.setdefault(tag, Rule(tag)).tests.append(place)
    return rules


def _cell(places: Iterable[Place], strip: str) -> str:
    names = [
        f"``{place.module.removeprefix(strip)}``: {place.name}" for place in places
    ]
    return " |br| ".join(dict.fromkeys(names))


def table(space: str) -> str:
    """Return the table of a page in reStructuredText."""
    lines = [
        ".. |br| raw:: html",
        "",
        "   <br>",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 16 42 42",
        "",
        "   * - Rule",
        "     - Code, below ``dwcloud.protocol``",
        "     - Tests, below ``tests``",
    ]
    for rule in collect(space).values():
        lines += [
            f"   * - {rule.tag}",
            f"     - {_cell(rule.code, 'dwcloud.protocol.')}",
            f"     - {_cell(rule.tests, 'tests.')}",
        ]
    return "\n".join([*lines, ""])


def generate(directory: pathlib.Path) -> None:
    """Write the tables of all pages."""
    directory.mkdir(parents=True, exist_ok=True)
    for space in PAGES:
        path = directory / f"{space}-conformance.inc"
        path.write_text(table(space), encoding="utf-8")


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]))
