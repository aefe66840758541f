"""Keys that sign, and the files and words that they are kept in."""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.private_files import replace_file
from dwcloud.net.signing import (
    SigningKey,
    parse_public_key,
    public_key_text,
    read_public_key,
    verifier,
    verify,
)


class SignatureTests(SynchronousTestCase):
    """Only the holder of the key signs."""

    def setUp(self) -> None:
        self.key = SigningKey.generate()

    def test_verified(self) -> None:
        """Its own signature counts, another key's or another text's does not."""
        signature = self.key.sign(b"text")
        check = verifier(self.key.public_key)
        self.assertTrue(check(signature, b"text"))
        self.assertFalse(check(signature, b"other"))
        self.assertFalse(verifier(SigningKey.generate().public_key)(signature, b"text"))

    @given(st.binary(max_size=80), st.binary(max_size=40))
    def test_any_bytes_survive(self, signature: bytes, public_key: bytes) -> None:
        """What is no signature, or no key, verifies nothing."""
        self.assertFalse(verify(self.key.public_key, signature, b"text"))
        self.assertFalse(verify(public_key, signature, b"text"))

    def test_secret(self) -> None:
        """The secret bytes make the same key again."""
        again = SigningKey.from_bytes(self.key.secret)
        self.assertEqual(again.public_key, self.key.public_key)
        self.assertNotIn(self.key.secret.hex(), repr(self.key))
        self.assertRaises(ValueError, SigningKey.from_bytes, b"short")

    def test_verifier_of_no_key(self) -> None:
        """A key of another length is told at once."""
        self.assertRaises(ConfigurationError, verifier, b"short")


class FileTests(SynchronousTestCase):
    """The files of a cloud's key."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.private = self.directory / "cloud.key"
        self.public = self.directory / "cloud.pub"

    def test_made_on_first_use(self) -> None:
        """The private part is for nobody else, the public one for everybody."""
        key = SigningKey.load_or_create(self.private, self.public)
        self.assertEqual(stat.S_IMODE(self.private.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        self.assertEqual(read_public_key(str(self.public)), key.public_key)
        again = SigningKey.load_or_create(self.private, self.public)
        self.assertEqual(again.public_key, key.public_key)
        self.assertEqual(
            {p.name for p in self.directory.iterdir()}, {"cloud.key", "cloud.pub"}
        )

    def test_public_part_follows(self) -> None:
        """A public part that does not belong to the key is written anew."""
        key = SigningKey.load_or_create(self.private, self.public)
        self.public.write_text("something else\n")
        SigningKey.load_or_create(self.private, self.public)
        self.assertEqual(read_public_key(str(self.public)), key.public_key)

    def test_other_files(self) -> None:
        """A file that is missing, no key, or another kind of key is named."""
        ServerIdentity.create(self.directory)
        (self.directory / "text").write_text("no key")
        for name, words in (
            ("missing", "cannot read"),
            ("text", "not an unencrypted private key"),
            ("server.key", "not an Ed25519 key"),
        ):
            path = self.directory / name
            error = self.assertRaises(ConfigurationError, SigningKey.load, path)
            self.assertIn(words, str(error))
            self.assertIn(str(path), str(error))

    def test_where_nothing_can_be_written(self) -> None:
        """A directory that cannot be made, or a file in its place, is named."""
        self.directory.write_text("in the way")
        key = SigningKey.generate()
        error = self.assertRaises(ConfigurationError, key.save, self.private)
        self.assertIn(str(self.directory), str(error))
        error = self.assertRaises(ConfigurationError, replace_file, self.private, b"")
        self.assertIn(str(self.private), str(error))

    def test_public_key_as_option(self) -> None:
        """A public key is given as text, or by its file; other text is told."""
        key = SigningKey.generate().public_key
        text = public_key_text(key)
        self.assertEqual(read_public_key(text), key)
        self.directory.mkdir()
        self.public.write_text("nonsense")
        for wrong in ("", "abc", text[:-4], text + text, str(self.public), "\0"):
            error = self.assertRaises(ConfigurationError, read_public_key, wrong)
            self.assertIn("expected 44 characters", str(error))

    @given(st.text())
    def test_any_text_survives(self, text: str) -> None:
        """Whatever is given as a key is one, or refused in words."""
        try:
            self.assertEqual(len(parse_public_key(text)), 32)
        except ConfigurationError as error:
            self.assertIn("expected 44 characters", str(error))
