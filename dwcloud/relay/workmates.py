"""The other processes of a relay, as one of them sees them.

A connection whose request belongs to another process (its *home*) is given to that one
before it is answered. A plain socket is given whole; this process is rid of it. TLS
cannot be given away: it stays here, and its bytes go to the home through a connection
within this machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from dwcloud.net.channel_binding import (
    carried_channel_binding,
    carry_channel_binding,
    channel_binding,
)
from dwcloud.net.connection_handover import Departure, Inbox, Outbox, loopback_pair
from dwcloud.net.dual_stack import plain_peer
from dwcloud.net.http_server import HTTPServerFactory, HTTPServerProtocol
from dwcloud.net.socket_direction import has_socket
from dwcloud.protocol.relaying.worker_homes import home_of, session_bytes
from dwcloud.protocol.relaying.worker_messages import (
    Answer,
    Connection,
    Message,
    Question,
    decode,
    encode,
)
from dwcloud.protocol.tunnelling.methods import FINITE_MESSAGES
from dwcloud.relay.statistics import Figures
from dwcloud.relay.tunnels import Tunnel

__all__ = ["Workmates"]

_ANSWER_WITHIN = 2.0  # seconds; one that is being started again answers later


class Workmates:
    """Gives connections to the other processes and takes theirs.

    :param number: of this process.
    :param inbox: from where it receives.
    :param outboxes: to where each process is sent something, by its number.
    :param restarts: how often this process had to be started again.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        number: int,
        inbox: socket.socket,
        outboxes: Sequence[socket.socket],
        *,
        restarts: int = 0,
    ) -> None:
        self._reactor = reactor
        self._number = number
        self._restarts = restarts
        self._inbox = Inbox(reactor, inbox, self._received)
        self._outboxes = [Outbox(reactor, end) for end in outboxes]
        self._questions = count()
        self._asking: dict[int, _Asking] = {}
        self._legs: set[Tunnel] = set()
        self._legs_ended: Deferred[None] | None = None
        self._stopping = False

    def serve(self, http: HTTPServerFactory, figures: Callable[[], Figures]) -> None:
        """Take connections for ``http``, and tell ``figures`` to who asks."""
        self._http = http
        self._figures = figures
        self._inbox.start()

    def session_bytes(
        self, random_bytes: Callable[[int], bytes]
    ) -> Callable[[int], bytes]:
        """Return a source of session ids whose home is this process."""
        return session_bytes(self._number, len(self._outboxes), random_bytes)

    def stop_giving(self) -> None:
        """Let requests be answered here: everybody is about to stop.

        Those of a tunnel of short messages still belong to it.
        """
        self._stopping = True

    def legs_ended(self) -> Deferred[None]:
        """Fire when no connection of another process goes through this one."""
        self._legs_ended = Deferred()
        self._check_legs()
        return self._legs_ended

    def stop(self) -> None:
        """Break what goes through this process and receive nothing more."""
        self._inbox.stop()
        for leg in list(self._legs):
            leg.abort()

    # Giving

    def elsewhere(
        self, target: str
    ) -> Callable[[HTTPServerProtocol, bytes], None] | None:
        """Return who takes the connection of a request, None if it stays here."""
        home = home_of(target, len(self._outboxes))
        if home is None or home == self._number:
            return None
        if self._stopping and f"/{FINITE_MESSAGES}?" not in target:
            return None
        return partial(self._give, home)

    def _give(self, home: int, protocol: HTTPServerProtocol, data: bytes) -> None:
        if has_socket(protocol):
            transport = cast(Any, protocol.transport)
            Departure(transport, partial(self._give_socket, home, transport, data))
            return
        try:
            near, far = loopback_pair()
        except OSError as e:
            self._log_failure(e)
            protocol.abort()
            return
        with near, far:
            self._give_stream(home, protocol, data, near, far)

    def _give_socket(
        self, home: int, transport: ITransport, data: bytes, descriptor: int
    ) -> None:
        binding = carried_channel_binding(transport)
        message = Connection(data)
        if binding is not None:
            message = Connection(data, _host_and_port(transport), binding)
        self._outboxes[home].send(encode(message), descriptor)

    def _give_stream(
        self,
        home: int,
        protocol: HTTPServerProtocol,
        data: bytes,
        near: socket.socket,
        far: socket.socket,
    ) -> None:
        transport = cast(ITransport, protocol.transport)
        binding = channel_binding(transport)
        message = encode(Connection(data, _host_and_port(transport), binding))
        leg = Tunnel(self._reactor, "", self._leg_ended)
        self._legs.add(leg)
        self._reactor.adoptStreamConnection(
            near.fileno(), near.family, Factory.forProtocol(lambda: leg.server_end)
        )
        protocol.switch_to(cast(IProtocol, leg.client_end))
        try:
            self._outboxes[home].send(message, os.dup(far.fileno()))
        except OSError as e:
            self._log_failure(e)
            leg.abort()

    def _log_failure(self, reason: OSError) -> None:
        self.log.warn("a connection cannot be handed over: {reason}", reason=reason)

    def _leg_ended(self, leg: Tunnel) -> None:
        self._legs.discard(leg)
        self._check_legs()

    def _check_legs(self) -> None:
        ended = self._legs_ended
        if ended is not None and not self._legs and not ended.called:
            ended.callback(None)

    # Taking

    def _received(self, data: bytes, descriptor: int | None) -> None:
        try:
            self._act_on(decode(data), descriptor)
        except ValueError as e:
            # A worker that was started again may be of a newer release.
            self.log.error("not understood: {reason}; restart the relay", reason=e)
        except OSError as e:
            # Most of the time the far end of a connection has just gone.
            self.log.info("a connection was not taken: {reason}", reason=e)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _act_on(self, message: Message, descriptor: int | None) -> None:
        match message:
            case Connection() if descriptor is None:
                self.log.warn("a connection was lost: too many open files")
            case Connection() as connection:
                assert descriptor is not None
                self._take(connection, descriptor)
            case Question(number=number, asker=asker):
                self._send(asker, Answer(number, self._own_figures()))
            case Answer(number=number, figures=figures):
                if number in self._asking:
                    self._asking[number].answered(figures)

    def _take(self, connection: Connection, descriptor: int) -> None:
        with socket.socket(fileno=os.dup(descriptor)) as handed:
            family = handed.family
            handed.setblocking(False)
        transport = self._reactor.adoptStreamConnection(descriptor, family, self._http)
        if connection.channel_binding is not None:
            carry_channel_binding(transport, connection.channel_binding)
        if connection.peer is not None:
            host, port = connection.peer
            kind = IPv6Address if ":" in host else IPv4Address
            transport.getPeer = lambda: kind("TCP", host, port)
        transport.protocol.dataReceived(connection.data)

    # Figures

    def gather(self, own: Figures) -> Deferred[list[Figures]]:
        """Return figures and those of the others, who have 2 s to tell them."""
        number = next(self._questions)
        others = [n for n in range(len(self._outboxes)) if n != self._number]
        asking = _Asking(len(others), {**own, **self._told_of_workers()})
        self._asking[number] = asking
        timer = self._reactor.callLater(_ANSWER_WITHIN, asking.end)
        for other in others:
            self._send(other, Question(number, self._number))

        def end(parts: list[Figures]) -> list[Figures]:
            del self._asking[number]
            if timer.active():
                timer.cancel()
            return parts

        return asking.all.addCallback(end)

    def _own_figures(self) -> Figures:
        return {**self._figures(), **self._told_of_workers()}

    def _told_of_workers(self) -> Figures:
        return {
            "worker": str(self._number),
            "workers": 1,
            "worker_restarts": self._restarts,
        }

    def _send(self, to: int, message: Question | Answer) -> None:
        try:
            self._outboxes[to].send(encode(message))
        except OSError as e:
            self.log.warn(
                "worker {to} cannot be told something: {reason}", to=to, reason=e
            )


class _Asking:
    """Figures that are being gathered."""

    def __init__(self, others: int, own: Figures) -> None:
        self.all: Deferred[list[Figures]] = Deferred(lambda _: self.end())
        self._others = others
        self._parts = [own]

    def answered(self, figures: Figures) -> None:
        """One of the others has answered."""
        self._parts.append(figures)
        if len(self._parts) > self._others:
            self.end()

    def end(self) -> None:
        """Wait for no more."""
        if not self.all.called:
            self.all.callback(self._parts)


def _host_and_port(transport: ITransport) -> tuple[str, int] | None:
    """The far end of a connection, None behind a UNIX socket."""
    peer: Any = plain_peer(transport.getPeer())
    return (peer.host, peer.port) if hasattr(peer, "host") else None
