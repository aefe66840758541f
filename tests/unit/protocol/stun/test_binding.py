"""Binding: requests and answers."""

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    STANDARD_ATTRIBUTES,
    AttributeType,
    address_attribute,
    decode_error_code,
    decode_unknown_attributes,
    text_attribute,
)
from dwcloud.protocol.stun.binding import (
    binding_request,
    binding_response,
    is_binding_request,
    reflexive_address,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from tests.unit.protocol.stun.strategies import addresses, messages

SOURCE = Address("192.0.2.1", 40000)
REQUEST = binding_request(bytes(range(12)))


class BindingTests(SynchronousTestCase):
    """binding_response() and reflexive_address()."""

    def test_success(self) -> None:
        """The client learns its address, in 32 bytes."""
        response = binding_response(REQUEST, SOURCE)
        self.assertIs(response.message_class, MessageClass.SUCCESS)
        self.assertEqual(response.transaction_id, REQUEST.transaction_id)
        self.assertEqual(reflexive_address(response), SOURCE)
        self.assertEqual(len(response.encode()), 32)

    def test_dual_stack(self) -> None:
        """An IPv4 address that came in through an IPv6 socket is reported as IPv4."""
        response = binding_response(REQUEST, ("::ffff:192.0.2.1", 40000))
        self.assertEqual(reflexive_address(response), SOURCE)
        response = binding_response(REQUEST, ("2001:db8::1", 40000))
        self.assertEqual(reflexive_address(response), ("2001:db8::1", 40000))

    def test_on_streams(self) -> None:
        """On streams it may be longer and name the software."""
        response = binding_response(REQUEST, SOURCE, software="dwcloud", compact=False)
        self.assertEqual(response.get(AttributeType.SOFTWARE), b"dwcloud")
        self.assertEqual(reflexive_address(response), SOURCE)

    def test_extra_attributes(self) -> None:
        """Attributes of RFC 5780 have their place."""
        other = address_attribute(AttributeType.OTHER_ADDRESS, ("192.0.2.2", 3346))
        response = binding_response(
            REQUEST.with_attributes(RawAttribute(AttributeType.CHANGE_REQUEST)),
            SOURCE,
            known_attributes=STANDARD_ATTRIBUTES | {AttributeType.CHANGE_REQUEST},
            extra_attributes=[other],
        )
        self.assertEqual(response.get(AttributeType.OTHER_ADDRESS), other.value)

    def test_unknown_attributes(self) -> None:
        """Attributes that must be understood and are not make it a 420."""
        request = REQUEST.with_attributes(
            RawAttribute(AttributeType.CHANGE_REQUEST, bytes(4)),
            text_attribute(AttributeType.USERNAME, "known"),
            RawAttribute(0x7001),
            RawAttribute(0x8999),
        )
        for compact, reason in ((True, ""), (False, "Unknown Attribute")):
            response = binding_response(request, SOURCE, compact=compact)
            self.assertIs(response.message_class, MessageClass.ERROR)
            self.assertEqual(
                decode_error_code(response.require(AttributeType.ERROR_CODE)),
                (420, reason),
            )
            self.assertEqual(
                decode_unknown_attributes(
                    response.require(AttributeType.UNKNOWN_ATTRIBUTES)
                ),
                [AttributeType.CHANGE_REQUEST, 0x7001],
            )

    @given(messages, addresses)
    def test_any_message(self, message: STUNMessage, source: Address) -> None:
        """Each Binding request gets an answer, everything else is the caller's."""
        if not is_binding_request(message):
            self.assertRaises(LocalProtocolError, binding_response, message, source)
            return
        response = binding_response(message, source)
        self.assertEqual(STUNMessage.decode(response.encode()), response)

    def test_small_amplification(self) -> None:
        """An answer is never longer than the request and 24 bytes."""
        for count in range(20):
            request = REQUEST.with_attributes(
                *(RawAttribute(0x7000 + i) for i in range(count))
            )
            response = binding_response(request, ("2001:db8::1", 1))
            excess = len(response.encode()) - len(request.encode())
            self.assertLessEqual(excess, 24)

    def test_old_server(self) -> None:
        """MAPPED-ADDRESS does where there is nothing else."""
        old = REQUEST.success([address_attribute(AttributeType.MAPPED_ADDRESS, SOURCE)])
        self.assertEqual(reflexive_address(old), SOURCE)
        self.assertRaises(RemoteProtocolError, reflexive_address, REQUEST.success())
