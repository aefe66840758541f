"""Identities: made, kept, read, verified."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError, IdentityMismatch
from dwcloud.net.identity import (
    KeyAgreement,
    ServerIdentity,
    SystemIdentity,
    verify_certificates,
    verify_signature,
)
from dwcloud.protocol.names import PeerName, guid_from_public_key

_DAY = datetime.timedelta(days=1)


class StorageTests(SynchronousTestCase):
    """Files of an identity."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def test_made_on_first_use_and_kept(self) -> None:
        """The first use makes an identity, the next one reads the same."""
        first = ServerIdentity.load_or_create(self.directory)
        again = ServerIdentity.load_or_create(self.directory)
        self.assertEqual(first.name, again.name)
        self.assertEqual(first.certificates, again.certificates)

    def test_keys_are_private(self) -> None:
        """Nobody else on the machine can read a key."""
        ServerIdentity.create(self.directory)
        for name in ("system.key", "server.key"):
            mode = (self.directory / name).stat().st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)

    def test_create_never_overwrites(self) -> None:
        """A key in use cannot be lost by creating another."""
        ServerIdentity.create(self.directory)
        error = self.assertRaises(
            ConfigurationError, ServerIdentity.create, self.directory
        )
        self.assertIn("holds an identity already", str(error))

    def test_guid_is_the_hash_of_the_key(self) -> None:
        """The GUID follows from the public key alone and is a version 8 UUID."""
        identity = ServerIdentity.create(self.directory)
        spki = identity.key.public_key().public_bytes(
            serialization.Encoding.DER,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
        self.assertEqual(identity.name.server, guid_from_public_key(spki))
        self.assertEqual(identity.name.system.version, 8)

    def test_further_server(self) -> None:
        """A further server has the same system, another GUID, and no system key."""
        first = ServerIdentity.create(self.directory)
        elsewhere = Path(self.mktemp())
        second = ServerIdentity.add_server(self.directory, elsewhere)
        self.assertEqual(first.name.system, second.name.system)
        self.assertNotEqual(first.name.server, second.name.server)
        self.assertEqual(ServerIdentity.load(elsewhere).name, second.name)
        self.assertFalse((elsewhere / "system.key").exists())

    def test_only_the_first_server_can_add(self) -> None:
        """Without the system's key the message says where that key is."""
        elsewhere = self.directory / "second"
        ServerIdentity.create(self.directory)
        ServerIdentity.add_server(self.directory, elsewhere)
        error = self.assertRaises(
            ConfigurationError,
            ServerIdentity.add_server,
            elsewhere,
            self.directory / "third",
        )
        self.assertIn("name the directory of the system's first server", str(error))
        self.assertFalse((self.directory / "third").exists())

    def test_written_whole_or_not_at_all(self) -> None:
        """What fails half-way leaves nothing, so that the next start begins anew."""
        # A directory in place of a file cannot be overwritten, like a full disk.
        obstacle = self.directory / "server.crt.new"
        obstacle.mkdir(parents=True)
        error = self.assertRaises(
            ConfigurationError, ServerIdentity.create, self.directory
        )
        self.assertIn("cannot write", str(error))
        self.assertIn("server.crt", str(error))
        self.assertEqual(list(self.directory.iterdir()), [obstacle])
        obstacle.rmdir()
        created = ServerIdentity.load_or_create(self.directory)
        self.assertEqual(ServerIdentity.load(self.directory).name, created.name)

    def test_missing_file_is_named(self) -> None:
        """The message says which file is missing."""
        ServerIdentity.create(self.directory)
        (self.directory / "server.key").unlink()
        error = self.assertRaises(
            ConfigurationError, ServerIdentity.load, self.directory
        )
        self.assertIn("server.key is missing", str(error))

    def test_damaged_file_is_named(self) -> None:
        """The message says which file cannot be used."""
        ServerIdentity.create(self.directory)
        (self.directory / "server.crt").write_bytes(b"no certificate")
        error = self.assertRaises(
            ConfigurationError, ServerIdentity.load, self.directory
        )
        self.assertIn("server.crt is not a certificate", str(error))

    def test_swapped_keys_are_noticed(self) -> None:
        """A key that belongs to another certificate is refused."""
        ServerIdentity.create(self.directory)
        key = (self.directory / "system.key").read_bytes()
        (self.directory / "server.key").write_bytes(key)
        error = self.assertRaises(
            ConfigurationError, ServerIdentity.load, self.directory
        )
        self.assertIn("not the key of the certificate", str(error))


class VerificationTests(SynchronousTestCase):
    """What certificates and signatures prove."""

    def setUp(self) -> None:
        self.system = SystemIdentity.generate()
        self.server = self.system.issue_server()

    def test_genuine(self) -> None:
        """A server's certificates prove its name."""
        self.assertEqual(
            verify_certificates(self.server.certificates), self.server.name
        )

    def test_validity(self) -> None:
        """They prove it for as long as both are valid, also after they did once."""
        certificates = self.server.certificates
        for certificate in (self.server.certificate, self.system.certificate):
            self.assertEqual(
                verify_certificates(
                    certificates, at=certificate.not_valid_before_utc + _DAY
                ),
                self.server.name,
            )
        for moment in (
            self.server.certificate.not_valid_before_utc - _DAY,
            self.server.certificate.not_valid_after_utc + _DAY,
        ):
            error = self.assertRaises(
                IdentityMismatch, verify_certificates, certificates, at=moment
            )
            self.assertIn("does the clock of this machine go right", str(error))
        self.assertEqual(verify_certificates(certificates), self.server.name)

    def test_system_expires_first(self) -> None:
        """A system's certificate that has expired proves no server's."""
        ended = datetime.datetime.now(datetime.UTC) - _DAY
        old = self.system.certificate
        key = self.system._key
        expired = (
            x509.CertificateBuilder(
                issuer_name=old.issuer,
                subject_name=old.subject,
                public_key=old.public_key(),
                serial_number=1,
                not_valid_before=old.not_valid_before_utc - _DAY * 9,
                not_valid_after=ended,
                extensions=list(old.extensions),
            )
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )
        pair = (self.server.certificates[0], expired)
        error = self.assertRaises(IdentityMismatch, verify_certificates, pair)
        self.assertIn(f"until {ended.replace(microsecond=0)}", str(error))

    def test_other_system(self) -> None:
        """A certificate beside the certificate of another system proves nothing."""
        other = SystemIdentity.generate().issue_server()
        mixed = (self.server.certificates[0], other.certificates[1])
        self.assertRaises(IdentityMismatch, verify_certificates, mixed)

    def test_server_cannot_issue(self) -> None:
        """A server's certificate is no authority for further ones."""
        forged = SystemIdentity(
            PeerName(self.server.name.system),
            self.server.key,
            self.server.certificate,
        ).issue_server()
        self.assertRaises(IdentityMismatch, verify_certificates, forged.certificates)

    def test_name_of_another_server(self) -> None:
        """A certificate whose name is not the hash of its key is refused."""
        other = self.system.issue_server()
        builder = x509.CertificateBuilder(
            issuer_name=other.certificate.issuer,
            subject_name=other.certificate.subject,
            public_key=self.server.certificate.public_key(),
            serial_number=1,
            not_valid_before=other.certificate.not_valid_before_utc,
            not_valid_after=other.certificate.not_valid_after_utc,
            extensions=list(other.certificate.extensions),
        )
        forged = builder.sign(self.system._key, hashes.SHA256())
        der = forged.public_bytes(serialization.Encoding.DER)
        error = self.assertRaises(
            IdentityMismatch, verify_certificates, (der, other.certificates[1])
        )
        self.assertIn("does not name", str(error))

    @given(st.binary(max_size=300), st.binary(max_size=300))
    def test_any_bytes(self, server: bytes, system: bytes) -> None:
        """Bytes that are no certificates are refused, never a crash."""
        self.assertRaises(IdentityMismatch, verify_certificates, (server, system))
        self.assertFalse(verify_signature(server, system, b""))

    def test_signature(self) -> None:
        """A signature holds for the signed data and nobody else's key."""
        signature = self.server.sign(b"data")
        certificate = self.server.certificates[0]
        self.assertTrue(verify_signature(certificate, signature, b"data"))
        self.assertFalse(verify_signature(certificate, signature, b"other"))
        other = self.system.issue_server().certificates[0]
        self.assertFalse(verify_signature(other, signature, b"data"))


class KeyAgreementTests(SynchronousTestCase):
    """The key that two ends share."""

    def test_both_ends_derive_the_same(self) -> None:
        """Both ends get the same key, and another one for another purpose."""
        one, two = KeyAgreement(), KeyAgreement()
        key = one.derive(two.public_key, b"purpose")
        self.assertEqual(key, two.derive(one.public_key, b"purpose"))
        self.assertNotEqual(key, two.derive(one.public_key, b"other"))
        self.assertEqual(len(key), 32)

    def test_no_key(self) -> None:
        """Something that is not a public key is a ValueError."""
        self.assertRaises(ValueError, KeyAgreement().derive, b"short", b"purpose")
