"""Draw the state machines from the code that runs, so that no picture is out of date.

``python docs/diagrams.py DIRECTORY`` writes for each machine a Graphviz file, and a
picture where Graphviz is installed, and ``machines.inc`` which shows them all.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pathlib
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import attrs
from automat import TypeMachineBuilder

import dwcloud

SILENT_PACKAGES = ("dwcloud.cli", "dwcloud.testing")
"""Packages without state machines of the protocols."""


@attrs.frozen
class Diagram:
    """One machine, ready to be drawn.

    :ivar name: dotted name of the machine.
    :ivar summary: first sentence of its module.
    :ivar initial: the state in which it starts.
    :ivar arrows: (from, to) to the names of the inputs that lead that way.
    """

    name: str
    summary: str
    initial: str
    arrows: Mapping[tuple[str, str], list[str]]

    @property
    def file_name(self) -> str:
        """Name of its files, without an ending."""
        return self.name.removeprefix("dwcloud.").replace(".", "-")

    def dot(self) -> str:
        """Return the machine in Graphviz's language."""
        states = sorted({state for arrow in self.arrows for state in arrow})
        lines = [
            f'digraph "{self.name}" {{',
            "  rankdir=TB; nodesep=0.5; ranksep=0.6;",
            '  node [shape=box, style="rounded,filled", fillcolor="#eef3f8",',
            '        color="#4a6078", fontname="Helvetica", fontsize=12];',
            '  edge [color="#4a6078", fontname="Helvetica", fontsize=10];',
            '  "·" [shape=point, width=0.12];',
            f'  "·" -> "{self.initial}";',
            *[f'  "{state}";' for state in states],
        ]
        for (source, target), inputs in sorted(self.arrows.items()):
            # Left-justified, with room between the arrow and the words.
            label = "".join(f"  {name}\\l" for name in sorted(inputs))
            lines.append(f'  "{source}" -> "{target}" [label="{label}"];')
        return "\n".join([*lines, "}", ""])


def _grouped(
    transitions: Iterable[tuple[str, str, str]],
) -> dict[tuple[str, str], list[str]]:
    """Put the inputs that lead from one state to the same other one together."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, label, target in transitions:
        labels = arrows.setdefault((source, target), [])
        if label not in labels:
            labels.append(label)
    return arrows


def _words(value: Any) -> str:
    """Return a state's or an input's name as words."""
    if isinstance(value, enum.Enum):
        value = value.name.lower()
    elif isinstance(value, type):
        value = value.__name__
    return str(value).replace("_", " ")


def _summary(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").split("\n\n")[0].replace("\n", " ")


def _from_automat(name: str, module: ModuleType, automaton: Any) -> Diagram:
    """Read a machine that Automat built."""
    return Diagram(
        name,
        _summary(module),
        automaton.initialState.name,
        _grouped(
            (source.name, _words(label), target.name)
            for source, label, target, _ in automaton.allTransitions()
        ),
    )


def _table_rows(table: Mapping[Any, Any]) -> Iterator[tuple[str, str, str]]:
    """Read a table: state to inputs to state, (state, input) to state, or to states."""
    for key, value in table.items():
        if isinstance(key, tuple):
            yield _words(key[0]), _words(key[1]), _words(value)
        elif isinstance(value, Mapping):
            for label, target in value.items():
                yield _words(key), _words(label), _words(target)
        else:
            for target in value:
                yield _words(key), "", _words(target)


def _from_table(name: str, module: ModuleType, table: Mapping[Any, Any]) -> Diagram:
    """Read a machine that is an enum and a table of its transitions."""
    first = next(iter(table))
    initial = first[0] if isinstance(first, tuple) else first
    return Diagram(
        name, _summary(module), _words(initial), _grouped(_table_rows(table))
    )


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(dwcloud.__path__, "dwcloud."):
        if not info.name.startswith(SILENT_PACKAGES):
            yield importlib.import_module(info.name)


def _builds_machines(module: ModuleType) -> bool:
    return any(isinstance(value, TypeMachineBuilder) for value in vars(module).values())


def diagrams() -> list[Diagram]:
    """Find all machines of dwcloud, each once."""
    found: dict[int, Diagram] = {}
    # Whoever imports a machine has it too: the module that built it comes first.
    for module in sorted(_modules(), key=_builds_machines, reverse=True):
        for attribute, value in vars(module).items():
            name = f"{module.__name__}.{attribute}"
            automaton = getattr(value, "__automat_automaton__", None)
            if automaton is not None and not isinstance(value, type):
                found.setdefault(id(value), _from_automat(name, module, automaton))
            elif attribute.strip("_") == "TRANSITIONS" and isinstance(value, Mapping):
                found.setdefault(id(value), _from_table(name, module, value))
    return sorted(found.values(), key=lambda diagram: diagram.name)


def _section(diagram: Diagram, picture: bool) -> str:
    """Return the part of the page that shows one machine."""
    title = diagram.name.removeprefix("dwcloud.").rpartition(".")[0]
    lines = [title, "-" * len(title), "", diagram.summary, ""]
    if picture:
        lines += [
            f".. image:: _generated/{diagram.file_name}.svg",
            f"   :alt: states and transitions of {title}",
        ]
    else:
        lines += [
            ".. code-block:: text",
            "",
            *[f"   {line}" for line in diagram.dot().splitlines()],
        ]
    return "\n".join([*lines, "", ""])


def generate(directory: pathlib.Path) -> list[Diagram]:
    """Write the files of all machines below a directory; return the machines."""
    directory.mkdir(parents=True, exist_ok=True)
    program = shutil.which("dot")
    found = diagrams()
    for diagram in found:
        source = directory / f"{diagram.file_name}.dot"
        source.write_text(diagram.dot(), encoding="utf-8")
        if program:
            picture = source.with_suffix(".svg")
            subprocess.run(
                [program, "-Tsvg", "-o", str(picture), str(source)], check=True
            )
    page = "\n".join(_section(diagram, program is not None) for diagram in found)
    (directory / "machines.inc").write_text(page, encoding="utf-8")
    return found


if __name__ == "__main__":
    for drawn in generate(pathlib.Path(sys.argv[1])):
        print(drawn.name)
