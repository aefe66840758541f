"""The attacks of SECURITY.rst: each has tests, and they exist."""

from __future__ import annotations

import importlib
import re
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.source_tree import ROOT

_ROW = re.compile(r"^ {3}\* - ", re.MULTILINE)
_TEST = re.compile(r"``(tests\.[\w.]+)``")


def attacks() -> dict[str, list[str]]:
    """Return the tests of each attack of the table in SECURITY.rst."""
    text = (ROOT / "SECURITY.rst").read_text(encoding="utf-8")
    _, *rows = _ROW.split(text)
    found = {}
    for row in rows[1:]:
        attack, _, _ = row.partition("\n     - ")
        found[" ".join(attack.split())] = _TEST.findall(row)
    assert len(found) == len(rows) - 1, "an attack is listed twice"
    return found


class AttackTests(SynchronousTestCase):
    """What the table promises."""

    def test_tests_exist(self) -> None:
        """Each attack names at least one test, and each name is that of a test."""
        for attack, names in attacks().items():
            self.assertNotEqual(names, [], attack)
            for name in names:
                self._check(attack, name)

    def _check(self, attack: str, name: str) -> None:
        module, case, method = name.rsplit(".", 2)
        try:
            found = getattr(importlib.import_module(module), case)
        except (ImportError, AttributeError) as error:
            self.fail(f"{attack}: {name}: {error}")
        self.assertTrue(issubclass(found, TestCase), name)
        self.assertTrue(method.startswith("test"), name)
        self.assertTrue(callable(getattr(found, method, None)), f"{attack}: {name}")

    def test_enough(self) -> None:
        """At least forty attacks are considered."""
        self.assertGreaterEqual(len(attacks()), 40)
