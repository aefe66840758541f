"""The file that says to which cloud a system is bound."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.net.signing import SigningKey
from dwcloud.peer.cloud_membership import FILE_NAME, CloudMembership


class MembershipTests(SynchronousTestCase):
    """Written at binding, read at each start."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        key = SigningKey.generate().public_key
        self.membership = CloudMembership("cloud.example.org:3345", key, "gärage")

    def test_round_trip(self) -> None:
        """What is written is read; no other file stays behind."""
        self.membership.save(self.directory)
        self.assertEqual(CloudMembership.load(self.directory), self.membership)
        self.assertEqual([p.name for p in self.directory.iterdir()], [FILE_NAME])

    def test_not_bound(self) -> None:
        """No file, no cloud; removing it twice does no harm."""
        self.assertIsNone(CloudMembership.load(self.directory))
        self.membership.save(self.directory)
        for _ in range(2):
            CloudMembership.remove(self.directory)
        self.assertIsNone(CloudMembership.load(self.directory))

    def damaged(self, data: bytes) -> str:
        """Return what is said of a file with this content."""
        (self.directory / FILE_NAME).write_bytes(data)
        error = self.assertRaises(
            ConfigurationError, CloudMembership.load, self.directory
        )
        self.assertIn(str(self.directory / FILE_NAME), str(error))
        return str(error)

    def test_damaged(self) -> None:
        """A damaged file is never taken for none: everybody would be let in."""
        self.membership.save(self.directory)
        good = (self.directory / FILE_NAME).read_bytes()
        for data in (b"", b"[]", b"{}", b'"x"', b"\xff", good[:40], b"[" * 100_000):
            with self.subTest(data=data[:20]):
                self.assertIn("dwcloud system bind", self.damaged(data))
        wrong = good.replace(b'"cloud_key": "', b'"cloud_key": "x')
        self.assertIn("expected 44 characters", self.damaged(wrong))

    @given(st.binary(max_size=60))
    def test_any_bytes_survive(self, data: bytes) -> None:
        """Whatever is in the file, it is a membership or an error in words."""
        self.damaged(data)

    def test_where_nothing_can_be_read_or_written(self) -> None:
        """What stands in the way is named."""
        (self.directory / FILE_NAME).mkdir()
        for act in (
            lambda: CloudMembership.load(self.directory),
            lambda: self.membership.save(self.directory),
            lambda: CloudMembership.remove(self.directory),
        ):
            error = self.assertRaises(ConfigurationError, act)
            self.assertIn(FILE_NAME, str(error))
