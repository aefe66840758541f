"""Values of attributes."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    AttributeType,
    ErrorCode,
    PasswordAlgorithm,
    address_attribute,
    decode_address,
    decode_error_code,
    decode_password_algorithm,
    decode_password_algorithms,
    decode_text,
    decode_unknown_attributes,
    decode_xor_address,
    error_attribute,
    padding_attribute,
    password_algorithm_attribute,
    password_algorithms_attribute,
    text_attribute,
    unknown_attributes_attribute,
    xor_address_attribute,
)
from dwcloud.protocol.stun.message import MessageClass, STUNMessage
from tests.unit.protocol.stun.strategies import addresses, transaction_ids

DECODERS: list[Callable[[bytes], object]] = [
    decode_address,
    lambda value: decode_xor_address(value, bytes(12)),
    decode_error_code,
    decode_unknown_attributes,
    decode_text,
    decode_password_algorithm,
    decode_password_algorithms,
]


class AnyValueTests(SynchronousTestCase):
    """Values from a hostile peer."""

    @given(st.binary(max_size=64), st.sampled_from(DECODERS))
    def test_any_bytes(self, value: bytes, decode: Callable[[bytes], object]) -> None:
        """Each decoder takes any bytes or raises RemoteProtocolError."""
        try:
            decode(value)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 400)


class AddressTests(SynchronousTestCase):
    """Transport addresses, plain and masked."""

    @given(addresses, transaction_ids)
    def test_round_trip(self, address: Address, transaction_id: bytes) -> None:
        """IPv4 and IPv6 addresses come back as they were."""
        plain = address_attribute(AttributeType.MAPPED_ADDRESS, address)
        self.assertEqual(decode_address(plain.value), address)
        masked = xor_address_attribute(
            AttributeType.XOR_MAPPED_ADDRESS, address, transaction_id
        )
        self.assertEqual(decode_xor_address(masked.value, transaction_id), address)

    def test_plain_form(self) -> None:
        """RFC 8489, figure 5."""
        attribute = address_attribute(AttributeType.OTHER_ADDRESS, ("192.0.2.1", 258))
        self.assertEqual(attribute.type, 0x802C)
        self.assertEqual(attribute.value, b"\0\x01\x01\x02\xc0\0\x02\x01")

    def test_refuses_malformed(self) -> None:
        """Family and length must fit together."""
        for value in (
            b"",
            b"\0\x01\0\0",
            b"\0\x01" + bytes(18),
            b"\0\x02" + bytes(6),
            b"\0\x03" + bytes(6),
            b"\0\x02" + bytes(22),
        ):
            self.assertRaises(RemoteProtocolError, decode_address, value)
            self.assertRaises(RemoteProtocolError, decode_xor_address, value, bytes(12))

    def test_misuse(self) -> None:
        """Host names and impossible ports are the caller's mistake."""
        for address in (("example.org", 1), ("192.0.2.1", 65536), ("::1", -1)):
            self.assertRaises(LocalProtocolError, address_attribute, 1, address)


class ErrorCodeTests(SynchronousTestCase):
    """ERROR-CODE and UNKNOWN-ATTRIBUTES."""

    @given(st.integers(300, 699), st.text(max_size=100))
    def test_round_trip(self, code: int, reason: str) -> None:
        """Code and reason come back."""
        value = error_attribute(code, reason).value
        self.assertEqual(decode_error_code(value), ErrorCode(code, reason))

    def test_form(self) -> None:
        """The code is split into hundreds and the rest; the phrase is the RFC's."""
        self.assertEqual(error_attribute(438).value, b"\0\0\x04\x26Stale Nonce")
        self.assertEqual(error_attribute(420, "").value, b"\0\0\x04\x14")

    def test_reason_in_any_encoding(self) -> None:
        """A reason that is not UTF-8 does not hide the code."""
        self.assertEqual(decode_error_code(b"\0\0\x04\x01\xff"), (401, "\ufffd"))

    def test_misuse(self) -> None:
        """Codes out of range and endless reasons are the caller's mistake."""
        self.assertRaises(LocalProtocolError, error_attribute, 200)
        self.assertRaises(LocalProtocolError, error_attribute, 700)
        self.assertRaises(LocalProtocolError, error_attribute, 400, "x" * 510)

    def test_refuses_malformed(self) -> None:
        """Too short, no such class, no such number."""
        for value in (b"\0\0\x04", b"\0\0\x02\0", b"\0\0\x07\0", b"\0\0\x04\x64"):
            self.assertRaises(RemoteProtocolError, decode_error_code, value)

    @given(st.lists(st.integers(0, 0xFFFF)))
    def test_unknown_attributes(self, types: list[int]) -> None:
        """A list of types comes back."""
        value = unknown_attributes_attribute(types).value
        self.assertEqual(decode_unknown_attributes(value), types)


class TextTests(SynchronousTestCase):
    """Texts."""

    def test_limits(self) -> None:
        """We send 509 bytes at most and accept 763 (RFC 8489, 14.14)."""
        text_attribute(AttributeType.SOFTWARE, "x" * 509)
        self.assertRaises(
            LocalProtocolError, text_attribute, AttributeType.SOFTWARE, "é" * 255
        )
        self.assertEqual(decode_text(b"x" * 763), "x" * 763)
        self.assertRaises(RemoteProtocolError, decode_text, b"x" * 764)
        self.assertRaises(RemoteProtocolError, decode_text, b"\xff")


class PasswordAlgorithmTests(SynchronousTestCase):
    """PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS."""

    @given(
        st.lists(
            st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9)), max_size=5
        ).map(tuple)
    )
    def test_round_trip(self, algorithms: tuple[tuple[int, bytes], ...]) -> None:
        """Numbers and parameters come back, known or not."""
        value = password_algorithms_attribute(algorithms).value
        self.assertEqual(decode_password_algorithms(value), algorithms)

    def test_one(self) -> None:
        """PASSWORD-ALGORITHM is exactly one."""
        one = password_algorithm_attribute(PasswordAlgorithm.SHA256).value
        self.assertEqual(one, b"\0\x02\0\0")
        self.assertEqual(decode_password_algorithm(one), (2, b""))
        self.assertRaises(RemoteProtocolError, decode_password_algorithm, one * 2)
        self.assertRaises(RemoteProtocolError, decode_password_algorithm, b"")


class PaddingTests(SynchronousTestCase):
    """PADDING up to a length."""

    def test_fills(self) -> None:
        """The message gets the length asked for, where that is possible."""
        message = STUNMessage(1, MessageClass.REQUEST, bytes(12))
        for target in (24, 1200):
            padding = padding_attribute(len(message.encode()), target)
            assert padding is not None
            padded = message.with_attributes(padding)
            self.assertEqual(len(padded.encode()), target)

    def test_no_room(self) -> None:
        """A message that is long enough gets none."""
        self.assertIsNone(padding_attribute(20, 20))
        self.assertIsNone(padding_attribute(1204, 1200))
