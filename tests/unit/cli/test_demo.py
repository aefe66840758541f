"""What counts as a path that carried the file."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.demo import PathResult
from dwcloud.cli.demo_cloud import FILE_SIZE
from dwcloud.cli.fetch import Download
from dwcloud.peer.status import ConnectionReport, PathKind

SHA256 = "ab" * 32


def download(
    path: PathKind = PathKind.UDP, size: int = FILE_SIZE, sha256: str = SHA256
) -> Download:
    """What came over ``path``."""
    report = ConnectionReport("connected", "p", "web", path, "127.0.0.1:5", 0.02)
    return Download(sha256, size, 0.025, 1.025, report)


class PathResultTests(SynchronousTestCase):
    """Judging a download."""

    def test_good(self) -> None:
        """The whole file, undamaged, by the path that was wanted."""
        result = PathResult.judge(PathKind.UDP, download(), SHA256)
        self.assertIsNone(result.error)
        self.assertEqual(
            result.as_row(),
            [
                "udp",
                "UDT, hole punched from both sides",
                "127.0.0.1:5",
                "25 ms",
                f"{FILE_SIZE / 1e6:.1f}",
                "same",
            ],
        )
        values = result.as_dict()
        self.assertTrue(values["ok"])
        self.assertEqual(values["path"], "udp")
        self.assertEqual(values["bytes"], FILE_SIZE)
        self.assertEqual(values["report"]["path"], "udp")

    def test_file_size(self) -> None:
        """The file is as large as promised."""
        self.assertGreaterEqual(FILE_SIZE, 50_000_000)

    def test_another_path(self) -> None:
        """A file that came another way does not count."""
        result = PathResult.judge(PathKind.UDP, download(PathKind.RELAY), SHA256)
        self.assertEqual(result.error, "the file came by relay instead")
        self.assertFalse(result.as_dict()["ok"])

    def test_cut(self) -> None:
        """A part of the file does not count."""
        result = PathResult.judge(PathKind.UDP, download(size=5), SHA256)
        self.assertIn("5 bytes came instead of", str(result.error))

    def test_damaged(self) -> None:
        """A damaged file does not count."""
        result = PathResult.judge(PathKind.UDP, download(sha256="cd" * 32), SHA256)
        self.assertIn("damaged", str(result.error))
        self.assertIn("FAILED", result.as_row()[-1])

    def test_nothing_came(self) -> None:
        """A path that failed has its reason in the table."""
        result = PathResult(PathKind.LAN, None, "not heard")
        self.assertEqual(result.as_row()[:2], ["lan", "FAILED: not heard"])
        self.assertEqual(result.as_dict()["error"], "not heard")
