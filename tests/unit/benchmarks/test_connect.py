"""The table of times to the first byte."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.connect import Row, table


class TableTests(SynchronousTestCase):
    """Rows of measurements."""

    def test_row(self) -> None:
        """The median, in milliseconds and in round trips, beside what is allowed."""
        shown = table([Row("udp", "cold", 0.1, [0.9, 0.65, 0.1])])
        rule, heads, again, line, end = shown.splitlines()
        self.assertEqual({rule, again, end}, {rule})
        self.assertTrue(heads.startswith("path"))
        self.assertEqual(
            re.split(r"\s{2,}", line),
            [
                "udp",
                "first stream, TLS",
                "100 ms",
                "650 ms",
                "6.5",
                "5",
                "550 ms",
            ],
        )

    def test_nothing_aimed_at(self) -> None:
        """Where no limit is set none is shown."""
        row = Row("tcp", "plain", 0.02, [0.1])
        self.assertIsNone(row.allowed)
        self.assertNotIn("None", table([row]))
