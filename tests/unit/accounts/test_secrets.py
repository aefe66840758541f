"""Tokens, codes, names, sealed secrets, and the files that hold keys."""

from __future__ import annotations

import base64
import os
import sqlite3
import stat
from pathlib import Path

import pyotp
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.database import migrate
from dwcloud.accounts.directory import AccountsDirectory
from dwcloud.accounts.names import account_name, system_name
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.schema import MIGRATIONS
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.second_factor import matching_step, new_secret, provisioning_uri
from dwcloud.accounts.tokens import hash_secret, new_code, new_token, normal_code
from dwcloud.errors import ConfigurationError
from tests.unit.accounts.store_world import MemoryDatabase, StoreWorld

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class TokenTests(SynchronousTestCase):
    """What is given out."""

    def test_tokens(self) -> None:
        """Tokens have 256 bits, and no two are alike."""
        tokens = {new_token() for _ in range(100)}
        self.assertEqual({len(token) for token in tokens}, {43})
        self.assertEqual(len(tokens), 100)

    def test_codes(self) -> None:
        """Codes are groups of four, which are found again as people type them."""
        code = new_code(10, lambda n: bytes(range(n)))
        self.assertEqual(code, "aaaq-eaye-auda-ocaj")
        self.assertEqual(normal_code(f" {code.upper().replace('-', ' ')}\n"), code)

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Any text has a hash and a normal form."""
        self.assertEqual(len(hash_secret(text)), 64)
        self.assertEqual(normal_code(normal_code(text)), normal_code(text))


class NameTests(SynchronousTestCase):
    """Names of accounts and systems."""

    def test_names(self) -> None:
        """Case does not matter, and nothing fits in that leads anywhere."""
        self.assertEqual(account_name("Ann.B-2"), "ann.b-2")
        self.assertEqual(system_name("G"), "g")
        for name in (
            "",
            "a",
            ".a",
            "../a",
            "a/b",
            "a\n",
            "a b",
            "ä2",
            "a" * 64,
            "a\0b",
        ):
            error = self.assertRaises(Refused, account_name, name)
            self.assertEqual(error.code, "invalid_name")
        for name in ("", "-", "a/b", "a\n", "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"):
            self.assertRaises(Refused, system_name, name)

    @given(st.text(max_size=70))
    def test_any(self, text: str) -> None:
        """What is taken is plain, and taken again as it is."""
        for read in (account_name, system_name):
            try:
                name = read(text)
            except Refused:
                continue
            self.assertEqual(read(name), name)
            self.assertTrue(name.isascii() and name.isprintable())


class SealTests(SynchronousTestCase):
    """Secrets under a key."""

    def test_sealed(self) -> None:
        """What was sealed is opened for its owner, under its key, unchanged."""
        seal = Seal(bytes(32))
        sealed = seal.close(b"secret", "ann")
        self.assertNotIn(b"secret", bytes.fromhex(sealed))
        self.assertNotEqual(sealed, seal.close(b"secret", "ann"))
        self.assertEqual(seal.open(sealed, "ann"), b"secret")
        changed = sealed[:-1] + ("0" if sealed[-1] != "0" else "1")
        for other, text, owner in (
            (seal, sealed, "bob"),
            (seal, changed, "ann"),
            (Seal(bytes(31) + b"1"), sealed, "ann"),
            (seal, "", "ann"),
            (seal, "no hexadecimal", "ann"),
        ):
            self.assertRaises(ConfigurationError, other.open, text, owner)


class CodeTests(SynchronousTestCase):
    """Codes of devices."""

    def test_vectors(self) -> None:
        """The codes are those of RFC 6238, appendix B, of six digits."""
        secret = base64.b32encode(b"12345678901234567890").decode()
        for second, code in ((59, "287082"), (1111111109, "081804")):
            step = matching_step(secret, code, second * 1000, 0)
            self.assertEqual(step, second // 30)

    @given(st.text(max_size=12), st.integers(0, 1 << 40))
    def test_any(self, code: str, now: int) -> None:
        """Any text is a code of the moment or none."""
        step = matching_step(SECRET, code, now, -2)
        if step is not None:
            self.assertLessEqual(abs(step - now // 30_000), 1)

    def test_uri(self) -> None:
        """What a device reads names the cloud and the account."""
        uri = provisioning_uri(new_secret(), "ann")
        parsed = pyotp.parse_uri(uri)
        self.assertEqual((parsed.name, parsed.issuer), ("ann", "dwcloud"))


class DirectoryTests(SynchronousTestCase):
    """The files of a mediator with accounts."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "accounts"
        self.directory = AccountsDirectory(self.path)

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.path / name).stat().st_mode)

    def test_made(self) -> None:
        """Keys are made once, for nobody else to read."""
        key = self.directory.cloud_key().public_key
        sealed = self.directory.seal().close(b"x", "ann")
        self.directory.certificate()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        token = self.directory.operator_key()
        self.assertEqual(len(token), 43)
        self.assertEqual(AccountsDirectory(self.path).operator_key(), token)
        for name in ("cloud.key", "seal.key", "https.key", "operator.key"):
            self.assertEqual(self.mode(name), 0o600)
        text = (self.path / "cloud.pub").read_text()
        self.assertEqual(base64.b64decode(text), key)
        again = AccountsDirectory(self.path)
        self.assertEqual(again.cloud_key().public_key, key)
        self.assertEqual(again.seal().open(sealed, "ann"), b"x")
        pem = (self.path / "https.crt").read_bytes()
        self.directory.certificate()
        self.assertEqual((self.path / "https.crt").read_bytes(), pem)
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        self.assertIn("localhost", names.value.get_values_for_type(x509.DNSName))

    def test_broken(self) -> None:
        """What is no key is told by its path; a new one is not made in its place."""
        for name in ("cloud.key", "seal.key", "operator.key"):
            (self.path / name).write_bytes(b"nonsense")
        for load in (
            self.directory.cloud_key,
            self.directory.seal,
            self.directory.operator_key,
        ):
            error = self.assertRaises(ConfigurationError, load)
            self.assertIn(str(self.path), str(error))
        self.assertEqual((self.path / "seal.key").read_bytes(), b"nonsense")
        self.directory.certificate()[0].unlink()
        error = self.assertRaises(ConfigurationError, self.directory.certificate)
        self.assertIn("https.crt", str(error))

    def test_given_away(self) -> None:
        """All of it belongs to the user that the program is to run as."""
        given: list[tuple[str, int, int]] = []
        self.patch(os, "chown", lambda path, *owner: given.append((path.name, *owner)))
        self.directory.seal()
        self.directory.give_away()
        self.assertEqual(given, [])
        AccountsDirectory(self.path, (1234, -1)).give_away()
        self.assertEqual(
            sorted(given), [(self.path.name, 1234, -1), ("seal.key", 1234, -1)]
        )

        def refuse(path: Path, *owner: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "chown", refuse)
        directory = AccountsDirectory(self.path, (1234, -1))
        error = self.assertRaises(ConfigurationError, directory.give_away)
        self.assertIn("run as: Operation not permitted", str(error))

    def test_unusable(self) -> None:
        """A directory that cannot be is told."""
        (self.path / "file").write_bytes(b"")
        error = self.assertRaises(
            ConfigurationError, AccountsDirectory, self.path / "file" / "x"
        )
        self.assertIn("file", str(error))


