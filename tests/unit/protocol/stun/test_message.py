"""Messages: header, attributes and trailers."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    AttributeType,
    PasswordAlgorithm,
    decode_text,
    decode_xor_address,
    text_attribute,
)
from dwcloud.protocol.stun.credentials import (
    long_term_key,
    short_term_key,
    user_hash,
)
from dwcloud.protocol.stun.message import (
    MAX_ATTRIBUTES,
    MessageClass,
    RawAttribute,
    STUNMessage,
    is_stun,
)
from tests.unit.protocol.stun import vectors
from tests.unit.protocol.stun.strategies import messages

TRANSACTION_ID = bytes(range(12))
KEY = b"key"


def request(*attributes: RawAttribute, method: int = 1) -> STUNMessage:
    """Return a request."""
    return STUNMessage(method, MessageClass.REQUEST, TRANSACTION_ID, attributes)


def with_length(raw: bytes) -> bytes:
    """Return ``raw`` with the length field set to what it really has."""
    return raw[:2] + (len(raw) - 20).to_bytes(2, "big") + raw[4:]


class PublishedVectorsTests(SynchronousTestCase):
    """The messages that the RFCs print."""

    def test_request(self) -> None:
        """RFC 5769, 2.1: all attributes, integrity and fingerprint are right."""
        message = STUNMessage.decode(vectors.REQUEST)
        self.assertEqual(message.method, 1)
        self.assertIs(message.message_class, MessageClass.REQUEST)
        self.assertEqual(
            message.attributes,
            (
                text_attribute(AttributeType.SOFTWARE, "STUN test client"),
                RawAttribute(0x0024, bytes.fromhex("6e0001ff")),
                RawAttribute(0x8029, bytes.fromhex("932ff9b151263b36")),
                text_attribute(AttributeType.USERNAME, "evtj:h6vY"),
            ),
        )
        key = short_term_key(vectors.SHORT_TERM_PASSWORD)
        self.assertTrue(message.verify_integrity_sha1(key))
        self.assertFalse(message.verify_integrity_sha1(key + b"x"))
        self.assertTrue(message.has_fingerprint)
        self.assertEqual(message.raw, vectors.REQUEST)

    def test_responses(self) -> None:
        """RFC 5769, 2.2 and 2.3: the mapped addresses are those printed."""
        for raw, host in (
            (vectors.RESPONSE_IPV4, "192.0.2.1"),
            (vectors.RESPONSE_IPV6, "2001:db8:1234:5678:11:2233:4455:6677"),
        ):
            message = STUNMessage.decode(raw)
            self.assertIs(message.message_class, MessageClass.SUCCESS)
            value = message.require(AttributeType.XOR_MAPPED_ADDRESS)
            self.assertEqual(
                decode_xor_address(value, message.transaction_id), (host, 32853)
            )
            key = short_term_key(vectors.SHORT_TERM_PASSWORD)
            self.assertTrue(message.verify_integrity_sha1(key))
            self.assertTrue(message.has_fingerprint)
            software = decode_text(message.require(AttributeType.SOFTWARE))
            self.assertEqual(software, "test vector")

    def test_long_term(self) -> None:
        """RFC 5769, 2.4: decoded, verified and encoded again byte for byte."""
        message = STUNMessage.decode(vectors.LONG_TERM_REQUEST)
        key = long_term_key(
            vectors.LONG_TERM_USERNAME,
            vectors.LONG_TERM_REALM,
            vectors.LONG_TERM_PASSWORD,
            PasswordAlgorithm.MD5,
        )
        self.assertTrue(message.verify_integrity_sha1(key))
        self.assertEqual(
            message.encode(integrity_sha1_key=key), vectors.LONG_TERM_REQUEST
        )

    def test_long_term_sha256(self) -> None:
        """RFC 8489, B.1 as corrected: verified and encoded again byte for byte."""
        message = STUNMessage.decode(vectors.LONG_TERM_SHA256_REQUEST)
        user = vectors.LONG_TERM_USERNAME, vectors.LONG_TERM_REALM
        self.assertEqual(message.get(AttributeType.USERHASH), user_hash(*user))
        key = long_term_key(*user, vectors.LONG_TERM_PASSWORD)
        self.assertTrue(message.verify_integrity(key))
        self.assertEqual(
            message.encode(integrity_key=key), vectors.LONG_TERM_SHA256_REQUEST
        )


class CodecTests(SynchronousTestCase):
    """Encoding and decoding."""

    @given(
        messages,
        st.none() | st.binary(max_size=80),
        st.none() | st.binary(max_size=80),
        st.booleans(),
        st.sampled_from((16, 20, 24, 28, 32)),
    )
    def test_round_trip(
        self,
        message: STUNMessage,
        key: bytes | None,
        sha1_key: bytes | None,
        fingerprint: bool,
        length: int,
    ) -> None:
        """What was encoded is read back, with each combination of trailers."""
        raw = message.encode(
            integrity_key=key,
            integrity_sha1_key=sha1_key,
            integrity_length=length,
            fingerprint=fingerprint,
        )
        self.assertTrue(is_stun(raw))
        decoded = STUNMessage.decode(raw)
        self.assertEqual(decoded, message)
        self.assertEqual(decoded.has_fingerprint, fingerprint)
        has_key = key is not None or sha1_key is not None
        self.assertEqual(decoded.has_integrity, has_key)
        if key is not None:
            self.assertTrue(decoded.verify_integrity(key, minimum_length=16))
            self.assertEqual(decoded.verify_integrity(key), length == 32)
        if sha1_key is not None:
            self.assertTrue(decoded.verify_integrity_sha1(sha1_key))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Nothing but RemoteProtocolError comes of garbage."""
        try:
            STUNMessage.decode(data)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 400)

    @given(messages, st.binary(max_size=120), st.booleans())
    def test_any_body(self, message: STUNMessage, body: bytes, keyed: bool) -> None:
        """Nor of a good header with garbage behind it."""
        raw = message.encode(integrity_key=KEY if keyed else None)
        body = body[: len(body) & ~3]
        try:
            decoded = STUNMessage.decode(with_length(raw + body))
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 400)
        else:
            decoded.verify_integrity(KEY)
            decoded.verify_integrity_sha1(KEY)

    @given(st.data(), messages)
    def test_changed_byte(self, data: st.DataObject, message: STUNMessage) -> None:
        """A protected message with one changed bit is not authentic any more."""
        raw = bytearray(message.encode(integrity_key=KEY))
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << bit % 8
        try:
            authentic = STUNMessage.decode(raw).verify_integrity(KEY)
        except RemoteProtocolError:
            authentic = False
        self.assertFalse(authentic)

    def test_message_type(self) -> None:
        """The class bits stand between the method bits (RFC 8489, figure 3)."""
        for method, message_class, expected in (
            (0x001, MessageClass.REQUEST, 0x0001),
            (0x001, MessageClass.INDICATION, 0x0011),
            (0x001, MessageClass.SUCCESS, 0x0101),
            (0x001, MessageClass.ERROR, 0x0111),
            (0xFFF, MessageClass.REQUEST, 0x3EEF),
            (0x0C0, MessageClass.ERROR, 0x0390),
        ):
            message = STUNMessage(method, message_class, TRANSACTION_ID)
            self.assertEqual(message.encode()[:2], expected.to_bytes(2, "big"))

    def test_padding(self) -> None:
        """Values are padded to 4 bytes with zeros, which their length excludes."""
        raw = request(RawAttribute(0x8022, b"abcde")).encode()
        self.assertEqual(raw[20:], b"\x80\x22\x00\x05abcde\0\0\0")

    def test_refuses_bad_headers(self) -> None:
        """Other first bits, another cookie and other lengths are no STUN."""
        good = request(RawAttribute(0x8022, b"abcd")).encode()
        for bad in (
            b"",
            good[:19],
            good[:-1],
            good + b"\0",
            bytes([good[0] | 0x40]) + good[1:],
            bytes([good[0] | 0x80]) + good[1:],
            good[:4] + bytes(4) + good[8:],
            with_length(good + b"ab"),
        ):
            self.assertFalse(is_stun(bad))
            self.assertRaises(RemoteProtocolError, STUNMessage.decode, bad)

    def test_refuses_attribute_beyond_end(self) -> None:
        """An attribute cannot be longer than the message."""
        raw = request().encode() + b"\x80\x22\x00\x05abcd"
        self.assertRaises(RemoteProtocolError, STUNMessage.decode, with_length(raw))

    def test_refuses_too_many_attributes(self) -> None:
        """A message of empty attributes does not make us build thousands."""
        attribute = RawAttribute(0x8022)
        many = request(*[attribute] * MAX_ATTRIBUTES)
        self.assertEqual(STUNMessage.decode(many.encode()), many)
        more = many.with_attributes(attribute).encode()
        self.assertRaises(RemoteProtocolError, STUNMessage.decode, more)

    def test_longest(self) -> None:
        """A body of 65,532 bytes is the most that the length field can say."""
        longest = request(RawAttribute(0x8022, bytes(0xFFFC - 4)))
        self.assertEqual(STUNMessage.decode(longest.encode()), longest)
        self.assertRaises(LocalProtocolError, longest.encode, fingerprint=True)
        self.assertRaises(LocalProtocolError, longest.encode, integrity_key=b"")

    def test_misuse(self) -> None:
        """What does not fit on the wire is refused before it is sent."""
        for message in (
            request(method=0x1000),
            STUNMessage(1, MessageClass.REQUEST, b"short"),
            request(RawAttribute(0x10000)),
            request(RawAttribute(0x8022, bytes(0x10000))),
            request(RawAttribute(AttributeType.FINGERPRINT, bytes(4))),
        ):
            self.assertRaises(LocalProtocolError, message.encode)
        self.assertRaises(
            LocalProtocolError,
            request().encode,
            integrity_key=KEY,
            integrity_length=18,
        )


