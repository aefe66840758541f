"""One UDT connection: its states, and what joins its two halves.

A connection is driven by received packets, by its timer and by the program's calls;
the multiplexer it belongs to passes all three on and collects the packets to send.
"""

from __future__ import annotations

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.udt.early_data import EarlyWrites
from dwcloud.protocol.udt.events import (
    CloseReason,
    Connected,
    ConnectionClosed,
    DataAvailable,
    IncomingConnection,
    SendBufferLow,
)
from dwcloud.protocol.udt.farewell import Farewell
from dwcloud.protocol.udt.halves import make_halves, packet_size_limit
from dwcloud.protocol.udt.handshake import Handshake
from dwcloud.protocol.udt.initiation import (
    ClientInitiation,
    Outcome,
    RendezvousInitiation,
)
from dwcloud.protocol.udt.introduction import Introduction
from dwcloud.protocol.udt.liveness import Liveness
from dwcloud.protocol.udt.opening import Opening
from dwcloud.protocol.udt.packets import (
    HEADER_SIZE,
    PROGRESS_MARK,
    Ack,
    Ack2,
    HandshakePacket,
    KeepAlive,
    Nak,
    Packet,
    Shutdown,
    decode,
)
from dwcloud.protocol.udt.path_mtu import PathMTU
from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sending import Sender
from dwcloud.protocol.udt.states import FLOWING, INITIATING, TRANSITIONS, State
from dwcloud.protocol.udt.statistics import Statistics
from dwcloud.protocol.udt.surroundings import Surroundings
from dwcloud.protocol.udt.trace import TraceEvent
from dwcloud.protocol.udt.transmit import Transmit

__all__ = ["Connection", "State", "Statistics"]

_LATE_ACK_TIME = 1.0
_OFFENCES = 100
_EPSILON = 1e-6


