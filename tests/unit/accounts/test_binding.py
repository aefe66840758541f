"""The proof that somebody has the key of a system."""

from __future__ import annotations

import uuid
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.binding import binding_text, prove_system
from dwcloud.accounts.refusals import Refused
from dwcloud.net.identity import SystemIdentity

IDENTITY = SystemIdentity.generate()
CERTIFICATE = IDENTITY.certificate.public_bytes(Encoding.DER)
TEXT = binding_text(bytes(32), uuid.UUID(int=1), bytes(32))


def signature(text: bytes, identity: SystemIdentity = IDENTITY) -> bytes:
    """Sign by the key of a system."""
    key: Any = identity._key
    signed: bytes = key.sign(text, ec.ECDSA(hashes.SHA256()))
    return signed


def foreign_certificate() -> bytes:
    """Return a certificate of another kind of key."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = IDENTITY.certificate.subject
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(IDENTITY.certificate.not_valid_before_utc)
        .not_valid_after(IDENTITY.certificate.not_valid_after_utc)
        .sign(key, None)
    )
    return made.public_bytes(Encoding.DER)


class ProofTests(SynchronousTestCase):
    """Certificates and signatures."""

    def test_proven(self) -> None:
        """The GUID is that of the key which has signed."""
        system, public_key = prove_system(CERTIFICATE, signature(TEXT), TEXT)
        self.assertEqual(system, IDENTITY.name.system)
        self.assertIn(public_key, CERTIFICATE)

    def test_not_proven(self) -> None:
        """Another key, another text and another kind of certificate prove nothing."""
        other = binding_text(bytes(32), uuid.UUID(int=2), bytes(32))
        for certificate, signed, code in (
            (CERTIFICATE, signature(other), "bad_signature"),
            (CERTIFICATE, signature(TEXT, SystemIdentity.generate()), "bad_signature"),
            (CERTIFICATE, b"", "bad_signature"),
            (foreign_certificate(), signature(TEXT), "bad_certificate"),
            (b"nonsense", signature(TEXT), "bad_certificate"),
        ):
            error = self.assertRaises(Refused, prove_system, certificate, signed, TEXT)
            self.assertEqual((error.status, error.code), (400, code))

    @given(st.binary(max_size=200), st.binary(max_size=100))
    def test_any_bytes(self, certificate: bytes, signed: bytes) -> None:
        """Whatever comes, it proves nothing and does no harm."""
        for first in (certificate, CERTIFICATE, CERTIFICATE[:200] + certificate):
            self.assertRaises(Refused, prove_system, first, signed, TEXT)
