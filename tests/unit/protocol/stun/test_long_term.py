"""Long-term credentials: the exchange between client and server."""

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    AttributeType,
    PasswordAlgorithm,
    decode_error_code,
    error_attribute,
    password_algorithms_attribute,
    text_attribute,
)
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.protocol.stun.credentials import (
    SecurityFeature,
    long_term_key,
    make_nonce,
    user_hash,
)
from dwcloud.protocol.stun.long_term import (
    Authenticated,
    LongTermClient,
    LongTermServer,
)
from dwcloud.protocol.stun.message import RawAttribute, STUNMessage
from tests.unit.protocol.stun.strategies import messages

REALM = "example.org"
REQUEST = binding_request(b"transaction1")
CLIENT = b"192.0.2.1:5"
SERVER_FEATURES = SecurityFeature.PASSWORD_ALGORITHMS


class OneUser:
    """A server's list of users: alice, with the password "secret"."""

    def key(self, username: str, algorithm: PasswordAlgorithm) -> bytes | None:
        """Return alice's key."""
        if username != "alice":
            return None
        return long_term_key("alice", REALM, "secret", algorithm)

    def username(self, hashed: bytes) -> str | None:
        """Return alice for her hash."""
        return "alice" if hashed == user_hash("alice", REALM) else None


def code_of(response: STUNMessage) -> int:
    """Return the error code of an answer."""
    return decode_error_code(response.require(AttributeType.ERROR_CODE)).code


class ExchangeTests(SynchronousTestCase):
    """A client of ours at a server of ours."""

    def setUp(self) -> None:
        """Make the server."""
        self.server = LongTermServer(REALM, bytes(16), OneUser(), lifetime=60.0)

    def ask(
        self, client: LongTermClient, *, now: float = 0.0, source: bytes = CLIENT
    ) -> Authenticated | STUNMessage:
        """Send a request and return the server's verdict."""
        request = STUNMessage.decode(client.protect(REQUEST))
        return self.server.authenticate(request, source, now=now)

    def challenged(self, password: str = "secret") -> LongTermClient:
        """Return a client that has got its first challenge."""
        client = LongTermClient("alice", password)
        response = self.ask(client)
        assert isinstance(response, STUNMessage)
        self.assertEqual(code_of(response), 401)
        self.assertTrue(client.challenge_received(response))
        return client

    def test_success(self) -> None:
        """Challenge, proof, and an answer that the client can verify."""
        client = self.challenged()
        request = client.protect(REQUEST)
        self.assertNotIn(b"alice", request)
        verdict = self.ask(client)
        assert isinstance(verdict, Authenticated)
        self.assertEqual(verdict.username, "alice")
        answer = STUNMessage.decode(verdict.protect(REQUEST.success()))
        self.assertTrue(answer.has_integrity_sha256)
        self.assertTrue(client.is_authentic(answer))
        plain = STUNMessage.decode(REQUEST.success().encode())
        self.assertFalse(client.is_authentic(plain))

    def test_wrong_password(self) -> None:
        """The second 401 ends the attempt."""
        client = self.challenged("wrong")
        response = self.ask(client)
        assert isinstance(response, STUNMessage)
        self.assertEqual(code_of(response), 401)
        self.assertFalse(client.challenge_received(response))

    def test_unknown_user(self) -> None:
        """A stranger gets the answer that a wrong password gets."""
        client = LongTermClient("mallory", "secret")
        first = self.ask(client)
        assert isinstance(first, STUNMessage)
        client.challenge_received(first)
        second = self.ask(client)
        self.assertEqual(second, self.ask(self.challenged("wrong")))

    def test_stale_nonce(self) -> None:
        """A late request gets a new nonce and is made again."""
        client = self.challenged()
        for now, source in ((61.0, CLIENT), (61.0, b"elsewhere")):
            response = self.ask(client, now=now, source=source)
            assert isinstance(response, STUNMessage)
            self.assertEqual(code_of(response), 438)
            self.assertTrue(client.challenge_received(response))
            self.assertIsInstance(
                self.ask(client, now=now, source=source), Authenticated
            )

    def test_old_client(self) -> None:
        """A client of RFC 5389: user name in the clear, MD5, HMAC-SHA1."""
        response = self.server.authenticate(REQUEST, CLIENT, now=0.0)
        assert isinstance(response, STUNMessage)
        key = long_term_key("alice", REALM, "secret", PasswordAlgorithm.MD5)
        raw = REQUEST.with_attributes(
            text_attribute(AttributeType.USERNAME, "alice"),
            text_attribute(AttributeType.REALM, REALM),
            RawAttribute(AttributeType.NONCE, response.require(AttributeType.NONCE)),
        ).encode(integrity_sha1_key=key)
        verdict = self.server.authenticate(STUNMessage.decode(raw), CLIENT, now=0.0)
        assert isinstance(verdict, Authenticated)
        answer = STUNMessage.decode(verdict.protect(REQUEST.success()))
        self.assertTrue(answer.verify_integrity_sha1(key))

    def test_bad_requests(self) -> None:
        """Incomplete or contradictory credentials are a 400."""
        good = STUNMessage.decode(self.challenged().protect(REQUEST)).attributes
        key = long_term_key("alice", REALM, "secret")
        other = password_algorithms_attribute(((1, b""),))
        third = RawAttribute(AttributeType.PASSWORD_ALGORITHM, b"\0\x03\0\0")
        others = {
            AttributeType.PASSWORD_ALGORITHMS: other,
            AttributeType.PASSWORD_ALGORITHM: third,
            AttributeType.REALM: text_attribute(AttributeType.REALM, "elsewhere"),
        }
        cases = [tuple(a for a in good if a.type != left.type) for left in good]
        cases += [
            tuple(changed if a.type == number else a for a in good)
            for number, changed in others.items()
        ]
        for attributes in cases:
            raw = REQUEST.with_attributes(*attributes).encode(integrity_key=key)
            response = self.server.authenticate(
                STUNMessage.decode(raw), CLIENT, now=0.0
            )
            assert isinstance(response, STUNMessage)
            self.assertEqual(code_of(response), 400)

    def test_weaker_integrity(self) -> None:
        """Who agreed on password algorithms must use the stronger integrity."""
        good = STUNMessage.decode(self.challenged().protect(REQUEST))
        raw = good.encode(integrity_sha1_key=long_term_key("alice", REALM, "secret"))
        response = self.server.authenticate(STUNMessage.decode(raw), CLIENT, now=0.0)
        assert isinstance(response, STUNMessage)
        self.assertEqual(code_of(response), 400)

    @given(messages)
    def test_any_request(self, message: STUNMessage) -> None:
        """No other message is ever authenticated, nor breaks the server."""
        request = STUNMessage(
            message.method, REQUEST.message_class, bytes(12), message.attributes
        )
        for raw in (request.encode(), request.encode(integrity_key=bytes(16))):
            verdict = self.server.authenticate(STUNMessage.decode(raw), CLIENT, now=0.0)
            self.assertIsInstance(verdict, STUNMessage)