class AttributesTests(SynchronousTestCase):
    """Looking attributes up, and answers."""

    def test_first_counts(self) -> None:
        """Of duplicates the first counts; get_all() has all."""
        message = request(RawAttribute(0x8022, b"a"), RawAttribute(0x8022, b"b"))
        self.assertEqual(message.get(0x8022), b"a")
        self.assertEqual(message.get_all(0x8022), [b"a", b"b"])
        self.assertIsNone(message.get(0x8023))
        self.assertEqual(message.require(0x8022), b"a")
        error = self.assertRaises(RemoteProtocolError, message.require, 0x8023)
        self.assertEqual(error.code, 400)

    def test_unknown(self) -> None:
        """Only comprehension-required types are unknown, each listed once."""
        message = request(*(RawAttribute(n) for n in (0x8999, 0x7FFF, 6, 2, 0x7FFF)))
        self.assertEqual(message.unknown_attributes({6}), [0x7FFF, 2])

    def test_answers(self) -> None:
        """Answers have the method and the transaction id of the request."""
        attribute = RawAttribute(0x8022, b"a")
        asked = request(method=0x0C1)
        for answer, message_class in (
            (asked.success([attribute]), MessageClass.SUCCESS),
            (asked.error([attribute]), MessageClass.ERROR),
        ):
            self.assertEqual(
                answer,
                STUNMessage(0x0C1, message_class, TRANSACTION_ID, (attribute,)),
            )
            self.assertRaises(LocalProtocolError, answer.success)


