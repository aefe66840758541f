"""Which passwords are good enough, and how they are checked."""

from __future__ import annotations

import argon2
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts import passwords
from dwcloud.accounts.passwords import MAX_PASSWORD, Passwords, check_password
from dwcloud.accounts.refusals import Refused
from tests.unit.accounts.store_world import CHEAP, Inline


class StrengthTests(SynchronousTestCase):
    """Passwords that are refused."""

    def test_refused(self) -> None:
        """Short, long, common and personal ones are, each with the reason."""
        for password, part in (
            ("x7kQ9vLp2", "at least 10"),
            ("x" * (MAX_PASSWORD + 1), "at most 200"),
            ("1234567890", "top-100"),
            ("password1234", "common"),
            ("aaaaaaaaaaaa", "Repeats"),
            ("Benedictus99", "guessed easily"),
        ):
            error = self.assertRaises(Refused, check_password, password, "benedictus99")
            self.assertEqual((error.status, error.code), (400, "weak_password"))
            self.assertIn(part, error.detail)

    def test_taken(self) -> None:
        """Uncommon ones are taken, in any script, and long ones."""
        for password in (
            "kettle orbit 7",
            "пароль-не-для-всех",
            "q9!Fv0_zLk",
            "kettle orbit " * 15,
        ):
            check_password(password, "ann")

    def test_bounded(self) -> None:
        """However long it is, what is judged takes a bounded time."""
        lengths: list[int] = []

        def judge(password: str, personal: list[str]) -> object:
            lengths.append(len(password))
            return {"score": 4}

        self.patch(passwords, "zxcvbn", judge)
        check_password("4@8({[<369&#!1|0$5+7%2" * 9, "ann")
        self.assertEqual(lengths, [16])

    @settings(max_examples=50, deadline=None)
    @given(st.text(max_size=300))
    def test_any(self, password: str) -> None:
        """Any text is taken or refused."""
        try:
            check_password(password, "ann")
        except Refused as error:
            self.assertEqual(error.code, "weak_password")


class HashTests(SynchronousTestCase):
    """What is kept of passwords."""

    def setUp(self) -> None:
        self.threads = Inline()
        self.passwords = Passwords(self.threads, CHEAP)

    def test_verified(self) -> None:
        """The right password is, others are not, and the hash is argon2id's."""
        kept = self.successResultOf(self.passwords.hash("kettle orbit 7"))
        self.assertTrue(kept.startswith("$argon2id$"))
        for password, right in (("kettle orbit 7", True), ("kettle orbit 8", False)):
            found = self.successResultOf(self.passwords.verify(kept, password))
            self.assertIs(found, right)

    def test_weak(self) -> None:
        """A weak one is not hashed."""
        failure = self.failureResultOf(self.passwords.hash("1234567890"), Refused)
        self.assertEqual(failure.value.code, "weak_password")

    def test_unknown(self) -> None:
        """For nobody's password as much is done as for somebody's, in vain."""
        found = self.successResultOf(self.passwords.verify(None, "kettle orbit 7"))
        self.assertIs(found, False)
        nobodys = "the password of nobody"
        self.assertIs(self.successResultOf(self.passwords.verify(None, nobodys)), False)
        self.assertEqual(self.threads.done, 2)

    def test_broken(self) -> None:
        """What is no hash is no password's."""
        found = self.successResultOf(self.passwords.verify("!", "kettle orbit 7"))
        self.assertIs(found, False)

    def test_renewal(self) -> None:
        """Hashes of other parameters are to be renewed."""
        kept = self.successResultOf(self.passwords.hash("kettle orbit 7"))
        self.assertFalse(self.passwords.needs_renewal(kept))
        other = argon2.PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
        self.assertTrue(Passwords(self.threads, other).needs_renewal(kept))

    def test_default_parameters(self) -> None:
        """By default it takes 48 MiB, so that guessing takes them, too."""
        passwords = Passwords(self.threads)
        kept = self.successResultOf(passwords.hash("kettle orbit 7"))
        self.assertIn("m=49152,t=2,p=1", kept)
