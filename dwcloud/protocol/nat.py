"""What a NAT does, in the words of RFC 4787."""

from __future__ import annotations

from enum import Enum
from struct import Struct

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError

__all__ = ["Filtering", "Mapping", "NATBehaviour", "NATSummary"]

_SUMMARY = Struct("!BBh")


class Mapping(Enum):
    """When two flows of one internal address and port share an external port."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address and port-dependent"


class Filtering(Enum):
    """From whom a mapped port takes packets: anybody, or whom it has talked to."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address and port-dependent"


@attrs.frozen(kw_only=True)
class NATBehaviour:
    """What was found out of the NAT, or firewall, before a host. None is unknown.

    :ivar local_address: of the socket that asked.
    :ivar mapped_address: as which the Internet saw it.
    :ivar mapping: see :class:`Mapping`.
    :ivar filtering: see :class:`Filtering`.
    :ivar port_preservation: whether the external port was the internal one.
    :ivar hairpinning: whether the host reaches its own external address.
    :ivar port_step: the distance from one new external port to the next, where ports
        are given out in sequence; 0 where they are not.
    :ivar udp: whether UDP got through at all.
    """

    local_address: Address | None = None
    mapped_address: Address | None = None
    mapping: Mapping | None = None
    filtering: Filtering | None = None
    port_preservation: bool | None = None
    hairpinning: bool | None = None
    port_step: int | None = None
    udp: bool = True

    @property
    def translated(self) -> bool | None:
        """Whether there is a NAT: the Internet sees another address than the host."""
        if self.local_address is None or self.mapped_address is None:
            return None
        return self.local_address != self.mapped_address

    def summary(self) -> NATSummary | None:
        """Return what the far end of a connection has to know; None is nothing."""
        if self.mapping is None:
            return None
        return NATSummary(self.mapping, self.filtering, self.port_step or 0)


@attrs.frozen
class NATSummary:
    """What one end of a connection tells the other about its NAT.

    :ivar mapping: see :class:`Mapping`.
    :ivar filtering: see :class:`Filtering`; None is unknown.
    :ivar port_step: see :class:`NATBehaviour`.
    """

    mapping: Mapping
    filtering: Filtering | None = None
    port_step: int = 0

    @property
    def is_symmetric(self) -> bool:
        """Whether each far end sees another external port."""
        return self.mapping is not Mapping.ENDPOINT_INDEPENDENT

    @property
    def kind(self) -> str:
        """The usual name of the kind: ``port-restricted``, ``symmetric-seq``..."""
        if self.mapping is Mapping.ENDPOINT_INDEPENDENT:
            return "cone" if self.filtering is None else _CONES[self.filtering]
        if self.filtering is Filtering.ENDPOINT_INDEPENDENT:
            return "symmetric-open"
        if self.port_step:
            return "symmetric-seq"
        by_address = self.mapping is Mapping.ADDRESS_DEPENDENT
        return "symmetric-addr" if by_address else "symmetric"

    def encode(self) -> bytes:
        """Return it for the wire: mapping, filtering and step in 1, 1 and 2 bytes."""
        filtering = 0 if self.filtering is None else _FILTERINGS.index(self.filtering)
        mapping = _MAPPINGS.index(self.mapping)
        return _SUMMARY.pack(
            mapping + 1, filtering + (self.filtering is not None), self.port_step
        )

    @classmethod
    def decode(cls, data: bytes) -> NATSummary:
        """Read it.

        :raises RemoteProtocolError: code 400, if it is malformed.
        """
        if len(data) != _SUMMARY.size:
            raise RemoteProtocolError("a malformed NAT-BEHAVIOUR", 400)
        mapping, filtering, step = _SUMMARY.unpack(data)
        if not 1 <= mapping <= 3 or filtering > 3:
            raise RemoteProtocolError("an unknown NAT-BEHAVIOUR", 400)
        return cls(
            _MAPPINGS[mapping - 1],
            _FILTERINGS[filtering - 1] if filtering else None,
            step,
        )


_MAPPINGS = tuple(Mapping)
_FILTERINGS = tuple(Filtering)
_CONES = {
    Filtering.ENDPOINT_INDEPENDENT: "full-cone",
    Filtering.ADDRESS_DEPENDENT: "addr-restricted",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "port-restricted",
}
