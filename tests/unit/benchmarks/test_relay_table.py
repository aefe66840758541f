"""The table of the relay's benchmark."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.relay import table


class TableTests(SynchronousTestCase):
    def test_medians_and_ratios(self) -> None:
        """Each figure is a median, beside its ratio to HAProxy's."""
        shown = table(
            {
                "haproxy": {"MB/s": [900.0, 1000.0, 5000.0], "CPU s/GB": [0.5]},
                "splice": {"MB/s": [1250.0], "CPU s/GB": [0.25]},
            },
            1432.6,
        )
        rule, heads, _, haproxy, ours, *rest = shown.splitlines()
        self.assertEqual(heads.split(), ["relay", "MB/s", "CPU", "s/GB"])
        self.assertIn("1,000 (1.00x)", haproxy)
        self.assertIn("1,250 (1.25x)", ours)
        self.assertIn("0.25 (0.50x)", ours)
        self.assertEqual(len(rule), max(map(len, shown.splitlines()[:6])))
        self.assertEqual(rest[-1], "Memory of an idle connection: 1,433 bytes.")

    def test_without_haproxy(self) -> None:
        """Where HAProxy is not installed there are no ratios."""
        shown = table({"pump": {"MB/s": [7.0]}}, None)
        self.assertIn("7.00", shown)
        self.assertNotIn("x)", shown)
        self.assertNotIn("Memory", shown)