class TrailerTests(SynchronousTestCase):
    """What stands at and after the trailers."""

    def decode_with(self, *parts: bytes) -> STUNMessage:
        """Decode a plain request with raw attributes appended."""
        return STUNMessage.decode(with_length(request().encode() + b"".join(parts)))

    def test_after_integrity_is_ignored(self) -> None:
        """Attributes behind an integrity attribute are not protected, so not seen."""
        extra = b"\x80\x22\x00\x04evil"
        for name in ("integrity_key", "integrity_sha1_key"):
            raw = request().encode(**{name: KEY})
            decoded = STUNMessage.decode(with_length(raw + extra))
            self.assertEqual(decoded, request())
            self.assertTrue(
                decoded.verify_integrity(KEY) or decoded.verify_integrity_sha1(KEY)
            )

    def test_sha1_after_sha256_is_ignored(self) -> None:
        """MESSAGE-INTEGRITY counts only before MESSAGE-INTEGRITY-SHA256."""
        raw = request().encode(integrity_key=KEY)
        decoded = STUNMessage.decode(with_length(raw + b"\0\x08\0\x14" + bytes(20)))
        self.assertTrue(decoded.verify_integrity(KEY))
        self.assertFalse(decoded.verify_integrity_sha1(KEY))

    def test_second_integrity_is_ignored(self) -> None:
        """The first of two counts."""
        raw = request().encode(integrity_key=KEY)
        decoded = STUNMessage.decode(with_length(raw + b"\0\x1c\0\x20" + bytes(32)))
        self.assertTrue(decoded.verify_integrity(KEY))

    def test_unprotected(self) -> None:
        """Without the attribute nothing is authentic, whatever the key."""
        decoded = STUNMessage.decode(request().encode())
        self.assertFalse(decoded.verify_integrity(b""))
        self.assertFalse(decoded.verify_integrity_sha1(b""))
        self.assertFalse(request().verify_integrity(b""))
        self.assertEqual(request().raw, b"")

    def test_wrong_lengths(self) -> None:
        """Trailers of impossible lengths make the message malformed."""
        for part in (
            b"\0\x08\0\x10" + bytes(16),
            b"\0\x1c\0\x0c" + bytes(12),
            b"\0\x1c\0\x12" + bytes(20),
            b"\0\x1c\0\x24" + bytes(36),
            b"\x80\x28\0\x08" + bytes(8),
        ):
            self.assertRaises(RemoteProtocolError, self.decode_with, part)

    def test_wrong_fingerprint(self) -> None:
        """A wrong FINGERPRINT means that it is not STUN after all."""
        self.assertRaises(
            RemoteProtocolError, self.decode_with, b"\x80\x28\0\x04" + bytes(4)
        )

    def test_fingerprint_is_last(self) -> None:
        """Nothing may follow FINGERPRINT."""
        raw = request().encode(fingerprint=True)
        for extra in (b"\x80\x22\0\0", b"\0\x1c\0\x20" + bytes(32)):
            self.assertRaises(
                RemoteProtocolError, STUNMessage.decode, with_length(raw + extra)
            )
