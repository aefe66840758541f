"""Finding out how the NAT before this host behaves, from a mediator's answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import CloudError
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.nat import NATBehaviour
from dwcloud.protocol.stun.attributes import AttributeType, decode_address
from dwcloud.protocol.stun.behaviour import change_request
from dwcloud.protocol.stun.binding import (
    binding_request,
    binding_response,
    is_binding_request,
    other_address,
    reflexive_address,
)
from dwcloud.protocol.stun.discovery import (
    Answer,
    Ask,
    MappingDiscovered,
    NATDiscovery,
    Test,
)
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["discover_nat"]

_MAPPING_TIMING = Timing(tries=4, initial_interval=0.3, last_wait=0.6)
"""Questions at 0, 0.3, 0.9 and 2.1 s, for 2.7 s in all."""
_FILTERING_TIMING = Timing(tries=3, initial_interval=0.25, last_wait=0.75)
"""Questions at 0, 0.25 and 0.75 s, for 1.5 s: there may never be an answer."""


def discover_nat(
    reactor: Any,
    server: Address,
    *,
    interface: str = "",
    own_hosts: Sequence[str] = (),
    on_mapping: Callable[[NATBehaviour], None] = lambda behaviour: None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Deferred[NATBehaviour]:
    """Find out how the NAT or firewall before this host behaves (RFC 5780).

    Takes some round trips for the mapping and up to 1.5 s more for the filtering. A
    server with one address only shows as what it sees this host.

    :param server: IP address and UDP port of a mediator, or another STUN server.
    :param interface: the local IP address to ask from, empty for any.
    :param own_hosts: this host's IP addresses, the best guess first; they tell
        whether there is a NAT at all.
    :param on_mapping: told what is known as soon as the mapping is.
    :return: fires with what was found; where no answer comes, with ``udp`` False.
        Fails with :exc:`twisted.internet.error.CannotListenError` if the interface is
        not this host's. Cancellable.
    """
    wildcard = "::" if server.family == 6 else ""
    ports = [SharedUDPPort(reactor, interface=interface or wildcard) for _ in range(2)]
    try:
        for port in ports:
            port.start()
    except CannotListenError:
        for port in ports:
            port.stop()
        return fail(Failure())
    hosts = (interface,) if interface else tuple(own_hosts)
    return _Discovery(reactor, server, hosts, ports, on_mapping, random_bytes).start()


class _Discovery:
    """What the core wants to ask, asked."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        server: Address,
        own_hosts: tuple[str, ...],
        ports: list[SharedUDPPort],
        on_mapping: Callable[[NATBehaviour], None],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._ports = ports
        self._on_mapping = on_mapping
        self._random_bytes = random_bytes
        self._clients = [
            STUNDatagramClient(reactor, port.sendDatagram) for port in ports
        ]
        main, fresh = ports
        main.onSTUN = self._main_received
        fresh.onSTUN = lambda data, address: self._take(1, data, address)
        self._hairpin = b""
        self._over = False
        hosts = tuple(
            host for host in own_hosts if Address(host, 0).family == server.family
        )
        self._core = NATDiscovery(server, main.getHost().port, hosts)
        self._result: Deferred[NATBehaviour] = Deferred(lambda _: self._end())

    def start(self) -> Deferred[NATBehaviour]:
        self._core.start()
        self._go_on()
        return self._result

    def _end(self) -> None:
        self._over = True
        for client, port in zip(self._clients, self._ports, strict=True):
            client.stop()
            port.stop()

    def _go_on(self) -> None:
        while not self._over and (event := self._core.next_event()) is not None:
            if isinstance(event, Ask):
                self._ask(event)
                continue
            if isinstance(event, MappingDiscovered):
                self._on_mapping(event.behaviour)
                continue
            self._end()
            self._log.debug("NAT: {behaviour}", behaviour=event.behaviour)
            self._result.callback(event.behaviour)

    def _ask(self, ask: Ask) -> None:
        message = binding_request(self._random_bytes(12))
        if ask.flags:
            message = message.with_attributes(change_request(ask.flags))
        if ask.test is Test.HAIRPIN:
            self._hairpin = message.transaction_id
        asking = self._clients[ask.fresh].request(
            message,
            ask.destination,
            timing=_FILTERING_TIMING if ask.may_be_lost else _MAPPING_TIMING,
            any_source=ask.may_be_lost,
        )
        asking.addCallback(_answer_of)
        asking.addCallbacks(
            partial(self._answered, ask.test), partial(self._unanswered, ask.test)
        )

    def _answered(self, test: Test, answer: Answer) -> None:
        self._core.receive_answer(test, answer)
        self._go_on()

    def _unanswered(self, test: Test, reason: Failure) -> None:
        if self._over:
            return
        if not reason.check(CloudError, RemoteProtocolError):
            self._log.failure("while asking for {test}", failure=reason, test=test)
        self._core.fail(test)
        self._go_on()

    def _take(self, number: int, data: bytes, address: Address) -> None:
        self._clients[number].datagramReceived(data, address)

    def _main_received(self, data: bytes, address: Address) -> None:
        """Take an answer, or the question that came round to ourselves."""
        if self._clients[0].datagramReceived(data, address):
            return
        try:
            message = STUNMessage.decode(data)
        except RemoteProtocolError:
            return
        if is_binding_request(message) and message.transaction_id == self._hairpin:
            response = binding_response(message, address)
            self._ports[0].sendDatagram(response.encode(), address)


def _answer_of(message: STUNMessage) -> Answer:
    return Answer(
        reflexive_address(message),
        other_address(message),
        _address_in(message, AttributeType.RESPONSE_ORIGIN),
    )


def _address_in(message: STUNMessage, kind: int) -> Address | None:
    value = message.get(kind)
    return None if value is None else decode_address(value)
