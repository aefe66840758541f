"""Proofs of a server's name as header fields, and what they sign."""

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.proof import (
    Proof,
    challenge_field,
    make_proof,
    nonce_of_challenge,
    signed_text,
)

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
CERTIFICATES = (b"server's", b"system's")


class ProofTests(SynchronousTestCase):
    def test_fields(self) -> None:
        """A proof is read as it was written, with the challenge's nonce."""
        field = challenge_field(b"n" * 40)
        self.assertEqual(nonce_of_challenge(field), b"n" * 40)
        proof = make_proof(
            field,
            method="upgrade",
            name=NAME,
            channel_binding=b"tls",
            certificates=CERTIFICATES,
            sign=lambda data: b"signed " + data,
        )
        signed = signed_text("upgrade", b"n" * 40, NAME, b"tls")
        self.assertEqual(
            Proof.decode(proof.encode()),
            Proof(b"n" * 40, CERTIFICATES, b"signed " + signed),
        )

    def test_malformed_fields(self) -> None:
        """What is not our scheme, or not whole, is refused with 401."""
        whole = Proof(b"nonce", CERTIFICATES, b"signature").encode()
        for field in (
            "",
            "Basic dXNlcg==",
            "DWCloud",
            'DWCloud nonce="!"',
            'DWCloud nonce="AA=="',
            whole.replace("system=", "sistem="),
            whole + "x" * 10_000,
        ):
            error = self.assertRaises(RemoteProtocolError, Proof.decode, field)
            self.assertEqual(error.code, 401)
        self.assertRaises(RemoteProtocolError, nonce_of_challenge, "Basic realm=x")
        self.assertRaises(RemoteProtocolError, nonce_of_challenge, 'DWCloud nonce=""')

    @given(st.text())
    def test_any_field(self, text: str) -> None:
        """No field brings the parsers down."""
        for parse in (Proof.decode, nonce_of_challenge):
            for field in (text, f"DWCloud {text}", f'DWCloud nonce="{text}"'):
                try:
                    parse(field)
                except RemoteProtocolError as error:
                    self.assertEqual(error.code, 401)

    @given(st.binary(), st.binary(), st.binary(), st.binary())
    def test_texts_differ(self, n1: bytes, b1: bytes, n2: bytes, b2: bytes) -> None:
        """No two different proofs sign the same text."""
        one = signed_text("upgrade", n1, NAME, b1)
        two = signed_text("upgrade", n2, NAME, b2)
        self.assertEqual(one == two, (n1, b1) == (n2, b2))
