"""Tests of the lock on an identity."""

from __future__ import annotations

import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.net.identity_lock import exclusive_identity


class ExclusiveIdentityTests(SynchronousTestCase):
    """:func:`exclusive_identity` on a directory."""

    def setUp(self) -> None:
        self.directory = pathlib.Path(self.mktemp())
        self.directory.mkdir()

    def test_second_is_refused(self) -> None:
        """Who comes second is told what to do instead."""
        with exclusive_identity(self.directory):
            error = self.assertRaises(
                ConfigurationError, exclusive_identity(self.directory).__enter__
            )
            self.assertIn(str(self.directory), str(error))
            self.assertIn("--identity", str(error))
            self.assertIn(f"another process ({os.getpid()})", str(error))

    def test_free_again(self) -> None:
        """After the end, however it comes, it is free, and no file is left."""
        with self.assertRaises(ZeroDivisionError), exclusive_identity(self.directory):
            raise ZeroDivisionError
        with exclusive_identity(self.directory):
            self.assertEqual(os.listdir(self.directory), [])

    def test_others_are_free(self) -> None:
        """Another identity is not concerned."""
        other = self.directory / "other"
        other.mkdir()
        with exclusive_identity(self.directory), exclusive_identity(other):
            pass
