"""Challenges, proofs and what they are bound to."""

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.proof import (
    NONCE_LIFETIME,
    Challenge,
    Proof,
    make_proof,
    nonce_of_challenge,
    signed_text,
)

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
OTHER = PeerName(uuid.UUID(int=1), uuid.UUID(int=3))
CERTIFICATES = (b"server's", b"system's")


def sign(data: bytes) -> bytes:
    return b"signed " + data


def verify(
    certificates: tuple[bytes, bytes], signature: bytes, data: bytes
) -> PeerName:
    if certificates != CERTIFICATES or signature != sign(data):
        raise RemoteProtocolError("not signed", 401)
    return NAME


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.challenge = Challenge(b"n" * 32, now=100.0)

    def prove(self, challenge: Challenge | None = None, **changes: Any) -> Proof:
        arguments: dict[str, Any] = {
            "method": "upgrade",
            "name": NAME,
            "channel_binding": b"tls",
            "certificates": CERTIFICATES,
            "sign": sign,
        }
        field = (challenge or self.challenge).field
        return make_proof(field, **(arguments | changes))

    def check(self, proof: Proof, **changes: Any) -> None:
        arguments: dict[str, Any] = {
            "method": "upgrade",
            "name": NAME,
            "channel_binding": b"tls",
            "verify": verify,
            "now": 101.0,
        }
        self.challenge.check(proof, **(arguments | changes))

    def assert_refused(self, proof: Proof, **changes: Any) -> None:
        error = self.assertRaises(RemoteProtocolError, self.check, proof, **changes)
        self.assertEqual(error.code, 401)

    def test_accepted(self) -> None:
        """A proof of the right name on the right connection is accepted."""
        self.check(Proof.decode(self.prove().encode()))

    def test_nonce_once(self) -> None:
        """A nonce is good for one proof, right or wrong."""
        proof = self.prove()
        self.check(proof)
        self.assert_refused(proof)

    def test_nonce_expires(self) -> None:
        """A nonce is short-lived."""
        self.assert_refused(self.prove(), now=100.0 + NONCE_LIFETIME)

    def test_replay_on_another_connection(self) -> None:
        """A recorded proof does not open another connection."""
        self.assert_refused(self.prove(Challenge(b"m" * 32, now=100.0)))

    def test_bound_to_what_it_is_for(self) -> None:
        """Another method, name or TLS connection makes the signature wrong."""
        for changes in (
            {"method": "websocket"},
            {"name": OTHER},
            {"channel_binding": b"another"},
            {"channel_binding": b""},
        ):
            self.challenge = Challenge(b"n" * 32, now=100.0)
            self.assert_refused(self.prove(**changes))

    def test_name_of_somebody_else(self) -> None:
        """Who proves one name does not get another."""
        self.assert_refused(self.prove(name=OTHER), name=OTHER)

    def test_malformed_fields(self) -> None:
        """What is not our scheme, or not whole, is refused with 401."""
        whole = self.prove().encode()
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
