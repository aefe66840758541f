"""Wrong passwords of an account, counted in the store."""

from __future__ import annotations

from dwcloud.accounts.lock_out import LockOut
from tests.unit.accounts.test_people import StoreCase


class LockOutTests(StoreCase):
    """Tries, and what becomes of them."""

    def setUp(self) -> None:
        super().setUp()
        self.lock = LockOut(tries=5, period=60)

    def begin(self, name: str = "ann") -> float:
        return self.world.run(self.lock.begin, name)

    def kept(self) -> list[tuple[object, ...]]:
        return self.world.run(lambda t: t.all("SELECT name_hash, at FROM tries"))

    def test_locked(self) -> None:
        """After five in a minute nobody tries, until the first is a minute old."""
        for _ in range(5):
            self.assertEqual(self.begin(), 0)
            self.world.advance(1)
        self.world.advance(5)
        self.assertEqual(self.begin(), 50)
        self.assertEqual(self.begin("bob"), 0)
        self.world.advance(50)
        self.assertEqual(self.begin(), 0)
        self.assertEqual(self.begin(), 1)

    def test_other_lock(self) -> None:
        """The numbers are those of whoever asks."""
        short = LockOut(tries=1, period=2)
        self.assertEqual(self.world.run(short.begin, "ann"), 0)
        self.assertEqual(self.world.run(short.begin, "ann"), 2)

    def test_success(self) -> None:
        """A right one wipes the slate; an undecided one does not count."""
        for _ in range(4):
            self.begin()
        self.world.run(self.lock.succeeded, "ann")
        for _ in range(5):
            self.assertEqual(self.begin(), 0)
        self.world.run(self.lock.give_back, "ann")
        self.assertEqual(self.begin(), 0)
        self.assertGreater(self.begin(), 0)
        self.world.run(self.lock.give_back, "bob")
        self.assertGreater(self.begin(), 0)

    def test_what_is_kept(self) -> None:
        """No name, which may be a password in the wrong field, and nothing old."""
        for number in range(30):
            self.begin(f"kettle orbit {number}")
        rows = self.kept()
        self.assertEqual(len(rows), 30)
        self.assertNotIn("kettle", repr(rows))
        self.world.advance(60)
        self.begin()
        self.assertEqual(len(self.kept()), 1)

    def test_clock_set_back(self) -> None:
        """A clock that was ahead by a day locks nobody for a day."""
        for _ in range(5):
            self.begin()
        self.world.advance(-24 * 3600)
        self.assertEqual(self.begin(), 0)
