"""Test that the rules of the protocol pages are implemented and tested."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = pathlib.Path(__file__).parents[2] / "docs" / "conformance.py"


def conformance() -> Any:
    """Return the module of the documentation."""
    spec = importlib.util.spec_from_file_location("docs_conformance", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class ConformanceTests(SynchronousTestCase):
    """Tags in pages, code and tests."""

    def test_tags(self) -> None:
        """Each rule has code and a test, and each tag stands for a rule."""
        module = conformance()
        for space, page in module.PAGES.items():
            rules = module.collect(space)
            written = set(module.tags_of_page(page))
            self.assertEqual(set(rules) - written, set(), "not on the page")
            self.assertEqual({t for t, r in rules.items() if not r.code}, set())
            self.assertEqual({t for t, r in rules.items() if not r.tests}, set())

    def test_places(self) -> None:
        """A tag belongs to the definition around it, or to the one after it."""
        rules = conformance().collect("udt")
        names = {place.name for place in rules["packet-format"].code}
        self.assertEqual(names, {"decode"})
        names = {place.name for place in rules["offences"].code}
        self.assertEqual(names, {"Connection._offended"})

    def test_table(self) -> None:
        """The table names each rule."""
        module = conformance()
        table = module.table("udt")
        for tag in module.tags_of_page(module.PAGES["udt"]):
            self.assertIn(f"* - {tag}\n", table)
