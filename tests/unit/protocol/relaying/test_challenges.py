"""The relay's nonces: whose they are, for how long, and only once."""

import itertools
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.challenges import NONCE_LIFETIME, Challenges
from dwcloud.protocol.relaying.proof import Proof, make_proof, nonce_of_challenge

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


def random_source() -> Any:
    """Bytes that differ each time."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


class ChallengesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.challenges = Challenges(random_source())

    def prove(self, issued: float = 100.0, **changes: Any) -> Proof:
        """A proof for a new challenge."""
        arguments: dict[str, Any] = {
            "method": "upgrade",
            "name": NAME,
            "channel_binding": b"tls",
            "certificates": CERTIFICATES,
            "sign": sign,
        }
        field = self.challenges.issue(changes.pop("issue_for", NAME), now=issued)
        return make_proof(field, **(arguments | changes))

    def check(self, proof: Proof, **changes: Any) -> None:
        """Check as at the request."""
        arguments: dict[str, Any] = {
            "method": "upgrade",
            "name": NAME,
            "channel_binding": b"tls",
            "verify": verify,
            "now": 101.0,
        }
        self.challenges.check(proof, **(arguments | changes))

    def assert_refused(self, words: str, proof: Proof, **changes: Any) -> None:
        """The check must end by 401, for a reason."""
        error = self.assertRaises(RemoteProtocolError, self.check, proof, **changes)
        self.assertEqual(error.code, 401)
        self.assertIn(words, str(error))

    def test_accepted(self) -> None:
        """Challenges are answered in any order."""
        first, second = self.prove(), self.prove()
        self.assertNotEqual(first.nonce, second.nonce)
        self.check(Proof.decode(second.encode()))
        self.check(Proof.decode(first.encode()))

    def test_nonce_once(self) -> None:
        """A recorded proof is of no use."""
        proof = self.prove()
        self.check(proof)
        for now in (101.0, 110.0, 100.0 + NONCE_LIFETIME - 1):
            self.assert_refused("used before", proof, now=now)
        self.assert_refused("too old", proof, now=100.0 + NONCE_LIFETIME)

    def test_nonce_expires(self) -> None:
        """A nonce is short-lived, and not good before it was given out."""
        self.assert_refused("too old", self.prove(), now=100.0 + NONCE_LIFETIME)
        self.assert_refused("too old", self.prove(), now=99.0)

    def test_bad_proof_spends_nothing(self) -> None:
        """Nobody can use up the nonce of a server whose key he does not have."""
        proof = self.prove()
        forged = Proof(proof.nonce, CERTIFICATES, b"signed by me")
        self.assert_refused("not signed", forged)
        self.assertEqual(len(self.challenges), 0)
        self.check(proof)
        self.assertEqual(len(self.challenges), 1)

    def test_bound_to_what_it_is_for(self) -> None:
        """Another method, name or TLS connection makes the signature wrong."""
        for changes in (
            {"method": "websocket"},
            {"name": OTHER},
            {"channel_binding": b"another"},
            {"channel_binding": b""},
        ):
            self.assert_refused("not signed", self.prove(**changes))

    def test_nonce_of_another_server(self) -> None:
        """A nonce is good for the server for which it was asked alone."""
        self.assert_refused("not one for this server", self.prove(issue_for=OTHER))

    def test_name_of_somebody_else(self) -> None:
        """Who proves one name does not get another."""
        proof = self.prove(name=OTHER, issue_for=OTHER)
        self.assert_refused("the proof is that of", proof, name=OTHER)

    def test_another_relay(self) -> None:
        """A nonce of another relay, or of this one before a restart, is refused."""
        elsewhere = Challenges(lambda size: b"x" * size)
        self.challenges, here = elsewhere, self.challenges
        proof = self.prove()
        self.challenges = here
        self.assert_refused("not one for this server", proof)

    def test_strangers_fill_nothing(self) -> None:
        """Challenges that nobody answers are kept nowhere."""
        for _ in range(1000):
            self.challenges.issue(NAME, now=100.0)
        self.assertEqual(len(self.challenges), 0)

    def test_bounded(self) -> None:
        """What is forgotten for want of room is refused all the same."""
        self.challenges = Challenges(random_source(), most_spent=10)
        proofs = [self.prove(100.0 + number) for number in range(30)]
        for proof in proofs[:29]:
            self.check(proof, now=130.0)
        self.assertEqual(len(self.challenges), 10)
        for proof in proofs[:29]:
            self.assert_refused("used before", proof, now=130.0)
        self.check(proofs[29], now=130.0)

    def test_forgotten_in_time(self) -> None:
        """A spent nonce is kept no longer than it would be good, and never again."""
        proof = self.prove()
        self.check(proof)
        self.check(self.prove(200.0), now=200.0)
        self.assertEqual(len(self.challenges), 1)
        # Not even a clock that is set back makes it good.
        self.assert_refused("used before", proof, now=101.0)

    @given(st.data())
    def test_any_nonce(self, data: st.DataObject) -> None:
        """Neither any bytes nor any change of a nonce passes."""
        nonce = nonce_of_challenge(self.challenges.issue(NAME, now=100.0))
        place = data.draw(st.integers(0, len(nonce) - 1))
        bit = data.draw(st.integers(0, 7))
        flipped = bytearray(nonce)
        flipped[place] ^= 1 << bit
        for wrong in (data.draw(st.binary(max_size=80)), bytes(flipped), nonce[:-1]):
            proof = Proof(wrong, CERTIFICATES, b"")
            self.assert_refused("not one for this server", proof)
