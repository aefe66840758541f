"""The description of the protocol names what the code speaks."""

from __future__ import annotations

from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.mediation.attributes import KINDS
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.parameters import ConnectionParameters

PAGE = Path(__file__).parents[4] / "docs" / "protocol" / "mediation.rst"


class DocumentationTests(SynchronousTestCase):
    """The tables of docs/protocol/mediation.rst."""

    def setUp(self) -> None:
        self.rows = PAGE.read_text().split("   * - ")

    def row(self, first: str, second: str) -> bool:
        """Tell whether a table has a row that begins so."""
        return any(row.startswith(f"{first}\n     - {second}\n") for row in self.rows)

    def test_methods(self) -> None:
        """Each method stands there with its number."""
        for method in set(Method) - {Method.BINDING}:
            self.assertTrue(
                self.row(f"0x{method:03X}", f"``{method.name.lower()}``"), method
            )

    def test_attributes(self) -> None:
        """Each attribute stands there with its number."""
        for kind in KINDS.values():
            self.assertTrue(self.row(f"0x{kind.number:04X}", kind.name), kind.name)

    def test_parameters(self) -> None:
        """Each connection parameter stands there with its number."""
        for field in attrs.fields(ConnectionParameters):
            number = str(field.metadata["number"])
            self.assertTrue(self.row(number, f"``{field.name}``"), field.name)
