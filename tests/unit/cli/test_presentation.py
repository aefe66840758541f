"""Tables and progress bars."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.console import Console
from dwcloud.cli.progress import ProgressBar
from dwcloud.cli.table import render_table
from tests.unit.cli.consoles import KeepingConsole


class TableTests(SynchronousTestCase):
    """Columns are aligned."""

    def test_alignment(self) -> None:
        """Words to the left, numbers to the right, nothing behind the last one."""
        lines = render_table(("path", "MB/s"), [("lan", "100.0"), ("udp", "9.5")], (1,))
        self.assertEqual(
            lines, ["path   MB/s", "----  -----", "lan   100.0", "udp     9.5"]
        )

    def test_empty(self) -> None:
        """A table without rows has its header."""
        self.assertEqual(render_table(("a", "bb"), []), ["a  bb", "-  --"])


class ProgressTests(SynchronousTestCase):
    """The bar moves with the transfer and goes away."""

    def setUp(self) -> None:
        """Have a clock."""
        self.now = 100.0

    def bar(self, console: Console, total: int = 1000) -> ProgressBar:
        """A bar for ``total`` bytes."""
        return ProgressBar(console, lambda: self.now, "udp", total)

    def test_render(self) -> None:
        """Share and rate are those of the transfer."""
        bar = self.bar(KeepingConsole(interactive=True), 10_000_000)
        self.now += 2.0
        self.assertEqual(
            bar.render(5_000_000), f"udp    [{'#' * 15}{'.' * 15}]  50%     2.5 MB/s"
        )
        self.assertIn("100%", bar.render(20_000_000))

    def test_nothing_to_transfer(self) -> None:
        """No bytes are all of them."""
        self.assertIn("100%", self.bar(KeepingConsole(interactive=True), 0).render(0))

    def test_redrawn_seldom(self) -> None:
        """Ten times a second is enough, however often it is told."""
        console = KeepingConsole(interactive=True)
        bar = self.bar(console)
        for done in range(0, 1000, 10):
            self.now += 0.01
            bar.update(done)
        self.assertLessEqual(len(console.drawn), 11)
        self.assertGreaterEqual(len(console.drawn), 9)
        bar.finish()
        self.assertEqual(console.drawn[-1], "\r\x1b[K")

    def test_nobody_looks(self) -> None:
        """A log gets no bars."""
        console = KeepingConsole()
        bar = self.bar(console)
        bar.update(500)
        bar.finish()
        self.assertEqual(console.drawn, [])
