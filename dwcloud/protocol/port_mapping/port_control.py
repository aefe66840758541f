"""A client of PCP, and of NAT-PMP where the router speaks only that.

Both ask the same port of the router. A router that knows only the older protocol says
so in its answer to the newer one (RFC 6887, appendix A), so one question finds out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.port_mapping import nat_pmp, pcp
from dwcloud.protocol.port_mapping.epoch import EpochMonitor
from dwcloud.protocol.port_mapping.mappings import Grant, MappedPort

__all__ = [
    "ANNOUNCEMENT_GROUP",
    "ANNOUNCEMENT_PORT",
    "PORT",
    "Event",
    "Granted",
    "PortControlClient",
    "Refused",
    "Removed",
    "StateLost",
    "Unanswered",
]

PORT = 5351
"""Where routers take requests, and what their announcements come from."""
ANNOUNCEMENT_GROUP, ANNOUNCEMENT_PORT = "224.0.0.1", 5350

_FIRST_WAIT = 0.25
"""Seconds until the first repetition, doubling (RFC 6886, section 3.1)."""
_TRIES = 5
_UNSPECIFIED = ("0.0.0.0", "::")


@attrs.frozen
class Granted:
    """A mapping was made or renewed."""

    port: MappedPort
    grant: Grant


@attrs.frozen
class Removed:
    """A mapping was removed."""

    port: MappedPort


@attrs.frozen
class Refused:
    """The router does not make this mapping.

    :ivar reason: in words.
    """

    port: MappedPort
    reason: str


@attrs.frozen
class Unanswered:
    """The router said nothing: most likely it speaks neither protocol."""

    port: MappedPort


@attrs.frozen
class StateLost:
    """The router restarted or got another address: all mappings must be renewed."""


Event = Granted | Removed | Refused | Unanswered | StateLost


@attrs.define
class _Pending:
    """A request that is not answered yet."""

    external_port: int
    external_host: str
    lifetime: int
    tries: int
    next_at: float
    # Of NAT-PMP: the mapping, which lacks the address.
    answer: nat_pmp.MappingAnswer | None = None


class PortControlClient:
    """Asks one router. Drive it with its five verbs.

    :param gateway: the router's address; nobody else is believed.
    :param client: this machine's address towards it.
    :param random_bytes: a source of randomness.
    :param versions: versions of the protocol that may be used: 2 is PCP, 0 NAT-PMP.
    """

    def __init__(
        self,
        gateway: str,
        client: str,
        random_bytes: Callable[[int], bytes],
        *,
        versions: frozenset[int] = frozenset({pcp.VERSION, nat_pmp.VERSION}),
    ) -> None:
        if not versions <= {pcp.VERSION, nat_pmp.VERSION} or not versions:
            raise LocalProtocolError(f"versions {sorted(versions)}: not 2 or 0")
        self._router = Address(gateway, PORT)
        self._client = client
        self._random_bytes = random_bytes
        self._versions = versions
        self._version = max(versions)
        self._nonces: dict[MappedPort, bytes] = {}
        self._pending: dict[MappedPort, _Pending] = {}
        self._address: str | None = None
        self._address_asked = False
        self._epoch = EpochMonitor()
        self._events: deque[Event] = deque()

    @property
    def protocol(self) -> str:
        """The name of the protocol that is spoken."""
        return "PCP" if self._version == pcp.VERSION else "NAT-PMP"

    # The verbs

    def request(
        self,
        port: MappedPort,
        lifetime: int,
        *,
        external: Address | None = None,
        now: float,
    ) -> None:
        """Ask for a mapping, for a longer life of it, or for its end.

        :param lifetime: seconds; 0 removes the mapping.
        :param external: the external address to be kept, if the router can.
        """
        self._nonces.setdefault(port, self._random_bytes(pcp.NONCE_LENGTH))
        host, number = external or Address("0.0.0.0", port.port)
        if lifetime == 0:
            # RFC 6886, section 3.4, and RFC 6887, section 15.1.
            host, number = "0.0.0.0", 0
        self._pending[port] = _Pending(number, host, lifetime, 0, now)
        self._address_asked = False

    def receive_datagram(self, data: bytes, address: Address, *, now: float) -> None:
        """Take an answer or an announcement, if the router sent it."""
        if address != self._router:
            return
        try:
            if data[:1] == bytes([nat_pmp.VERSION]):
                self._nat_pmp_received(nat_pmp.decode_answer(data), now)
            else:
                self._pcp_received(pcp.decode_answer(data), now)
        except RemoteProtocolError:
            return

    def handle_timer(self, *, now: float) -> None:
        """Give up what was asked often enough."""
        for port, pending in list(self._pending.items()):
            if pending.tries >= _TRIES and pending.next_at <= now:
                del self._pending[port]
                self._events.append(Unanswered(port))

    def datagrams_to_send(self, *, now: float) -> list[tuple[bytes, Address]]:
        """Return the requests that are due, with where to send them."""
        due = [
            (port, pending)
            for port, pending in self._pending.items()
            if pending.next_at <= now and pending.tries < _TRIES
        ]
        datagrams = []
        for port, pending in due:
            pending.next_at = now + _FIRST_WAIT * 2.0**pending.tries
            pending.tries += 1
            if pending.answer is None:
                datagrams.append(self._encode(port, pending))
        if due and self._version == nat_pmp.VERSION and not self._address_asked:
            datagrams.append(nat_pmp.AddressRequest().encode())
        return [(datagram, self._router) for datagram in datagrams]

    def next_event(self) -> Event | None:
        """Return what happened, oldest first, then None."""
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer` and send; None without a request."""
        return min((p.next_at for p in self._pending.values()), default=None)

    # Messages

    def _encode(self, port: MappedPort, pending: _Pending) -> bytes:
        if self._version == nat_pmp.VERSION:
            return nat_pmp.MappingRequest(
                port.transport, port.port, pending.external_port, pending.lifetime
            ).encode()
        return pcp.MapRequest(
            self._client,
            self._nonces[port],
            port.transport,
            port.port,
            pending.external_port,
            pending.lifetime,
            pending.external_host,
        ).encode()

    def _note_epoch(self, epoch: int, now: float) -> None:
        if self._epoch.state_was_lost(epoch, now=now):
            self._events.append(StateLost())

    def _pcp_received(self, answer: pcp.Answer, now: float) -> None:
        if self._version != pcp.VERSION:
            return
        if isinstance(answer, pcp.Refusal):
            self._pcp_refused(answer, now)
            return
        if isinstance(answer, pcp.Announcement):
            self._note_epoch(answer.epoch, now)
            return
        port = MappedPort(answer.transport, answer.internal_port)
        if self._nonces.get(port) != answer.nonce:
            return
        self._note_epoch(answer.epoch, now)
        pending = self._pending.get(port)
        if pending is None or bool(pending.lifetime) != bool(answer.lifetime):
            return
        del self._pending[port]
        external = Address(answer.external_host, answer.external_port)
        self._succeeded(port, external, answer.lifetime)

    def _pcp_refused(self, answer: pcp.Refusal, now: float) -> None:
        if answer.result == pcp.UNSUPPORTED_VERSION:
            self._speak_nat_pmp("the router speaks another version of PCP", now)
            return
        for port in list(self._pending):
            if self._nonces[port] == answer.nonce:
                del self._pending[port]
                reason = pcp.describe_result(answer.result)
                self._events.append(Refused(port, reason))

    def _speak_nat_pmp(self, otherwise: str, now: float) -> None:
        """Begin again in the older protocol, if that is allowed."""
        if self._version == nat_pmp.VERSION:
            return
        if nat_pmp.VERSION not in self._versions:
            for port in self._pending:
                self._events.append(Refused(port, otherwise))
            self._pending.clear()
            return
        self._version = nat_pmp.VERSION
        for pending in self._pending.values():
            pending.tries, pending.next_at = 0, now

    def _nat_pmp_received(self, answer: nat_pmp.Answer, now: float) -> None:
        if isinstance(answer, nat_pmp.Refusal):
            if answer.result == nat_pmp.UNSUPPORTED_VERSION:
                self._speak_nat_pmp("the router speaks NAT-PMP only", now)
            elif self._version == nat_pmp.VERSION:
                self._nat_pmp_refused(answer)
            return
        if self._version != nat_pmp.VERSION:
            return
        self._note_epoch(answer.epoch, now)
        if isinstance(answer, nat_pmp.AddressAnswer):
            self._address_received(answer.address)
            return
        port = MappedPort(answer.transport, answer.internal_port)
        pending = self._pending.get(port)
        if pending is None or bool(pending.lifetime) != bool(answer.lifetime):
            return
        pending.answer = answer
        self._complete()

    def _nat_pmp_refused(self, answer: nat_pmp.Refusal) -> None:
        reason = nat_pmp.describe_result(answer.result)
        for port in list(self._pending):
            # Without the address no mapping is of use.
            if answer.opcode == 0 or port == MappedPort(
                answer.transport or port.transport, answer.internal_port or port.port
            ):
                del self._pending[port]
                self._events.append(Refused(port, reason))

    def _address_received(self, address: str) -> None:
        if address in _UNSPECIFIED:
            reason = nat_pmp.describe_result(3)
            self._events.extend(Refused(port, reason) for port in self._pending)
            self._pending.clear()
            return
        if self._address not in (None, address):
            self._events.append(StateLost())
        self._address = address
        self._address_asked = True
        self._complete()

    def _complete(self) -> None:
        """Join mappings with the address, once both are known."""
        for port, pending in list(self._pending.items()):
            answer = pending.answer
            if answer is None:
                continue
            if answer.lifetime and not self._address_asked:
                continue
            del self._pending[port]
            external = Address(self._address or "0.0.0.0", answer.external_port)
            self._succeeded(port, external, answer.lifetime)

    def _succeeded(self, port: MappedPort, external: Address, lifetime: int) -> None:
        if lifetime == 0:
            self._nonces.pop(port, None)
            self._events.append(Removed(port))
        elif external.host in _UNSPECIFIED or not external.port:
            self._events.append(Refused(port, "the router named no external address"))
        else:
            self._events.append(Granted(port, Grant(external, float(lifetime))))