class MigrationTests(SynchronousTestCase):
    """How tables of older programs become today's."""

    def migrate(self, database: MemoryDatabase, migrations: object) -> int:
        return database.run_now(
            lambda t: migrate(t, serial="INTEGER PRIMARY KEY", migrations=migrations)
        )

    def test_steps(self) -> None:
        """Each migration is done once, in order."""
        database = MemoryDatabase()
        steps = (("CREATE TABLE a (x {serial})",), ("ALTER TABLE a ADD y TEXT",))
        self.assertEqual(self.migrate(database, steps[:1]), 0)
        self.assertEqual(self.migrate(database, steps), 1)
        self.assertEqual(self.migrate(database, steps), 2)
        database.run_now(lambda t: t.execute("INSERT INTO a (y) VALUES ('z')"))

    def test_newer(self) -> None:
        """Tables of a newer program are left alone, and the error says so."""
        database = MemoryDatabase()
        self.migrate(database, ((), ()))
        error = self.assertRaises(ConfigurationError, self.migrate, database, ((),))
        self.assertIn("version 2", str(error))
        self.assertEqual(self.migrate(database, ((), ())), 2)

    def test_failure(self) -> None:
        """A migration that fails leaves what was there."""
        database = MemoryDatabase()
        self.migrate(database, ())
        bad = (("CREATE TABLE a (x TEXT)", "nonsense"),)
        self.assertRaises(sqlite3.OperationalError, self.migrate, database, bad)
        self.assertEqual(self.migrate(database, (("CREATE TABLE a (x TEXT)",),)), 0)

    def test_all(self) -> None:
        """The tables that are made are those of all migrations."""
        world = StoreWorld()
        version = world.run(lambda t: t.one("SELECT version FROM schema_version"))
        self.assertEqual(version, (len(MIGRATIONS),))
