"""Tests of the results of the benchmarks: ratios, table, file and chart."""

from __future__ import annotations

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.chart import draw
from benchmarks.results import Results, describe_machine, rounded, table

TITLES = {"loopback": "loopback", "nat": "veth & NAT"}
SVG = "{http://www.w3.org/2000/svg}"


def measured() -> Results:
    results = Results("a machine")
    for network, transport, values in (
        ("loopback", "libudt", (100.0, 90.0, 300.0)),
        ("loopback", "dwcloud", (600.0, 700.0, 650.0)),
        ("nat", "dwcloud", (1234.5,)),
    ):
        for value in values:
            results.add("goodput", network, transport, value)
    results.add("memory", "loopback", "libudt", 512.0)
    results.add("memory", "loopback", "dwcloud", 4.0)
    results.note("aioquic: not installed")
    results.note("aioquic: not installed")
    return results


class ResultsTests(SynchronousTestCase):
    """Medians, and ratios to the reference library."""

    def test_median(self) -> None:
        """The middle one of the runs counts."""
        series = measured().series("goodput", "loopback")
        self.assertEqual([each.median for each in series], [100.0, 650.0])

    def test_ratio(self) -> None:
        """A ratio refers to the same figure on the same network, if it is there."""
        results = measured()
        ratios = [results.ratio(each) for each in results.series("goodput")]
        self.assertEqual(ratios, [1.0, 6.5, None])

    def test_saved(self) -> None:
        """What is loaded is what was saved."""
        results = measured()
        loaded = Results.from_json(results.to_json())
        self.assertEqual(loaded.series("goodput"), results.series("goodput"))
        self.assertEqual(loaded.series("memory"), results.series("memory"))
        self.assertEqual(loaded.machine, "a machine")
        self.assertEqual(loaded.notes, ["aioquic: not installed"])

    def test_table(self) -> None:
        """The table has a line for each series, in columns."""
        lines = table(measured(), TITLES.items()).splitlines()
        self.assertEqual(len(lines), 9)
        self.assertIn("650     600 to 700      6.50x", lines[4])
        self.assertIn("veth & NAT", lines[5])
        self.assertTrue(lines[5].endswith("1,234"))

    def test_rounded(self) -> None:
        """Three digits count."""
        shown = [rounded(value) for value in (12345.6, 12.345, 1.2345, 0.0)]
        self.assertEqual(shown, ["12,346", "12.3", "1.23", "0.00"])

    def test_machine(self) -> None:
        """The machine is described without its name."""
        self.assertIn("cores, Python 3", describe_machine())


class ChartTests(SynchronousTestCase):
    """The chart is SVG that shows the medians."""

    def test_bars(self) -> None:
        """There is a bar for each series, as long as its median."""
        root = ElementTree.fromstring(draw(measured(), TITLES))
        bars = root.findall(f"{SVG}rect")
        widths = [float(bar.attrib["width"]) for bar in bars]
        self.assertEqual(len(bars), 5)
        self.assertAlmostEqual(widths[1] / widths[0], 6.5, places=1)
        height = int(root.attrib["height"])
        self.assertTrue(all(float(bar.attrib["y"]) < height for bar in bars))

    def test_words(self) -> None:
        """Names, medians and ratios stand beside the bars."""
        root = ElementTree.fromstring(draw(measured(), TITLES))
        words = [text.text for text in root.findall(f"{SVG}text")]
        self.assertIn("goodput, MB/s", words)
        self.assertIn("veth & NAT", words)
        self.assertIn("650  (6.50x)", words)

    def test_some(self) -> None:
        """Only the figures asked for are drawn."""
        root = ElementTree.fromstring(draw(measured(), TITLES, ["memory"]))
        self.assertEqual(len(root.findall(f"{SVG}rect")), 2)
