"""Figures for Prometheus."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.metrics import (
    Family,
    Histogram,
    MetricsUnavailable,
    Sample,
    counter,
    gauge,
    histogram,
    render,
)
from tests.exposition import hide_package, read_metrics, values

BOUNDS = (0.1, 1.0, 10.0)


class HistogramTests(SynchronousTestCase):
    """Durations are counted where they belong."""

    def test_bounds_belong_below(self) -> None:
        """A duration as long as a bound is in that bucket (``le``: less or equal)."""
        counted = Histogram(BOUNDS)
        for seconds in (0.1, 0.10001, 1.0, 50.0):
            counted.observe(seconds)
        self.assertEqual(
            counted.figures()["buckets"], {"0.1": 1, "1.0": 2, "10.0": 0, "+Inf": 1}
        )

    @given(st.lists(st.floats(0, 1e6)))
    def test_any_durations(self, durations: list[float]) -> None:
        """Whatever comes, Prometheus reads as many, ascending, with their sum."""
        counted = Histogram(BOUNDS)
        for seconds in durations:
            counted.observe(seconds)
        text, _ = render([histogram("d_seconds", "Durations.", counted.figures())], "")
        metric = read_metrics(text.decode())["d_seconds"]
        buckets = list(values(metric, "_bucket").values())
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(
            buckets,
            [sum(d <= bound for d in durations) for bound in (*BOUNDS, float("inf"))],
        )
        self.assertEqual(values(metric, "_count"), {(): len(durations)})
        self.assertApproximates(values(metric, "_sum")[()], sum(durations), 1e-5)


class RenderTests(SynchronousTestCase):
    """Families are written as Prometheus reads them."""

    def test_kinds(self) -> None:
        """A counter gets its suffix; labels and values arrive."""
        labelled = Family(
            "g",
            "gauge",
            "With labels.",
            ("a", "b"),
            (Sample({"b": 'q"\\\n', "a": "1"}, 2.5),),
        )
        text, content_type = render([counter("c", "A count.", 3), labelled], "")
        self.assertTrue(content_type.startswith("text/plain"), content_type)
        metrics = read_metrics(text.decode())
        self.assertEqual(values(metrics["c"], "_total"), {(): 3})
        self.assertEqual(values(metrics["g"]), {("1", 'q"\\\n'): 2.5})
        self.assertEqual(metrics["c"].documentation, "A count.")

    def test_openmetrics(self) -> None:
        """Who accepts OpenMetrics gets that."""
        text, content_type = render(
            [gauge("g", "A value.", 1)], "application/openmetrics-text; version=1.0.0"
        )
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        self.assertTrue(text.endswith(b"# EOF\n"), text)

    def test_package_missing(self) -> None:
        """Without the package the error says what to install."""
        hide_package(self, "prometheus_client")
        error = self.assertRaises(MetricsUnavailable, render, [], "")
        self.assertIn("pip install 'dwcloud[metrics]'", str(error))