class Connection:
    """One connection; made by a multiplexer, never directly.

    :ivar socket_id: our id on the wire.
    :ivar peer_address: host and port of the peer; it never changes.
    :ivar state: where it stands.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        own: Handshake,
        peer_address: tuple[str, int],
        *,
        now: float,
    ) -> None:
        self._surroundings = surroundings
        self._configuration = surroundings.configuration
        self._own = own
        self.socket_id = own.socket_id
        self.peer_address = peer_address
        self.state = State.REQUESTING
        self._opened_at = now
        self._opening: Opening | None = None
        self._introduction: Introduction | None = None
        self._rtt = RTTEstimator()
        self._sender: Sender | None = None
        self._receiver: Receiver | None = None
        self._path: PathMTU | None = None
        self._peer: Handshake | None = None
        self._writes = EarlyWrites()
        self._control: list[bytes] = []
        self._data_announced = False
        self._above_limit = False
        self._closed_here = False
        self._reason = CloseReason.LOCAL
        self._detail = ""
        self._liveness = Liveness(
            self._configuration.keep_alive_interval, self._rtt, now
        )
        self._data_not_before = now
        self._linger_until: float | None = None
        self._farewell: Farewell | None = None

    # What the program uses

    @property
    def send_buffer_limit(self) -> int:
        """Bytes above which the program should stop writing."""
        return self._configuration.limit_with(self._unacknowledged_bytes)

    @property
    def send_buffer_low_water(self) -> int:
        """Bytes at which a program that stopped is told to go on."""
        return self._configuration.low_water_with(self._unacknowledged_bytes)

    @property
    def _unacknowledged_bytes(self) -> int:
        return 0 if self._sender is None else self._sender.buffer.unacknowledged_bytes

    @property
    def send_buffer_bytes(self) -> int:
        """Bytes written but not yet acknowledged by the peer."""
        if self._sender is None:
            return len(self._writes)
        return self._sender.bytes_pending

    @property
    def readable_bytes(self) -> int:
        """Bytes that :meth:`read` can return."""
        return 0 if self._receiver is None else self._receiver.buffer.readable_bytes

    @property
    def statistics(self) -> Statistics:
        """Measurements so far."""
        return Statistics.take(self._rtt, self._sender, self._receiver)

    def write(self, data: bytes, *, now: float) -> None:
        """Queue bytes for the peer; to heed the limit is the caller's affair.

        Before the connection is up they wait; when the peer has ended it they are
        dropped, as the event that tells so may not have been seen yet.

        :raises LocalProtocolError: after :meth:`close`.
        """
        if self.state in INITIATING:
            self._writes.append(bytes(data))
        elif self._may_write():
            assert self._sender is not None
            self._sender.buffer.append(bytes(data))
            self._written()

    def _may_write(self) -> bool:
        """Tell whether data are taken; if not they are to be dropped in silence."""
        if self.state is State.CONNECTED:
            return True
        if self.state is not State.DRAINING and self._reason is CloseReason.LOCAL:
            raise LocalProtocolError("write after close")
        return False

    def _written(self) -> None:
        if self.send_buffer_bytes >= self.send_buffer_limit:
            self._above_limit = True
        self._surroundings.wake(self)

    def read(self, limit: int | None = None) -> bytes:
        """Take up to ``limit`` received bytes, all of them by default."""
        if self._receiver is None:
            return b""
        self._data_announced = False
        data = self._receiver.read(limit)
        self._was_read()
        return data

    def _was_read(self) -> None:
        if self.state in FLOWING or self.state is State.DRAINING:
            self._surroundings.wake(self)
            self._finish_draining(late=False)

    def close(self, *, now: float) -> None:
        """Send what was written, wait for its acknowledgement, then shut down."""
        if self.state in INITIATING:
            self._leave(CloseReason.LOCAL, "closed before it was up", now)
        elif self.state is State.CONNECTED:
            self._enter(State.LINGERING, now)
            self._linger_until = now + self._configuration.linger  # [udt:linger]
            self._finish_lingering(now)
        elif self.state is State.DRAINING:
            self._end()
        self._surroundings.wake(self)

    def abort(self, *, now: float) -> None:
        """Shut down at once and drop what was written and not read."""
        if self.state in INITIATING or self.state in FLOWING:
            self._leave(CloseReason.ABORTED, "", now)
        elif self.state is State.DRAINING:
            self._end()
        self._surroundings.wake(self)

    # How it comes up; for the multiplexer

    def initiate(
        self, initiation: ClientInitiation | RendezvousInitiation, now: float
    ) -> None:
        """Start the handshake as client or as one side of a rendezvous."""
        self._opening = Opening(initiation, self._configuration, self._control, now)
        self._writes = initiation.writes
        self.state = self._opening.state

    def accept(
        self, response: bytes, peer: Handshake, now: float, early: bytes
    ) -> None:
        """Be up as the listener's end of a connection.

        :param early: data with the conclusion; its sender can take some at once, too.
        """
        delay = 0.0 if early else self._configuration.first_data_delay
        self._introduction = Introduction(response, delay, now)
        self._control.append(response)
        self._establish(peer, now)
        self._surroundings.emit(IncomingConnection(self))
        if early and self._receiver is not None:
            self._receiver.buffer.put_first(early)
            self._announce_data()

    def repeat_response(self) -> None:
        """Answer the repeated conclusion of the client again."""
        introduction = self._introduction
        if introduction and introduction.response and self.state in FLOWING:
            self._control.append(introduction.response)

    @property
    def peer(self) -> Handshake | None:
        """The handshake by which the connection came up; None before that."""
        return self._peer

    def handshake_received(
        self, handshake: Handshake, now: float, trailing: bytes = b""
    ) -> None:
        """Take a handshake, and what followed it, from the peer's address."""
        opening = self._opening
        if self.state in INITIATING:
            assert opening is not None
            outcome = opening.handshake_received(handshake, now)
            if outcome is Outcome.REJECTED:
                detail = f"rejected with code {handshake.request_type}"
                self._leave(CloseReason.REJECTED, detail, now)
            else:
                self._writes.settle(trailing)
                self._open(opening, outcome, now)
        elif self.state in FLOWING:
            if opening is not None:
                opening.late_handshake_received(handshake)
            elif handshake.request_type > 0:
                self.repeat_response()

    def _open(self, opening: Opening, outcome: Outcome, now: float) -> None:
        """Follow a handshake to its next state."""
        if outcome is not Outcome.ESTABLISHED:
            if self.state is not opening.state:
                self._enter(opening.state, now)
            return
        assert opening.peer is not None
        self._establish(opening.peer, now)
        self._surroundings.emit(Connected(self))
        early, opening.early = opening.early, []
        for data in early:
            self.datagrams_received(data, 0, len(data), now)

    def _establish(self, peer: Handshake, now: float) -> None:
        configuration = self._configuration
        self._peer = peer
        self._sender, self._receiver = make_halves(
            configuration,
            self._own,
            peer,
            rtt=self._rtt,
            random=self._surroundings.random,
            opened_at=self._opened_at,
        )
        self._liveness.restart(now)
        if self._opening is not None and not self._opening.is_client:
            # [udt:ready-peer]
            delay = 0.0 if peer.cookie else configuration.first_data_delay
            self._introduction = Introduction(None, delay, now)
        if self._introduction is not None:
            self._data_not_before = self._introduction.data_not_before
        self._path = PathMTU(
            packet_size_limit(self._own, peer, self.peer_address[0]),
            self._sender,
            self._receiver,
            self._rtt,
            enabled=configuration.path_mtu_discovery,
            start=max(now, self._data_not_before),
        )
        for data in self._writes.take():
            self._sender.buffer.append(data)
        self._above_limit = self._sender.bytes_pending >= self.send_buffer_limit
        if self.state is not State.CONNECTED:
            self._enter(State.CONNECTED, now)

    # Packets in; for the multiplexer

    def datagrams_received(
        self, data: bytes | memoryview, start: int, size: int, now: float
    ) -> int:
        """Take datagrams of ``size`` bytes from ``start``; the last may be shorter.

        The first is known to be for us. Returns where the first one begins that is not.
        """
        offset, total = start, len(data)
        receiver = self._receiver
        self._liveness.received(now)
        while offset < total:
            end = min(offset + size, total)
            if end - offset < HEADER_SIZE or (
                offset > start
                and int.from_bytes(data[offset + 12 : offset + 16]) != self.socket_id
            ):
                break
            if data[offset] & 0x80:
                self._control_received(bytes(data[offset:end]), now)
                receiver = self._receiver
            elif receiver is not None and self.state in FLOWING:
                if total - offset >= 2 * size:
                    taken = receiver.run_received(data, offset, size, now)
                    if taken:
                        offset += taken
                        continue
                receiver.packet_received(data, offset, end, now)
            elif self.state in INITIATING:
                self._early_packet_received(bytes(data[offset:end]), now)
                receiver = self._receiver
            offset = end
        self._announce_data()
        return offset

    def _announce_data(self) -> None:
        if self.readable_bytes and not self._data_announced:
            self._data_announced = True
            self._surroundings.emit(DataAvailable(self))

    def _early_packet_received(self, data: bytes, now: float) -> None:
        """Take a packet that overtook the last handshake."""
        opening = self._opening
        assert opening is not None
        self._open(opening, opening.packet_received(data), now)

    def _control_received(self, data: bytes, now: float) -> None:
        try:
            packet = decode(data)
        except RemoteProtocolError as error:
            self._trace(now, "packet_ignored", reason=str(error))
            return
        if isinstance(packet, HandshakePacket):
            self.handshake_received(packet.handshake, now, packet.trailing)
        elif self.state in INITIATING:
            if isinstance(packet, Shutdown):
                # The peer gave up before we were up; it may come back in our time.
                self._trace(now, "packet_ignored", reason="shutdown before we are up")
            else:
                self._early_packet_received(data, now)
        elif self.state in FLOWING:
            self._flow_control_received(packet, now)
        elif self.state is State.DRAINING and isinstance(packet, Ack):
            self._ack_received(packet, now)
            self._finish_draining(late=False)

    def _flow_control_received(self, packet: Packet, now: float) -> None:
        sender, receiver = self._sender, self._receiver
        assert sender is not None and receiver is not None
        match packet:
            case Ack():
                self._ack_received(packet, now)
            case Ack2():
                receiver.ack2_received(packet.ack_number, now)
                receiver.reports_progress = packet.padding == PROGRESS_MARK
                if self._path is not None:
                    self._path.ack2_received(packet.ack_number)
            case Nak():
                if not sender.nak_received(packet, now):
                    self._offended(now)
                self._tell_of_room()
            case Shutdown():
                self._drain(CloseReason.PEER_SHUTDOWN, "", now)
            case _:
                self._other_received(packet, now)

    def _other_received(self, packet: Packet, now: float) -> None:
        """Take a keep-alive or what we do not know: signs of life, no more."""

    def _ack_received(self, ack: Ack, now: float) -> None:
        sender = self._sender
        assert sender is not None
        if not sender.ack_received(ack, now):
            self._offended(now)
            return
        if not ack.light and self.state is not State.DRAINING:
            self._send_to_peer(
                Ack2(
                    destination_id=self._peer_id,
                    ack_number=ack.ack_number,
                    padding=sender.ack2_body,
                )
            )
        self._tell_of_room()
        self._finish_lingering(now)

    def _tell_of_room(self) -> None:
        """Let the program write again when little is left to send."""
        if self._above_limit and self.send_buffer_bytes <= self.send_buffer_low_water:
            self._above_limit = False
            if self.state is State.CONNECTED:
                self._surroundings.emit(SendBufferLow(self))

    def _offended(self, now: float) -> None:
        """An ACK or NAK named packets that were never sent."""
        sender = self._sender
        assert sender is not None
        self._trace(now, "packet_ignored", reason="beyond what was sent")
        if sender.offences >= _OFFENCES and self.state in FLOWING:  # [udt:offences]
            detail = "the peer acknowledged or missed packets that were never sent"
            self._drain(CloseReason.PROTOCOL_ERROR, detail, now)

    # How it ends

    def _enter(self, state: State, now: float) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.state} cannot become {state}")
        self._trace(now, "state_entered", before=self.state.name, after=state.name)
        self.state = state

    def _finish_lingering(self, now: float) -> None:
        if self.state is State.LINGERING and self._sender and self._sender.is_done:
            self._shut_down(CloseReason.LOCAL, "", now)

    def _leave(self, reason: CloseReason, detail: str, now: float) -> None:
        """End from our side without waiting for anything."""
        if self.state in FLOWING or (
            self.state is State.AGREEING and reason is not CloseReason.REJECTED
        ):
            self._shut_down(reason, detail, now)
            return
        self._reason, self._detail = reason, detail
        self._end()

    def _shut_down(self, reason: CloseReason, detail: str, now: float) -> None:
        self._reason, self._detail = reason, detail
        if self._receiver is not None:
            # So that the peer does not take what we have got for undelivered.
            ack = self._receiver.final_ack(now)
            if ack is not None:
                self._control.append(ack)
        self._enter(State.CLOSING, now)
        shutdown = Shutdown(destination_id=self._peer_id).encode()
        repetitions = self._configuration.shutdown_repetitions
        self._farewell = Farewell(shutdown, repetitions, now)
        self._farewell.handle_timer(self._control, now)
        self._surroundings.emit(ConnectionClosed(self, reason, detail))

    def _drain(self, reason: CloseReason, detail: str, now: float) -> None:
        """The peer ended it: let the program read first, and late ACKs come in."""
        assert self._sender is not None and self._receiver is not None
        self._reason, self._detail = reason, detail
        self._receiver.buffer.discard()  # [udt:drain]
        self._announce_data()
        self._closed_here = self.state is State.LINGERING
        self._enter(State.DRAINING, now)
        late = (
            reason is not CloseReason.PEER_SHUTDOWN or self._sender.is_done
        )  # [udt:late-acks]
        self._linger_until = None if late else now + _LATE_ACK_TIME
        self._finish_draining(late=False)

    def _finish_draining(self, *, late: bool) -> None:
        if self.state is not State.DRAINING or self._sender is None:
            return
        if late or self._sender.is_done:
            self._linger_until = None
        if self._linger_until is not None:
            return
        # A program that has closed may read, but need not.
        if self.readable_bytes and not self._closed_here:
            return
        if not self._detail and not self._sender.is_done:
            pending = self._sender.bytes_pending
            self._detail = f"{pending} bytes were not acknowledged"
        self._end()

    def _end(self) -> None:
        self._enter(State.CLOSED, self._liveness.last_received)
        self._surroundings.emit(ConnectionClosed(self, self._reason, self._detail))
        self._surroundings.wake(self)

    # Packets out and time; for the multiplexer

    @property
    def _peer_id(self) -> int:
        if self._peer is not None:
            return self._peer.socket_id
        if self._opening is not None and self._opening.peer is not None:
            return self._opening.peer.socket_id
        return 0

    def _send_to_peer(self, packet: Packet) -> None:
        self._control.append(packet.encode())

    def datagrams_to_send(self, now: float) -> list[Transmit]:
        """Return what is to be sent now."""
        address = self.peer_address
        flowing = self.state in FLOWING
        if flowing and self._receiver is not None:
            self._control += self._receiver.control_to_send(now)
        output = [Transmit(address, packet) for packet in self._control]
        self._control.clear()
        if flowing and self._sender and now >= self._data_not_before - _EPSILON:
            for wire, size in self._sender.packets_to_send(now):
                segment_size = size if len(wire) > size else None
                output.append(Transmit(address, wire, segment_size))
            self._tell_of_room()
        if output:
            self._liveness.sent(now)
        return output

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if self.state in INITIATING:
            self._initiation_timer(now)
        elif self.state in FLOWING:
            self._flow_timer(now)
        elif self.state is State.DRAINING:
            if self._linger_until is not None and now >= self._linger_until - _EPSILON:
                self._finish_draining(late=True)
        elif self.state is State.CLOSING and self._farewell is not None:
            self._farewell.handle_timer(self._control, now)
            if self._farewell.is_over:
                self._enter(State.CLOSED, now)

    def _initiation_timer(self, now: float) -> None:
        assert self._opening is not None
        if not self._opening.handle_timer(now):
            self._leave(CloseReason.TIMED_OUT, "no answer to the handshake", now)
        elif self._opening.state is not self.state:
            self._enter(self._opening.state, now)

    def _flow_timer(self, now: float) -> None:
        sender = self._sender
        assert sender is not None
        silence = now - self._liveness.last_received
        if silence >= self._configuration.silence_limit - _EPSILON:  # [udt:half-open]
            detail = f"nothing received for {silence:.0f} s"
            self._drain(CloseReason.BROKEN, detail, now)
            return
        if self._linger_until is not None and now >= self._linger_until - _EPSILON:
            detail = f"{sender.bytes_pending} bytes were not acknowledged in time"
            self._leave(CloseReason.ABORTED, detail, now)
            return
        keep_alive = sender.handle_timer(now)
        if self._path is not None:
            self._control += self._path.handle_timer(now)
            if self._path.is_blocked():
                detail = "packets of the size in use do not pass the path any more"
                self._drain(CloseReason.BROKEN, detail, now)
                return
        introduction, heard = self._introduction, self._liveness.heard
        if introduction is not None:
            keep_alive |= introduction.handle_timer(self._control, heard, now)
        if now >= self._liveness.keep_alive_at - _EPSILON:
            self._liveness.keep_alive_due()
            keep_alive = True
        if keep_alive:
            self._send_to_peer(KeepAlive(destination_id=self._peer_id))

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` or :meth:`datagrams_to_send` has something."""
        if self.state in INITIATING:
            assert self._opening is not None
            return self._opening.next_time()
        times: list[float | None]
        if self.state in FLOWING:
            assert self._sender is not None and self._receiver is not None
            times = [
                self._sender.next_time(self._data_not_before),
                self._receiver.next_time(),
                self._introduction.next_time if self._introduction else None,
                self._linger_until,
                self._path.next_time if self._path is not None else None,
                self._liveness.keep_alive_at,
                self._liveness.last_received + self._configuration.silence_limit,
            ]
        elif self.state is State.DRAINING:
            times = [self._linger_until]
        else:
            times = [self._farewell.next_time if self._farewell else None]
        return min((at for at in times if at is not None), default=None)

    def _trace(self, now: float, name: str, **fields: object) -> None:
        trace = self._surroundings.trace
        if trace is not None:
            trace(TraceEvent(now, name, self.socket_id, fields))
