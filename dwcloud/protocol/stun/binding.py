"""The Binding method (RFC 8489, 2 and 12): tell a client its reflexive address.

Over UDP the answer is as short as the RFC allows: the source address of a request may
be forged, and the answer should not be worth the forging. A plain request of 20 bytes
gets 32 (IPv4) or 44 bytes (IPv6).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dwcloud.protocol.addresses import Address, unmapped
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    BINDING,
    STANDARD_ATTRIBUTES,
    AttributeType,
    decode_address,
    decode_xor_address,
    error_attribute,
    text_attribute,
    unknown_attributes_attribute,
    xor_address_attribute,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

__all__ = [
    "binding_request",
    "binding_response",
    "is_binding_request",
    "other_address",
    "reflexive_address",
    "unknown_attributes_response",
]


def binding_request(transaction_id: bytes) -> STUNMessage:
    """Return a Binding request.

    :param transaction_id: 12 random bytes.
    """
    return STUNMessage(BINDING, MessageClass.REQUEST, transaction_id)


def is_binding_request(message: STUNMessage) -> bool:
    """Tell whether a message is one that :func:`binding_response` answers."""
    return message.method == BINDING and message.message_class is MessageClass.REQUEST


def binding_response(
    request: STUNMessage,
    source_address: tuple[str, int],
    *,
    compact: bool = True,
    software: str = "",
    known_attributes: Collection[int] = STANDARD_ATTRIBUTES,
    extra_attributes: Iterable[RawAttribute] = (),
) -> STUNMessage:
    """Return the answer to a Binding request: success, or error 420.

    Encode it with ``fingerprint=request.has_fingerprint``: a client that marks its
    messages shares its port with another protocol and wants the answer marked.

    :param source_address: where the request came from, as this host saw it.
    :param compact: leave out what only informs people (reason phrase), for UDP.
    :param software: goes into SOFTWARE unless empty; for streams.
    :param known_attributes: comprehension-required attributes that the server
        understands; any other in the request makes it a 420.
    :param extra_attributes: further attributes of a success answer, such as
        RESPONSE-ORIGIN and OTHER-ADDRESS of RFC 5780.
    :raises LocalProtocolError: if ``request`` is no Binding request.
    """
    if not is_binding_request(request):
        raise LocalProtocolError("only a Binding request has a Binding answer")
    unknown = request.unknown_attributes(known_attributes)
    if unknown:
        response = unknown_attributes_response(request, unknown, compact=compact)
    else:
        mapped = xor_address_attribute(
            AttributeType.XOR_MAPPED_ADDRESS,
            unmapped(source_address),
            request.transaction_id,
        )
        response = request.success((mapped, *extra_attributes))
    if software:
        response = response.with_attributes(
            text_attribute(AttributeType.SOFTWARE, software)
        )
    return response


def unknown_attributes_response(
    request: STUNMessage, unknown: Iterable[int], *, compact: bool = True
) -> STUNMessage:
    """Return the error 420 that lists attributes which are not understood (6.3.1).

    :param compact: leave out the reason phrase.
    """
    return request.error(
        (
            error_attribute(420, "" if compact else None),
            unknown_attributes_attribute(unknown),
        )
    )


def reflexive_address(response: STUNMessage) -> Address:
    """Return the address that a Binding success answer reports.

    MAPPED-ADDRESS counts where a server older than RFC 5389 sent nothing better.

    :raises RemoteProtocolError: code 400, if there is none or it is malformed.
    """
    value = response.get(AttributeType.XOR_MAPPED_ADDRESS)
    if value is not None:
        return decode_xor_address(value, response.transaction_id)
    value = response.get(AttributeType.MAPPED_ADDRESS)
    if value is None:
        raise RemoteProtocolError("the answer has no address", 400)
    return decode_address(value)


def other_address(response: STUNMessage) -> Address | None:
    """Return the second address and port of a server that has them (RFC 5780, 7.4).

    :raises RemoteProtocolError: code 400, if it is malformed.
    """
    value = response.get(AttributeType.OTHER_ADDRESS)
    return None if value is None else decode_address(value)
