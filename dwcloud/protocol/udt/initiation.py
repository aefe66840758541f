"""How a connection that we start comes up: client and rendezvous (docs/protocol/udt).

Both repeat one handshake until the answer changes it. They tell the connection what
an answer means and leave timers and sending to it.
"""

from __future__ import annotations

import enum

import attrs

from dwcloud.protocol.udt.configuration import MINIMUM_PACKET_SIZE
from dwcloud.protocol.udt.early_data import EarlyWrites
from dwcloud.protocol.udt.handshake import VERSION, Handshake, RequestType
from dwcloud.protocol.udt.packets import HandshakePacket

__all__ = ["ClientInitiation", "Outcome", "RendezvousInitiation", "is_acceptable"]

_COOKIE_PATIENCE = 0.75
_SHORT_OF = 0.001


class Outcome(enum.Enum):
    """What a received handshake meant."""

    IGNORED = "nothing"
    ANSWERED = "our next handshake is to be sent at once"
    ESTABLISHED = "the connection is up"
    REJECTED = "the peer does not want it"


def is_acceptable(handshake: Handshake) -> bool:
    """Tell whether a peer's id, packet size and window can be worked with."""
    return (
        0 < handshake.socket_id < 1 << 31
        and handshake.initial_sequence < 1 << 31
        and handshake.maximum_packet_size >= MINIMUM_PACKET_SIZE
        and handshake.flow_window_packets >= 2
    )


class ClientInitiation:
    """The client's side of the handshake with a listener (docs/protocol/udt).

    :param own: the first request.
    :param cookie: one that the listener gave out before, None without; it takes the
        place of the first request.
    :param early: whether to send with the conclusion what was written by then.
    :ivar peer: the listener's response, once received.
    :ivar writes: what is written before that.
    """

    def __init__(
        self, own: Handshake, cookie: int | None = None, *, early: bool = False
    ) -> None:
        self.own = own
        self.peer: Handshake | None = None
        self.writes = EarlyWrites()
        self._early = early
        self._cookie = cookie
        self._concluding_since: float | None = None
        self._cookie_known = cookie is not None

    @property
    def concluding(self) -> bool:
        """Whether a cookie has been received and is being returned."""
        return self._cookie_known or self._concluding_since is not None

    def packets(self, now: float) -> list[bytes]:
        """Return the handshake to send now, in several packets with early data."""
        handshake = self._handshake(now)
        offered = [b""]
        if self._early and self.concluding:
            offered = self.writes.offer()
        return [
            HandshakePacket(
                destination_id=0, handshake=handshake, trailing=trailing
            ).encode()
            for trailing in offered
        ]

    def _handshake(self, now: float) -> Handshake:
        """Return what to say now.

        A conclusion that stays unanswered has perhaps an outdated cookie, which the
        reference library's listener passes over in silence: then a new one is asked
        for.
        """
        if self._cookie_known:
            # [udt:known-cookie]
            self._cookie_known = False
            self._concluding_since = now
        since = self._concluding_since
        # [udt:cookie-age]
        if since is not None and now - since > _COOKIE_PATIENCE - _SHORT_OF:
            self._concluding_since = None
        if self._concluding_since is None:
            return self.own
        return attrs.evolve(
            self.own, request_type=RequestType.CONCLUSION, cookie=self._cookie or 0
        )

    def received(self, handshake: Handshake, now: float) -> Outcome:
        """Take a handshake that came from the listener's address to our id."""
        request_type = handshake.request_type
        if request_type == RequestType.REQUEST:
            # Only the cookie counts; an SRT listener fills in other things of its own.
            if self.concluding and handshake.cookie == self._cookie:
                return Outcome.IGNORED
            self._cookie = handshake.cookie
            self._concluding_since = now
            return Outcome.ANSWERED
        if request_type > RequestType.REQUEST:
            if handshake.socket_id == self.own.socket_id:
                return Outcome.REJECTED
            return Outcome.IGNORED
        if (
            # [udt:handshake]
            request_type == RequestType.CONCLUSION
            and self._cookie is not None
            and handshake.initial_sequence == self.own.initial_sequence
            and is_acceptable(handshake)
        ):
            self.peer = handshake
            return Outcome.ESTABLISHED
        return Outcome.IGNORED


class RendezvousInitiation:
    """One side of a rendezvous (docs/protocol/udt).

    The id of the peer that was learnt first is kept: handshakes from the same address
    with another one belong to another connection.

    :param own: the opening handshake.
    :ivar peer: the peer's handshake, once received.
    :ivar writes: what is written before the connection is up.
    """

    def __init__(self, own: Handshake) -> None:
        self.own = own
        self.writes = EarlyWrites()
        self.peer: Handshake | None = None

    @property
    def concluding(self) -> bool:
        """Whether the peer has been heard."""
        return self.peer is not None

    def packet(self, now: float) -> bytes:
        """Return the handshake to send now."""
        if self.peer is None:
            return HandshakePacket(destination_id=0, handshake=self.own).encode()
        return self._to_peer(RequestType.CONCLUSION, self.peer)

    def packets(self, now: float) -> list[bytes]:
        """Return the same in a list."""
        return [self.packet(now)]

    def agreement(self) -> bytes:
        """Return the packet that tells the peer that we are up."""
        assert self.peer is not None
        return self._to_peer(RequestType.AGREEMENT, self.peer)

    def _to_peer(self, request_type: RequestType, peer: Handshake) -> bytes:
        handshake = attrs.evolve(self.own, request_type=request_type)
        packet = HandshakePacket(destination_id=peer.socket_id, handshake=handshake)
        return packet.encode()

    # [udt:rendezvous-peer]
    def is_from_peer(self, handshake: Handshake) -> bool:
        """Tell whether a handshake comes from the peer learnt first, if any."""
        return self.peer is None or (
            handshake.socket_id == self.peer.socket_id
            and handshake.initial_sequence == self.peer.initial_sequence
        )

    def received(self, handshake: Handshake, now: float) -> Outcome:
        """Take a handshake that came from the peer's address."""
        request_type = handshake.request_type
        if request_type > RequestType.REQUEST:
            if handshake.socket_id == self.own.socket_id:
                return Outcome.REJECTED
            return Outcome.IGNORED
        if not self.is_from_peer(handshake):
            return Outcome.IGNORED
        # [udt:rendezvous]
        if request_type == RequestType.AGREEMENT:
            # The reference library puts version 0 and type 0 into it.
            return Outcome.ESTABLISHED if self.peer is not None else Outcome.IGNORED
        if (
            request_type not in (RequestType.RENDEZVOUS, RequestType.CONCLUSION)
            or handshake.version != VERSION
            or handshake.socket_type != self.own.socket_type
            or not is_acceptable(handshake)
        ):
            return Outcome.IGNORED
        self.peer = handshake
        if request_type == RequestType.CONCLUSION:
            return Outcome.ESTABLISHED
        return Outcome.ANSWERED
