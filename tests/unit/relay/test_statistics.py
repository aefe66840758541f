"""Figures of several processes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.relay.statistics import Statistics, add_figures


class SumTests(SynchronousTestCase):
    def test_sum(self) -> None:
        """Counts are summed, times are not, and groups are summed by member."""
        one = Statistics(
            0.0, tunnels=2, bytes_to_server=10, longest_wait=0.5, proofs_accepted=1
        )
        two = Statistics(5.0, tunnels=3, bytes_to_server=5, longest_wait=0.25)
        one.refused.update({404: 1, 503: 2})
        two.refused.update({403: 1, 404: 4})
        total = add_figures(
            [
                {"version": "1", "uptime": 9.0, "ended": one.totals()},
                {"version": "1", "uptime": 4.0, "ended": two.totals()},
            ]
        )
        self.assertEqual(
            total,
            {
                "version": "1",
                "uptime": 9.0,
                "ended": {
                    **one.totals(),
                    "tunnels": 5,
                    "bytes_to_server": 15,
                    "refused": {"404": 5, "503": 2, "403": 1},
                },
            },
        )

    def test_one(self) -> None:
        """The sum of one is itself."""
        figures = {"uptime": 1.0, "now": {"tunnels": 3}}
        self.assertEqual(add_figures([figures]), figures)
