"""A simulated router that speaks PCP or NAT-PMP."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping import nat_pmp, pcp
from dwcloud.protocol.port_mapping.mappings import Transport
from dwcloud.protocol.port_mapping.port_control import (
    ANNOUNCEMENT_GROUP,
    ANNOUNCEMENT_PORT,
    PORT,
)
from dwcloud.testing import Host

__all__ = ["MappingRouter"]


class MappingRouter(DatagramProtocol):
    """The daemon of the router.

    :param version: 2 speaks PCP, 0 NAT-PMP only.
    :ivar mappings: transport and internal port, to external port and lease.
    :ivar external: the address outside.
    :ivar lease: the longest, seconds.
    :ivar refuses: the result code that everything gets, 0 for none.
    :ivar asked: how many requests came.
    """

    def __init__(self, host: Host, version: int = 2) -> None:
        self.mappings: dict[tuple[Transport, int], tuple[int, int]] = {}
        self.external = "198.51.100.1"
        self.lease = 7200
        self.refuses = 0
        self.asked = 0
        self._version = version
        self._reactor = host.reactor
        self._since = -1000.0
        self._port: Any = host.reactor.listenUDP(PORT, self)

    @property
    def epoch(self) -> int:
        """Seconds since it lost its mappings."""
        return int(self._reactor.seconds() - self._since)

    def restart(self, external: str) -> None:
        """Lose everything and get another address."""
        self.mappings.clear()
        self._since = self._reactor.seconds()
        self.external = external

    def announce(self) -> None:
        """Tell all hosts."""
        message: Any = pcp.Announcement(self.epoch)
        if self._version == nat_pmp.VERSION:
            message = nat_pmp.AddressAnswer(self.epoch, self.external)
        transport: Any = self.transport
        transport.write(message.encode(), (ANNOUNCEMENT_GROUP, ANNOUNCEMENT_PORT))

    def close(self) -> None:
        """Answer no longer."""
        self._port.stopListening()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Answer a request."""
        self.asked += 1
        answer = self._pcp if self._version == pcp.VERSION else self._nat_pmp
        transport: Any = self.transport
        transport.write(answer(datagram, addr[0]).encode(), addr)

    def _map(self, transport: Transport, internal: int, wanted: int, life: int) -> int:
        key = (transport, internal)
        if life == 0:
            self.mappings.pop(key, None)
            return 0
        self.mappings[key] = (wanted or internal, life)
        return wanted or internal

    def _pcp(self, datagram: bytes, client: str) -> pcp.Answer | nat_pmp.Answer:
        if datagram[0] == nat_pmp.VERSION:
            # RFC 6886, section 3.5: 1 is "unsupported version".
            return nat_pmp.Refusal(datagram[1], 1, self.epoch)
        request = pcp.decode_request(datagram)
        assert request.client == client, "address mismatch"
        if self.refuses:
            return pcp.Refusal(2, 1, self.refuses, self.epoch, 60, request.nonce)
        life = min(request.lifetime, self.lease)
        external = self._map(
            request.transport, request.internal_port, request.external_port, life
        )
        return pcp.MapAnswer(
            *(self.epoch, request.nonce, request.transport, request.internal_port),
            *(external, self.external, life),
        )

    def _nat_pmp(self, datagram: bytes, client: str) -> nat_pmp.Answer:
        try:
            request = nat_pmp.decode_request(datagram)
        except RemoteProtocolError as error:
            return nat_pmp.Refusal(datagram[1], error.code or 0, self.epoch)
        if isinstance(request, nat_pmp.AddressRequest):
            return nat_pmp.AddressAnswer(self.epoch, self.external)
        life = min(request.lifetime, self.lease)
        external = self._map(
            request.transport, request.internal_port, request.external_port, life
        )
        return nat_pmp.MappingAnswer(
            self.epoch, request.transport, request.internal_port, external, life
        )