class ClientTests(SynchronousTestCase):
    """A client at servers that are old, odd or impersonated."""

    def challenge(self, nonce: bytes, *attributes: RawAttribute) -> STUNMessage:
        """Return a 401."""
        return REQUEST.error(
            [
                error_attribute(401),
                text_attribute(AttributeType.REALM, REALM),
                RawAttribute(AttributeType.NONCE, nonce),
                *attributes,
            ]
        )

    def test_old_server(self) -> None:
        """A server of RFC 5389 gets MD5 and HMAC-SHA1, and its answer is checked."""
        client = LongTermClient("alice", "secret")
        self.assertTrue(client.challenge_received(self.challenge(b"nonce")))
        request = STUNMessage.decode(client.protect(REQUEST))
        key = long_term_key("alice", REALM, "secret", PasswordAlgorithm.MD5)
        self.assertTrue(request.verify_integrity_sha1(key))
        self.assertEqual(request.get(AttributeType.USERNAME), b"alice")
        answer = STUNMessage.decode(REQUEST.success().encode(integrity_sha1_key=key))
        self.assertTrue(client.is_authentic(answer))

    def test_bid_down(self) -> None:
        """A challenge that was stripped of its algorithms is not answered."""
        client = LongTermClient("alice", "secret")
        offer = password_algorithms_attribute(((2, b""),))
        unknown = password_algorithms_attribute(((7, b""),))
        told = make_nonce(SERVER_FEATURES, b"nonce")
        for response in (
            self.challenge(told),
            self.challenge(b"nonce", offer),
            self.challenge(told, unknown),
            REQUEST.error([error_attribute(401)]),
            REQUEST.error([]),
        ):
            self.assertRaises(RemoteProtocolError, client.challenge_received, response)
        self.assertEqual(client.protect(REQUEST), REQUEST.encode())

    def test_md5_only(self) -> None:
        """The server's offer decides; the stronger of what is on it is taken."""
        told = make_nonce(SERVER_FEATURES, b"nonce")
        for numbers, expected in (([1], 1), ([1, 2], 2), ([2, 1], 2), ([7, 1], 1)):
            client = LongTermClient("alice", "secret")
            offer = password_algorithms_attribute(tuple((n, b"") for n in numbers))
            client.challenge_received(self.challenge(told, offer))
            request = STUNMessage.decode(client.protect(REQUEST))
            self.assertEqual(
                request.get(AttributeType.PASSWORD_ALGORITHM),
                bytes([0, expected, 0, 0]),
            )

    def test_other_answers(self) -> None:
        """Nothing else is a challenge."""
        client = LongTermClient("alice", "secret")
        self.assertFalse(client.challenge_received(REQUEST.success()))
        refused = REQUEST.error([error_attribute(403)])
        self.assertFalse(client.challenge_received(refused))
        self.assertFalse(client.is_authentic(refused))
