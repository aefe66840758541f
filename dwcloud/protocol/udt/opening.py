"""A handshake in progress: its repetitions, its time limit, and early packets."""

from __future__ import annotations

from dwcloud.protocol.udt.configuration import Configuration
from dwcloud.protocol.udt.handshake import Handshake, RequestType
from dwcloud.protocol.udt.initiation import (
    ClientInitiation,
    Outcome,
    RendezvousInitiation,
)
from dwcloud.protocol.udt.states import State

__all__ = ["Opening"]

_EARLY_PACKETS = 64
_EPSILON = 1e-6
_IMPATIENCE = 1.0
"""Seconds in which a rendezvous asks often although nothing was heard."""
_MOST_PATIENT = 4.0
"""Times the first interval after that, which doubles up to there."""


class Opening:
    """Drives an initiation for its connection, and answers for it afterwards.

    :param control: where packets to send are put.
    :ivar early: packets that overtook the last handshake.
    """

    def __init__(
        self,
        initiation: ClientInitiation | RendezvousInitiation,
        configuration: Configuration,
        control: list[bytes],
        now: float,
    ) -> None:
        self._initiation = initiation
        self._control = control
        self._interval = configuration.handshake_interval
        self._patient_interval = configuration.rendezvous_interval
        self._longest_interval = _MOST_PATIENT * configuration.rendezvous_interval
        self._patient_from = now + _IMPATIENCE
        self._repeat_at = now
        self._give_up_at = now + (
            configuration.connect_timeout
            if isinstance(initiation, ClientInitiation)
            else configuration.rendezvous_timeout
        )
        self.early: list[bytes] = []

    @property
    def is_client(self) -> bool:
        """Whether this is the client of a listener."""
        return isinstance(self._initiation, ClientInitiation)

    @property
    def peer(self) -> Handshake | None:
        """What the peer has said of itself, if it has."""
        return self._initiation.peer

    @property
    def state(self) -> State:
        """The state of the connection while this goes on."""
        concluding = self._initiation.concluding
        if self.is_client:
            return State.CONCLUDING if concluding else State.REQUESTING
        return State.AGREEING if concluding else State.MEETING

    def handshake_received(self, handshake: Handshake, now: float) -> Outcome:
        """Take a handshake and send what it asks for."""
        initiation = self._initiation
        was_concluding = initiation.concluding
        outcome = initiation.received(handshake, now)
        if outcome is Outcome.ANSWERED:
            self._send(now)
        elif outcome is Outcome.ESTABLISHED and isinstance(
            initiation, RendezvousInitiation
        ):
            if not was_concluding:
                self._control.append(initiation.packet(now))
            # [udt:rendezvous-agreement]
            if handshake.request_type == RequestType.CONCLUSION:
                # Unasked: the reference library would otherwise have to ask again,
                # 250 ms later.
                self._control.append(initiation.agreement())
        return outcome

    def late_handshake_received(self, handshake: Handshake) -> None:
        """Answer a peer that has not noticed yet that we are up."""
        initiation = self._initiation
        if (
            isinstance(initiation, RendezvousInitiation)
            and initiation.is_from_peer(handshake)
            and handshake.request_type
            in (RequestType.RENDEZVOUS, RequestType.CONCLUSION)
        ):
            self._control.append(initiation.agreement())

    def packet_received(self, data: bytes) -> Outcome:
        """Take a packet that is no handshake, and keep it for later."""
        if not self.is_client:
            # Whoever sends such has agreed; before a first handshake it is a stranger.
            if self.peer is None:
                return Outcome.IGNORED
            self.early.append(data)
            return Outcome.ESTABLISHED
        # [udt:early-packets]
        if len(self.early) < _EARLY_PACKETS:
            self.early.append(data)
        return Outcome.IGNORED

    def handle_timer(self, now: float) -> bool:
        """Repeat the handshake if it is time; return False when time is over."""
        if now >= self._give_up_at - _EPSILON:
            return False
        if now >= self._repeat_at - _EPSILON:
            self._send(now)
        return True

    def _send(self, now: float) -> None:
        self._control += self._initiation.packets(now)
        unheard = not self.is_client and self.peer is None
        if unheard and now >= self._patient_from - _EPSILON:
            self._repeat_at = now + self._patient_interval
            self._patient_interval = min(
                2.0 * self._patient_interval, self._longest_interval
            )
        else:
            self._repeat_at = now + self._interval

    def next_time(self) -> float:
        """When to call :meth:`handle_timer`, in seconds."""
        return min(self._repeat_at, self._give_up_at)
