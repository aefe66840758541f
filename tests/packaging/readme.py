"""The commands of README.rst, by the name of the target above each.

Runs with a bare Python too: ``python3 tests/packaging/readme.py tests`` prints the
command named ``command-tests``, so that no script repeats what the README says.
"""

from __future__ import annotations

import pathlib
import re
import sys
import textwrap

README = pathlib.Path(__file__).resolve().parents[2] / "README.rst"

_BLOCK = re.compile(
    r"^\.\. _command-(?P<name>[a-z-]+):\n"
    r"\n"
    r"\.\. code-block:: shell\n"
    r"\n"
    r"(?P<body>(?:[ ]{3,}\S.*\n|\n)+)",
    re.MULTILINE,
)


def commands(text: str | None = None) -> dict[str, str]:
    """Return name to command of each shell block, in the order of the page."""
    if text is None:
        text = README.read_text(encoding="utf-8")
    return {
        match["name"]: textwrap.dedent(match["body"]).strip()
        for match in _BLOCK.finditer(text)
    }


if __name__ == "__main__":
    print(commands()[sys.argv[1]])
