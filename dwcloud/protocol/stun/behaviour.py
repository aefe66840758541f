"""The server's side of NAT behaviour discovery (RFC 5780).

A server with two IP addresses and two ports answers, if it is asked to, from another of
its four sockets than the one that was asked. What arrives of that tells the client how
its NAT filters.
"""

from __future__ import annotations

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.attributes import (
    STANDARD_ATTRIBUTES,
    AttributeType,
    address_attribute,
)
from dwcloud.protocol.stun.binding import binding_response
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

__all__ = ["CHANGE_ADDRESS", "CHANGE_PORT", "BehaviourServer", "change_request"]

CHANGE_ADDRESS = 0x04
"""Flag of CHANGE-REQUEST: answer from the other IP address."""
CHANGE_PORT = 0x02
"""Flag of CHANGE-REQUEST: answer from the other port."""

_KNOWN = STANDARD_ATTRIBUTES | {AttributeType.CHANGE_REQUEST}


def change_request(flags: int) -> RawAttribute:
    """Make CHANGE-REQUEST (RFC 5780, 7.2)."""
    return RawAttribute(AttributeType.CHANGE_REQUEST, flags.to_bytes(4, "big"))


@attrs.frozen
class BehaviourServer:
    """Answers Binding requests that come to one of four sockets.

    :ivar primary: the address that clients know.
    :ivar other: one with another IP address and another port.
    """

    primary: Address
    other: Address

    def __attrs_post_init__(self) -> None:
        one, other = self.primary, self.other
        if one.host == other.host or one.port == other.port:
            raise LocalProtocolError(f"{one} and {other} differ not in both parts")
        if one.family != other.family:
            raise LocalProtocolError(f"{one} and {other} are of different families")

    @property
    def sockets(self) -> tuple[Address, Address, Address, Address]:
        """The addresses of all four sockets, the primary one first."""
        one, other = self.primary, self.other
        return (
            one,
            Address(one.host, other.port),
            Address(other.host, one.port),
            other,
        )

    def answer(
        self, request: STUNMessage, source: tuple[str, int], asked: Address
    ) -> tuple[STUNMessage, Address]:
        """Return the answer to a Binding request, and the socket that must send it.

        :param source: where the request came from.
        :param asked: the socket that it came to.
        """
        wanted = request.get(AttributeType.CHANGE_REQUEST)
        flags = int.from_bytes(wanted, "big") if wanted is not None else 0
        elsewhere = self._opposite(asked)
        origin = Address(
            elsewhere.host if flags & CHANGE_ADDRESS else asked.host,
            elsewhere.port if flags & CHANGE_PORT else asked.port,
        )
        response = binding_response(
            request,
            source,
            known_attributes=_KNOWN,
            extra_attributes=(
                address_attribute(AttributeType.RESPONSE_ORIGIN, origin),
                address_attribute(AttributeType.OTHER_ADDRESS, elsewhere),
            ),
        )
        if response.message_class is MessageClass.ERROR:
            origin = asked
        return response, origin

    def _opposite(self, asked: Address) -> Address:
        """Return the socket that differs from ``asked`` in address and port."""
        one, other = self.primary, self.other
        return Address(
            other.host if asked.host == one.host else one.host,
            other.port if asked.port == one.port else one.port,
        )
